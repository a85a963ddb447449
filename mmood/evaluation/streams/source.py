"""The images of a stream: their features from stores, and the images themselves where a score looks at them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from mmood.evaluation.streams.order import StreamOrder
from mmood.loading.batch import Batch
from mmood.loading.loader import Decoder
from mmood.scores.base import Embedded
from mmood.shards.index import Keys, SetIndex
from mmood.shards.reading import Skipped


@dataclass(frozen=True)
class Rows:
    """Encoded images of a set, as a rule memory-mapped; row i is key i.

    Attributes:
        features: (N, F) before the projection, in any type.
        embedding: (N, D) of unit norm up to the type's rounding, or None for an image-only encoder.
        images: from keys to these images as the tower takes them; None where they are not at hand.
    """

    features: Float[Tensor, "images features"]
    embedding: Float[Tensor, "images dim"] | None
    images: Callable[[Keys], list[Tensor]] | None = None


@dataclass(frozen=True)
class StreamSource:
    """The images of an ID and an OoD set: a batch costs its own rows.

    Attributes:
        id: of the ID set.
        ood: of the OoD set.
        embed: from a batch to what scores read; the detector's.
        device: where `embed` wants the batch.
    """

    id: Rows
    ood: Rows
    embed: Callable[[Batch], Embedded]
    device: torch.device

    def embedded(self, part: StreamOrder) -> Embedded:
        """Return a piece of the stream as scores read it; labels stay behind."""
        keys, is_ood = torch.from_numpy(part.key), torch.from_numpy(part.ood)
        batch = Batch(
            features=_mixed(self.id.features, self.ood.features, keys, is_ood).to(self.device),
            label=torch.full_like(keys, -1).to(self.device),
            key=keys.to(self.device),
        )
        if self.id.embedding is not None and self.ood.embedding is not None:
            id_rows, ood_rows = self.id.embedding, self.ood.embedding
            batch["embedding"] = _mixed(id_rows, ood_rows, keys, is_ood, unit=True).to(self.device)
        embedded = self.embed(batch)
        return embedded if self.id.images is None else replace(embedded, pixels=partial(self._pixels, part))

    def _pixels(self, part: StreamOrder, rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows 3 height width"]:
        """Return some images of a piece of the stream."""
        assert self.id.images is not None
        assert self.ood.images is not None
        key, ood = part.key[rows.numpy()], part.ood[rows.numpy()]
        inside, outside = iter(self.id.images(key[~ood])), iter(self.ood.images(key[ood]))
        return torch.stack([next(outside if is_ood else inside) for is_ood in ood])


def images_of(index: SetIndex, decoder: Decoder) -> Callable[[Keys], list[Tensor]]:
    """Return what reads images of a set by their keys, which may come in any order.

    Args:
        index: of the set.
        decoder: makes of a sample what the tower takes.
    """

    def read(keys: Keys) -> list[Tensor]:
        order = np.argsort(keys)
        samples = index.read(keys[order], skip=False)
        found = [decoder(sample).image for sample in samples if not isinstance(sample, Skipped)]
        return [found[place] for place in np.argsort(order)]

    return read


def _mixed(
    id_rows: Tensor, ood_rows: Tensor, keys: Int[Tensor, " n"], ood: Bool[Tensor, " n"], unit: bool = False
) -> Tensor:
    """Return the rows of the keys, of whichever set, in float32; what was stored in half is of unit norm again."""
    mixed = torch.empty(len(keys), id_rows.shape[1])
    for rows, inside in ((id_rows, ~ood), (ood_rows, ood)):
        found = rows[keys[inside]].float()
        mixed[inside] = normalize(found, dim=-1) if unit and rows.dtype != torch.float32 else found
    return mixed
