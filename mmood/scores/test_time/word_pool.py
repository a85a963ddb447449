"""The words of a corpus that are no negatives yet."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.scores.base import Reference
from mmood.words.lists import NegativeList
from mmood.words.miner import NegativeMiner
from mmood.words.mining import candidate_words


def other_words(miner: NegativeMiner, negatives: NegativeList, reference: Reference) -> Float[Tensor, "words dim"]:
    """Return the embeddings of the words that could have been mined, without those in the list.

    Nouns come first, each kind in the order of the corpus and in the miner's prompts.

    Raises:
        MmoodError: the corpus cannot be read.
    """
    known = set(negatives.words)
    parts = []
    for kind, words in candidate_words(miner, reference.class_names).items():
        rest = [word for word in words if word not in known]
        if rest:
            templates = miner.templates.of(kind)
            parts.append(reference.encode_words(rest, templates, miner.templates.normalise_first))
    return torch.cat(parts) if parts else negatives.embed(reference.encode_text)[:0]
