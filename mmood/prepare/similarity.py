"""How close a set is to ID: cosines with the nearest ID images and ID texts, from feature stores that exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mmood.encoders.base import EncoderSettings
from mmood.encoders.build import build_encoder
from mmood.encoders.prompts import TEMPLATES
from mmood.encoders.vision_language import with_texts
from mmood.errors import MmoodError
from mmood.features.store import MANIFEST, StoredFeatures, open_store, read_manifest
from mmood.shards.index import SetIndex

NEAR = 0.95
"""Cosine from which an image counts as a near duplicate; what that means depends on the encoder."""
_ROWS = 1024  # images at a time


@dataclass(frozen=True)
class Similarity:
    """What the stores of one encoder say of a set and an ID set.

    Attributes:
        encoder: its name.
        to_images: mean cosine of the set's images with their nearest ID image.
        near: how many have one with a cosine of at least `NEAR`.
        to_texts: mean cosine with the nearest text of an ID class, None if texts were not asked for.
    """

    encoder: str
    to_images: float
    near: int
    to_texts: float | None


def similarities(
    folder: Path, index: SetIndex, id_set: SetIndex, class_names: Sequence[str] | None
) -> Iterator[Similarity]:
    """Yield the similarities of a set with an ID set, for each encoder of which both have a store.

    Args:
        folder: of the stores.
        index: the set.
        id_set: the ID set.
        class_names: also encode these names of the ID classes, which loads the encoder.

    Raises:
        MmoodError: a store is damaged, the encoder cannot be loaded, or is no longer the one of the store.
    """
    own, theirs = _stores(folder, index), _stores(folder, id_set)
    for identity, path in own.items():
        if identity in theirs:
            store, other = open_store(path), open_store(theirs[identity])
            cosines = nearest(_unit(store), _unit(other))
            to_texts = None if class_names is None else _to_texts(store, class_names)
            yield Similarity(_name(store), float(cosines.mean()), int((cosines >= NEAR).sum()), to_texts)


def nearest(images: Float[Tensor, "images dim"], others: Float[Tensor, "others dim"]) -> Float[Tensor, " images"]:
    """Return the cosine of each image with the nearest of the others; all are of unit norm.

    >>> nearest(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.6, 0.8]]))
    tensor([0.6000])
    """
    found = [(images[start : start + _ROWS] @ others.T).amax(dim=1) for start in range(0, len(images), _ROWS)]
    return torch.cat(found) if found else torch.empty(0)


def _stores(folder: Path, index: SetIndex) -> Mapping[tuple[tuple[str, str], ...], Path]:
    """Return the stores of a set by everything that decides their numbers but the set; one of several types."""
    found = {}
    for manifest in sorted(folder.glob(f"*/{MANIFEST}")):
        identity = dict(read_manifest(manifest.parent).identity)
        if identity.pop("index_sha256", None) == index.hash and identity.get("augment_seed") is None:
            found[tuple(sorted((key, str(value)) for key, value in identity.items()))] = manifest.parent
    return found


def _unit(store: StoredFeatures) -> Float[Tensor, "images dim"]:
    rows = store.features if store.embedding is None else store.embedding
    return functional.normalize(rows.float(), dim=-1)


def _name(store: StoredFeatures) -> str:
    name, tag = store.manifest.encoder.get("name"), store.manifest.encoder.get("pretrained")
    return f"{name}/{tag}" if tag else str(name)


def _to_texts(store: StoredFeatures, names: Sequence[str]) -> float:
    named = store.manifest.encoder
    size = named.get("image_size")
    settings = EncoderSettings(
        str(named.get("name")),
        None if named.get("pretrained") is None else str(named["pretrained"]),
        size if isinstance(size, int) else None,
    )
    encoder = with_texts(build_encoder(settings))
    if encoder.weights_hash() != store.manifest.identity.get("weights_sha256"):
        raise MmoodError(f"The encoder {_name(store)} has other weights now than when the store was made.")
    with torch.no_grad():
        prototypes = encoder.prototypes(names, TEMPLATES["mcm"])
    return float(nearest(_unit(store), prototypes).mean())
