"""OoD scores: pure functions in `functional`, one module of thin classes per family."""

from mmood.scores.base import AbstractScore, Embedded, Reference
from mmood.scores.logits import GEN, MCM, Energy, Entropy, Margin, MaxLogit, SoftmaxVariance

__all__ = [
    "GEN",
    "MCM",
    "AbstractScore",
    "Embedded",
    "Energy",
    "Entropy",
    "Margin",
    "MaxLogit",
    "Reference",
    "SoftmaxVariance",
]
