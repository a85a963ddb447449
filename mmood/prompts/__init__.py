"""Learned prompts: context vectors around class names, and the folder of kilobytes that they are kept in."""

from mmood.prompts.family import Pairing, PromptFamily
from mmood.prompts.folder import LEARNED, load_prompts, save_prompts
from mmood.prompts.learned import LearnedPrompts, Role
from mmood.prompts.tokens import PromptTokens, encode_prompts, phrase_embeddings, prompt_tokens

__all__ = [
    "LEARNED",
    "LearnedPrompts",
    "Pairing",
    "PromptFamily",
    "PromptTokens",
    "Role",
    "encode_prompts",
    "load_prompts",
    "phrase_embeddings",
    "prompt_tokens",
    "save_prompts",
]
