"""What data must know of the model that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mmood.encoders.base import ImageTransform
from mmood.features.loader import Rows
from mmood.features.store import StoredFeatures
from mmood.loading.few_shot import FewShot
from mmood.shards.index import SetIndex


class Consumer(Protocol):
    """What data must know of the model that they are for."""

    def image_transform(self, train: bool) -> ImageTransform:
        """Return the evaluation transform, or the training transform."""

    def stored_features(self, indices: Mapping[str, SetIndex]) -> dict[str, StoredFeatures]:
        """Return the features to read in place of the images of sets under evaluation; every rank must call this."""

    def training_rows(self) -> Rows | None:
        """Return the stored features to train on, with their targets; None to train on images."""

    def few_shot(self) -> FewShot | None:
        """Return the draw of the images to train on, and their transform; None to train on all."""
