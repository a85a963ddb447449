"""OoD images that may be ID images: what an audit found, as data and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

REASONS = {
    "near_copy": "near copy",
    "class_name": "as near to the class name as ID images",
    "training_image": "as near to a training image as ID images",
}
"""Why an image is listed -> in words."""


@dataclass(frozen=True, kw_only=True)
class AuditedSet:
    """How many images of an OoD set look like ID images.

    Attributes:
        set: the OoD set.
        n: number of its images.
        near_copies: those with an ID image at a cosine of at least `Audit.cosine`.
        class_name: those whose cosine with the nearest class name is at least the median of the ID test images of that
            class; None without class names, as for an image-only encoder.
        training_image: those whose cosine with the nearest ID training image is at least the median of the ID test
            images of that image's class; None without a training set.
    """

    set: str
    n: int
    near_copies: int
    class_name: int | None
    training_image: int | None


@dataclass(frozen=True, kw_only=True)
class AuditedImage:
    """An OoD image that looks like an ID image.

    Attributes:
        set: its OoD set.
        key: its key there.
        reasons: some of `REASONS`.
        cosine: with the nearest ID image.
        id_set: set of that image.
        id_key: its key there.
        id_class: the ID class that the image looks like.
    """

    set: str
    key: int
    reasons: tuple[str, ...]
    cosine: float
    id_set: str
    id_key: int
    id_class: str


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit found.

    Attributes:
        cosine: from which on two images are near copies.
        index_sha256: set -> hash of its index, of all sets that were compared.
        sets: the OoD sets.
        images: those to look at, the nearest first within a set; a limited number of each set.
    """

    cosine: float
    index_sha256: Mapping[str, str]
    sets: tuple[AuditedSet, ...]
    images: tuple[AuditedImage, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the audit as in `results.json`."""
        return asdict(self)
