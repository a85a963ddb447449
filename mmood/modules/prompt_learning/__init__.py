"""Prompt learning: one module, and one file for each method."""

from mmood.modules.prompt_learning.coop import CoOp
from mmood.modules.prompt_learning.module import PromptLearning

__all__ = ["CoOp", "PromptLearning"]
