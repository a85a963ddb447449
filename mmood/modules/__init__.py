"""The LightningModules: one abstract detector, one final class per way of making logits."""

from mmood.modules.base import AbstractDetector
from mmood.modules.evaluated import Evaluated, Scored
from mmood.modules.fine_tuning.alignment import AlignmentFineTune
from mmood.modules.fine_tuning.cross_entropy import CrossEntropyFineTune
from mmood.modules.fine_tuning.multi_scale import MultiScale
from mmood.modules.probes.linear import LinearProbe
from mmood.modules.probes.pseudo_label import PseudoLabelProbe
from mmood.modules.prompt_learning import PromptLearning
from mmood.modules.zero_shot import ZeroShot

__all__ = [
    "AbstractDetector",
    "AlignmentFineTune",
    "CrossEntropyFineTune",
    "Evaluated",
    "LinearProbe",
    "MultiScale",
    "PromptLearning",
    "PseudoLabelProbe",
    "Scored",
    "ZeroShot",
]
