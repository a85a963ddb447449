"""A small world for the tests of words: an encoder of texts by hash, and a WordNet of a few synsets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

HEADER = "  1 This software and database is provided ...\n  2 WordNet 3.0 Copyright 2006 by Princeton University.  \n"
NOUNS = """\
00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that which is
00004475 03 n 02 organism 0 being 0 001 ~ 00001930 n 0000 | a living thing
02084071 05 n 02 dog 0 Canis_familiaris 0 001 @ 00001740 n 0000 | a dog
07555863 13 n 01 solid_food 0 001 @ 00001740 n 0000 | food
02898711 06 n 02 Golden_Gate_Bridge 0 bridge 0 001 @ 00001740 n 0000 | a bridge
07942152 14 n 01 people 0 001 @ 00001740 n 0000 | persons
04960277 07 n 01 orange 0 001 @ 00001740 n 0000 | a colour
"""
ADJECTIVES = """\
00014358 00 s 02 galore(ip) 0 abounding 0 001 & 00013887 a 0000 | existing in abundance
00019731 00 s 01 ready_to_hand(p) 0 001 & 00019131 a 0000 | easy to reach
00020103 00 s 02 outback(a) 0 remote 0 001 & 00019874 a 0000 | inaccessible
00370869 00 s 01 orange 0 001 & 00369941 a 0000 | of the colour
02600000 01 a 01 thermal 0 001 \\ 00000001 n 0000 | of heat
01796000 44 a 01 broken 0 001 ! 00000002 a 0101 | not whole
"""


@dataclass
class FakeReference:
    """Embeds each text at random, seeded by the text; `weights` stands for a state of the text tower."""

    class_names: Sequence[str]
    weights: str = "w0"
    dim: int = 32
    asked: list[str] = field(default_factory=list)

    @property
    def prototypes(self) -> Tensor:
        return self.encode_text(self.class_names)

    def identity(self) -> dict[str, object]:
        return {"name": "fake", "weights_sha256": self.weights}

    def encode_text(self, texts: Sequence[str], normalise: bool = True) -> Tensor:
        self.asked += texts
        raw = torch.stack([self._one(text) for text in texts])
        return normalize(raw, dim=-1) if normalise else raw

    def _one(self, text: str) -> Tensor:
        seed = int.from_bytes(hashlib.sha256(f"{self.weights}|{text}".encode()).digest()[:7], "big")
        return torch.randn(self.dim, generator=torch.Generator().manual_seed(seed))


def write_wordnet(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.noun").write_text(HEADER + NOUNS)
    (folder / "data.adj").write_text(HEADER + ADJECTIVES)
    return folder
