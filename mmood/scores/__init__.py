"""OoD scores: pure functions in `functional*`, thin classes in one module per family."""

from mmood.scores.activations import ASH, SCALE, ReAct
from mmood.scores.base import AbstractScore, Bank, Embedded, Reference
from mmood.scores.calibrated import L1Norm
from mmood.scores.gaussian import Mahalanobis, RelativeMahalanobis
from mmood.scores.logits import GEN, MCM, Energy, Entropy, Margin, MaxLogit, SoftmaxVariance
from mmood.scores.negatives import CSP, EOE, NegLabel
from mmood.scores.neighbours import KNN, NNGuide
from mmood.scores.patterns import SHE, KLMatching
from mmood.scores.subspace import Residual, ViM
from mmood.scores.test_time import TANL, TINS, AdaNeg, CoEvo, InterNeg

__all__ = [
    "ASH",
    "CSP",
    "EOE",
    "GEN",
    "KNN",
    "MCM",
    "SCALE",
    "SHE",
    "TANL",
    "TINS",
    "AbstractScore",
    "AdaNeg",
    "Bank",
    "CoEvo",
    "Embedded",
    "Energy",
    "Entropy",
    "InterNeg",
    "KLMatching",
    "L1Norm",
    "Mahalanobis",
    "Margin",
    "MaxLogit",
    "NNGuide",
    "NegLabel",
    "ReAct",
    "Reference",
    "RelativeMahalanobis",
    "Residual",
    "SoftmaxVariance",
    "ViM",
]
