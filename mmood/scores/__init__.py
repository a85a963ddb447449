"""OoD scores: pure functions in `functional*`, one module of thin classes per family."""

from mmood.scores.base import AbstractScore, Bank, Embedded, Reference
from mmood.scores.logits import GEN, MCM, Energy, Entropy, Margin, MaxLogit, SoftmaxVariance
from mmood.scores.negatives import CSP, EOE, NegLabel

__all__ = [
    "CSP",
    "EOE",
    "GEN",
    "MCM",
    "AbstractScore",
    "Bank",
    "Embedded",
    "Energy",
    "Entropy",
    "Margin",
    "MaxLogit",
    "NegLabel",
    "Reference",
    "SoftmaxVariance",
]
