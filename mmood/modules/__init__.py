"""The LightningModules: one abstract detector, one final class per way of making logits."""

from mmood.modules.base import AbstractDetector, Scored
from mmood.modules.zero_shot import ZeroShot

__all__ = ["AbstractDetector", "Scored", "ZeroShot"]
