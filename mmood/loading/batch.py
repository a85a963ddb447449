"""The batch that every loader yields."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from jaxtyping import Float, Int
from torch import Tensor

from mmood.shards.reading import Skipped


class Batch(TypedDict):
    """Samples of one set; B may be 0 where a rank has nothing of the set.

    Keys:
        image: (B, 3, H, W) float32, transformed for the encoder, or (B, V, 3, H, W), V crops of each image, for a
            training that asks for them; or in its place, from a feature store:
        features: (B, F) of the image tower before the projection, in the type that they are stored in.
        embedding: (B, D) of unit norm, stored likewise; not there for image-only encoders. Of stored crops (B, V, D).
        patches: (B, V, P, D) of unit norm, of stored crops.
        label: (B,) int64 class index, -1 for OoD (a `cls` in an OoD set never becomes a label).
        key: (B,) int64 index of the sample in its set, unique and the same on every rank, worker and run.
        skipped: samples left out since the last batch; present only under `on_error: skip`.
    """

    image: NotRequired[Float[Tensor, "batch *crops 3 height width"]]
    features: NotRequired[Float[Tensor, "batch features"]]
    embedding: NotRequired[Float[Tensor, "batch *crops dim"]]
    patches: NotRequired[Float[Tensor, "batch crops patches dim"]]
    label: Int[Tensor, " batch"]
    key: Int[Tensor, " batch"]
    skipped: NotRequired[list[Skipped]]
