"""The head of a probe: linear heads on one or several kinds of stored rows, one of them chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmood.encoders import AbstractEncoder, EncodedImages
from mmood.errors import MmoodError
from mmood.features.store import StoredFeatures
from mmood.loading.batch import Batch
from mmood.modules.probes.head import GridSettings, ProbeHead
from mmood.scores.base import LinearHead, Stored

StoredOutputs = Mapping[Stored, Float[Tensor, "images dim"]]
"""Rows of the images of a set, by their kind."""


class Probe(nn.Module):
    """K heads on each kind of rows, one of them all chosen; the first until `choose`.

    Args:
        widths: width of each kind of rows, the order of the heads.
        classes: C.
        heads: K.
        seed: of the heads' start.
    """

    chosen: Int[Tensor, ""]

    def __init__(self, widths: Mapping[Stored, int], classes: int, heads: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.reads: tuple[Stored, ...] = tuple(widths)
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))
        self.spaces = nn.ModuleDict({kind: ProbeHead(width, classes, heads, seed) for kind, width in widths.items()})

    def by_kind(self) -> Iterator[tuple[Stored, ProbeHead]]:
        """Yield the heads on each kind of rows."""
        for kind in self.reads:
            heads = self.spaces[kind]
            assert isinstance(heads, ProbeHead)
            yield kind, heads

    def choice(self) -> tuple[Stored, ProbeHead, int]:
        """Return what the chosen head reads, its group and its number there."""
        groups = list(self.by_kind())
        each = len(groups[0][1].heads)
        group, number = divmod(int(self.chosen), each)
        return *groups[group], number

    def forward(self, encoded: EncodedImages) -> Float[Tensor, "batch classes"]:
        """Return the logits of the chosen head."""
        kind, heads, number = self.choice()
        return heads.logits(_present(encoded.features if kind == "features" else encoded.embedding), number)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Return the mean cross-entropy, summed over all heads."""
        losses = [heads.loss(batch[kind], batch["label"]) for kind, heads in self.by_kind()]
        return torch.stack(losses).sum()

    def linear(self) -> LinearHead:
        """Return the chosen head on rows that are not standardised."""
        kind, heads, number = self.choice()
        return LinearHead(kind, *heads.folded(number))

    def linear_heads(self) -> tuple[LinearHead, ...]:
        """Return the chosen head, then those on other kinds of rows, if there is one on each kind."""
        chosen, groups = self.choice()[0], list(self.by_kind())
        others = [(kind, heads) for kind, heads in groups if kind != chosen and len(heads.heads) == 1]
        return (self.linear(), *(LinearHead(kind, *heads.folded()) for kind, heads in others))

    def outputs(self, store: StoredFeatures) -> StoredOutputs:
        """Return the rows of a set that the heads read."""
        both: dict[Stored, Tensor | None] = {"features": store.features, "embedding": store.embedding}
        return {kind: _present(both[kind]) for kind in self.reads}

    def learn_statistics(self, outputs: StoredOutputs, keys: Int[Tensor, " rows"]) -> None:
        """Take mean and variance over these rows, for each kind."""
        for kind, heads in self.by_kind():
            heads.learn_statistics(outputs[kind], keys)

    def choose(self, outputs: StoredOutputs, keys: Int[Tensor, " rows"], targets: Int[Tensor, " rows"]) -> None:
        """Choose the head that is right on most of these rows; the first of several."""
        right = torch.cat([heads.right(outputs[kind], keys, targets) for kind, heads in self.by_kind()])
        self.chosen.fill_(int(right.argmax()))


def build_probe(encoder: AbstractEncoder, classes: int, reads: Stored, grid: GridSettings, seed: int) -> Probe:
    """Return the untrained heads of a grid.

    Raises:
        MmoodError: a head is to read embeddings, and the encoder is image-only.
    """
    kinds: Sequence[Stored] = grid.reads or [reads]
    width = {"features": encoder.feature_dim, "embedding": encoder.embedding_dim}
    widths: dict[Stored, int] = {}
    for kind in kinds:
        found = width[kind]
        if found is None:
            raise MmoodError(
                f"The probe is set to read the embedding, but '{encoder.settings.name}' is an image-only encoder "
                "without one; set `model.reads` to features."
            )
        widths[kind] = found
    return Probe(widths, classes, len(grid.options()), seed)


def stored_probe(state: Mapping[str, Tensor]) -> Probe:
    """Return the probe whose tensors these are."""
    first: dict[Stored, Tensor] = {}
    kinds: tuple[Stored, ...] = ("features", "embedding")
    for kind in kinds:
        if f"spaces.{kind}.heads.0.weight" in state:
            first[kind] = state[f"spaces.{kind}.heads.0.weight"]
    heads = sum(name.endswith(".weight") for name in state) // len(first)
    order = sorted(first, key=[name.split(".")[1] for name in state if name.startswith("spaces.")].index)
    classes = next(iter(first.values())).shape[0]
    probe = Probe({kind: first[kind].shape[1] for kind in order}, classes, heads)
    probe.load_state_dict(dict(state))
    return probe


def _present(rows: Tensor | None) -> Tensor:
    if rows is None:
        raise MmoodError(
            "The probe reads the embedding, but there is none: the images were encoded by an image-only encoder."
        )
    return rows
