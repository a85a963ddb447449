"""Prompt learning: one module, and one file for each method."""

from mmood.modules.prompt_learning.coop import CoOp
from mmood.modules.prompt_learning.id_like import IDLike
from mmood.modules.prompt_learning.local_prompt import LocalPrompt
from mmood.modules.prompt_learning.locoop import LoCoOp
from mmood.modules.prompt_learning.method import AbstractPromptMethod
from mmood.modules.prompt_learning.module import PromptLearning
from mmood.modules.prompt_learning.neg_prompt import NegPrompt
from mmood.modules.prompt_learning.pnps import PNPS
from mmood.modules.prompt_learning.sct import SCT
from mmood.modules.prompt_learning.supreme import SUPREME

__all__ = [
    "PNPS",
    "SCT",
    "SUPREME",
    "AbstractPromptMethod",
    "CoOp",
    "IDLike",
    "LoCoOp",
    "LocalPrompt",
    "NegPrompt",
    "PromptLearning",
]
