"""Crops of a few training images, encoded once: embeddings and patches to train prompts on, without the image tower."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from mmood.encoders.base import ImageTransform
from mmood.errors import MmoodError
from mmood.features.encoding import Encoding, SeededByImage
from mmood.images.rgb import Exif
from mmood.loading.batch import Batch
from mmood.loading.few_shot import FewShot
from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.settings import LoaderSettings
from mmood.output.console import progress_bar
from mmood.shards.index import Keys, SetIndex

MOST_IMAGES = 256
"""Images and crops that are encoded at a time, at most."""


@final
@dataclass(frozen=True)
class StoredViews:
    """Views of the n images that are trained on; epoch e reads view e mod V of every image.

    Attributes:
        embedding: (n, V, crops, D) of unit norm, float16.
        patches: (n, V, crops, P, D) likewise, or None.
        keys: (n,) int64, of the images in their set.
        targets: (n,) int64 class of each.
        batch_size: images per step, over all ranks together.
        whole_batches: leave out what does not fill a batch.
    """

    embedding: Float[Tensor, "images views crops dim"]
    patches: Float[Tensor, "images views crops patches dim"] | None
    keys: Int[Tensor, " images"]
    targets: Int[Tensor, " images"]
    batch_size: int
    whole_batches: bool = True

    def batch(self, positions: Int[Tensor, " batch"], epoch: int) -> Batch:
        """Return the images at these positions in the view of an epoch."""
        view = epoch % self.embedding.shape[1]
        batch = Batch(
            embedding=self.embedding[positions, view], label=self.targets[positions], key=self.keys[positions]
        )
        if self.patches is not None:
            batch["patches"] = self.patches[positions, view]
        return batch


@dataclass(frozen=True)
class Crops:
    """A transform that gives V results of another transform, each drawn anew: (V, 3, H, W)."""

    transform: ImageTransform
    count: int

    def __call__(self, image: Image) -> Tensor:
        """Return the crops of an RGB image."""
        return torch.stack([self.transform(image) for _ in range(self.count)])


def drawn_keys(index: SetIndex, keys: Keys, few: FewShot) -> Keys:
    """Return the ascending keys of the images that are drawn among `keys`.

    Raises:
        MmoodError: the set has no table of labels, or no image.
    """
    labels = torch.tensor(_labels(index))
    drawn: Keys = keys[few.drawn(labels[torch.from_numpy(keys)]).numpy()]
    if len(drawn) == 0:
        raise MmoodError(f"The training set '{index.name}' has no image to train on.")
    return drawn


def _labels(index: SetIndex) -> list[int]:
    """Return the label of each key."""
    try:
        labels = [row.label for row in index.rows()]
    except MmoodError as error:
        raise MmoodError(f"{error} `mmood pack --index` on the folder of the set writes it.") from error
    if None in labels:
        raise MmoodError(f"Key {labels.index(None)} of the set '{index.name}' has no label; shots need one of each.")
    return [label for label in labels if label is not None]


@torch.no_grad()
def encode_views(
    encoding: Encoding,
    index: SetIndex,
    keys: Keys,
    few: FewShot,
    views: int,
    patches: bool,
    loader: LoaderSettings,
    exif: Exif,
) -> StoredViews:
    """Return `views` views of each image; every rank encodes all of them, for they are few.

    Args:
        encoding: the encoder and its precision.
        index: the training set.
        keys: of the images, ascending.
        few: the transform, and the seed of its draws.
        views: V.
        patches: whether local embeddings are wanted, too.
        loader: workers that decode images.
        exif: whether images are turned as their cameras noted.
    """
    transform = SeededByImage(Crops(few.transform, views), few.seed)
    decoder = Decoder(transform, index.classes, exif)
    batches = EvalLoader(index, keys, decoder, 32, replace(loader, on_error="raise"))
    found: list[Batch] = []
    hidden = encoding.quiet or encoding.ranks.rank > 0
    with progress_bar(f"encoding {views} views of {len(keys)} images", len(keys), hidden) as bar:
        for batch in batches:
            found.append(_encoded(encoding, batch, patches))
            bar.advance(len(batch["key"]))
    return StoredViews(
        torch.cat([batch["embedding"] for batch in found]),
        torch.cat([batch["patches"] for batch in found]) if patches else None,
        torch.cat([batch["key"] for batch in found]),
        torch.cat([batch["label"] for batch in found]),
        few.batch_size,
    )


def _encoded(encoding: Encoding, batch: Batch, patches: bool) -> Batch:
    images = batch["image"]
    device = next(encoding.encoder.parameters()).device
    globals_, locals_ = [], []
    for part in torch.split(images.flatten(0, 2), MOST_IMAGES):
        with encoding.ranks.autocast():
            encoded = encoding.encoder.encode_image(part.to(device), patches=patches)
        assert encoded.embedding is not None, "prompts need a text encoder"
        globals_.append(encoded.embedding.half().cpu())
        if encoded.patches is not None:
            locals_.append(encoded.patches.half().cpu())
    shape, embedding = images.shape[:3], torch.cat(globals_)
    found = Batch(embedding=embedding.reshape(*shape, -1), label=batch["label"].clone(), key=batch["key"].clone())
    if patches:
        local = torch.cat(locals_)
        found["patches"] = local.reshape(*shape, *local.shape[1:])
    return found
