"""The LightningModules: one abstract detector, one final class per way of making logits."""

from mmood.modules.alignment import AlignmentFineTune
from mmood.modules.base import AbstractDetector
from mmood.modules.evaluated import Evaluated, Scored
from mmood.modules.fine_tune import CrossEntropyFineTune
from mmood.modules.linear_probe import LinearProbe
from mmood.modules.pseudo_label_probe import PseudoLabelProbe
from mmood.modules.zero_shot import ZeroShot

__all__ = [
    "AbstractDetector",
    "AlignmentFineTune",
    "CrossEntropyFineTune",
    "Evaluated",
    "LinearProbe",
    "PseudoLabelProbe",
    "Scored",
    "ZeroShot",
]
