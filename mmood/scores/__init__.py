"""OoD scores: pure functions in `functional*`, thin classes in one module per family."""

from mmood.scores.activations import ASH, SCALE, ReAct
from mmood.scores.base import AbstractScore, Bank, Embedded, Reference
from mmood.scores.calibrated import L1Norm
from mmood.scores.gaussian import Mahalanobis, RelativeMahalanobis
from mmood.scores.learned import GMP, IDLikeScore, LocalPromptScore, NegPromptScore
from mmood.scores.local import GLMCM, LMCM, AbstractLocalScore
from mmood.scores.logits import GEN, MCM, Energy, Entropy, Margin, MaxLogit, SoftmaxVariance
from mmood.scores.mixtures import MMP, COOkeD
from mmood.scores.negatives import CSP, EOE, NegLabel
from mmood.scores.neighbours import KNN, NNGuide
from mmood.scores.patterns import SHE, KLMatching
from mmood.scores.scales import CSD, CrossScaleKNN
from mmood.scores.sigmoid import NoisyOr, SigmoidMax
from mmood.scores.subspace import Residual, ViM
from mmood.scores.test_time import ANTS, TANL, TINS, AdaNeg, CoEvo, InterNeg

__all__ = [
    "ANTS",
    "ASH",
    "CSD",
    "CSP",
    "EOE",
    "GEN",
    "GLMCM",
    "GMP",
    "KNN",
    "LMCM",
    "MCM",
    "MMP",
    "SCALE",
    "SHE",
    "TANL",
    "TINS",
    "AbstractLocalScore",
    "AbstractScore",
    "AdaNeg",
    "Bank",
    "COOkeD",
    "CoEvo",
    "CrossScaleKNN",
    "Embedded",
    "Energy",
    "Entropy",
    "IDLikeScore",
    "InterNeg",
    "KLMatching",
    "L1Norm",
    "LocalPromptScore",
    "Mahalanobis",
    "Margin",
    "MaxLogit",
    "NNGuide",
    "NegLabel",
    "NegPromptScore",
    "NoisyOr",
    "ReAct",
    "Reference",
    "RelativeMahalanobis",
    "Residual",
    "SigmoidMax",
    "SoftmaxVariance",
    "ViM",
]
