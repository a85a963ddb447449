"""The feature store on disk: one folder per set, encoder and precision, whole or not there.

    <set>.<16 digits of the identity's hash>.<dtype>/
        features.safetensors    features (N, F), embedding (N, D) if the encoder has one, descriptors (N, M, D) if a
                                score asked for some, label (N,): row i is key i
        manifest.json           what the numbers depend on, written last: without it there is no store
        parts/                  while it is made: plan.json and a safetensors file per run of keys

Both are plain bytes: nothing is pickled. The tensors are memory-mapped, so a store may be larger than the memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmood.errors import MmoodError
from mmood.files import parse_json, read_limited, write_atomically
from mmood.images.corruption import Corruption
from mmood.images.rgb import Exif
from mmood.shards.index import SetIndex

SCHEMA = 1
MANIFEST = "manifest.json"
TENSORS = "features.safetensors"
# Names of the encoder: two of them may mean the same weights.
_NAMES = ("name", "pretrained")

Dtype = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Dtype, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The types on disk, the most exact first."""

Identity = Mapping[str, object]

# What stands in a manifest besides the schema.
_KINDS = {"identity": dict, "dtype": str, "count": int, "batch_size": int, "encoder": dict, "sha256": str}


@dataclass(frozen=True)
class Manifest:
    """The manifest of a store.

    Attributes:
        identity: everything that decides the numbers (`store_identity`), but for the type on disk.
        dtype: type of features and embeddings on disk.
        count: N, number of images.
        batch_size: images that were encoded at a time; the last bit of a feature depends on it.
        encoder: the names that the encoder had, for the reader.
        sha256: of the file of tensors.
    """

    identity: dict[str, object]
    dtype: Dtype
    count: int
    batch_size: int
    encoder: dict[str, object]
    sha256: str


@dataclass(frozen=True)
class StoredFeatures:
    """A whole store; the tensors are memory-mapped, row i is key i of the set.

    Attributes:
        features: (N, F) before the projection, in the type on disk.
        embedding: (N, D) of unit norm up to the type's rounding, or None for an image-only encoder.
        label: (N,) int64 as the shards give it, -1 in a set without labels.
        manifest: where the numbers come from.
        descriptors: (N, M, D) several of each image, or None.
    """

    features: Float[Tensor, "images features"]
    embedding: Float[Tensor, "images dim"] | None
    label: Int[Tensor, " images"]
    manifest: Manifest
    descriptors: Float[Tensor, "images descriptors dim"] | None = None


def store_identity(
    index: SetIndex,
    encoder: Identity,
    precision: str,
    augment_seed: int | None = None,
    crop: tuple[float, float] | None = None,
    exif: Exif = "ignore",
    corruption: Corruption | None = None,
) -> dict[str, object]:
    """Return the fingerprint of a store.

    Args:
        index: the set; its content counts, not its name.
        encoder: `AbstractEncoder.identity()`; weights and transform count, not the name.
        precision: the trainer's, such as `bf16-mixed`.
        augment_seed: seed of the training transform; None for the eval transform.
        crop: shares of the area in crops of the training transform.
        exif: whether images were turned as their cameras noted; stores from before there was a choice ignore it.
        corruption: of the images; None for images as they are.
    """
    weights = {key: value for key, value in encoder.items() if key not in _NAMES}
    augmented = {} if augment_seed is None or crop is None else {"crop": list(crop)}
    turned = {} if exif == "ignore" else {"exif": exif}
    broken = {} if corruption is None else {"corruption": corruption.identity()}
    made = {"precision": precision, "augment_seed": augment_seed, **augmented, **turned, **broken}
    return {**weights, **made, "index_sha256": index.hash}


def store_name(index: SetIndex, identity: Identity, dtype: Dtype) -> str:
    """Return the name of a store's folder."""
    content = json.dumps({"schema": SCHEMA, **identity}, sort_keys=True)
    return f"{index.name}.{hashlib.sha256(content.encode()).hexdigest()[:16]}.{dtype}"


def is_complete(folder: Path) -> bool:
    """Return whether the folder holds a whole store."""
    return (folder / MANIFEST).is_file()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Declare the store whole."""
    document = {"schema": SCHEMA, **asdict(manifest)}
    write_atomically(folder / MANIFEST, (json.dumps(document, indent=1, sort_keys=True) + "\n").encode())


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a store.

    Raises:
        MmoodError: it cannot be read, or another mmood wrote it.
    """
    what = f"The manifest {folder / MANIFEST}"
    document = parse_json(read_limited(folder / MANIFEST, what), what)
    schema = document.pop("schema", None) if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise MmoodError(f"{what} has schema {schema!r:.40}, but this version of mmood reads schema {SCHEMA}.")
    if document.keys() != _KINDS.keys():
        raise MmoodError(f"{what} must have {', '.join(_KINDS)}, but has {', '.join(sorted(document))[:200]}.")
    for name, kind in _KINDS.items():
        if not isinstance(document[name], kind) or isinstance(document[name], bool):
            raise MmoodError(f"{what} has {name} = {document[name]!r:.40}; it must be of type {kind.__name__}.")
    if document["dtype"] not in DTYPES:
        raise MmoodError(f"{what} has dtype {document['dtype']!r:.40}; it must be one of {', '.join(DTYPES)}.")
    return Manifest(**document)


def open_store(folder: Path) -> StoredFeatures:
    """Return a whole store; its tensors are mapped, not read.

    Raises:
        MmoodError: the files cannot be read or contradict one another.
    """
    manifest = read_manifest(folder)
    path = folder / TENSORS
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            embedding = file.get_tensor("embedding") if "embedding" in names else None
            descriptors = file.get_tensor("descriptors") if "descriptors" in names else None
            features, label = file.get_tensor("features"), file.get_tensor("label")
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        # Types of numbers that torch does not have end in one of the last four.
        raise MmoodError(
            f"The feature store {path} cannot be read ({error}); delete it and encode the set again."
        ) from error
    dtype = DTYPES[manifest.dtype]
    for name, tensor, ndim in (("features", features, 2), ("embedding", embedding, 2), ("descriptors", descriptors, 3)):
        if tensor is not None and (tensor.ndim != ndim or len(tensor) != manifest.count or tensor.dtype != dtype):
            raise _misfit(path, name, tensor, manifest, manifest.dtype)
    if label.ndim != 1 or len(label) != manifest.count or label.dtype != torch.int64:
        raise _misfit(path, "label", label, manifest, "int64")
    return StoredFeatures(features, embedding, label, manifest, descriptors)


def open_set(folder: Path, index: SetIndex) -> StoredFeatures:
    """Return the store of a set, with the labels that its index gives now.

    A set may be encoded before its index says that it has classes. Its store then holds no labels, while the table
    beside the index does.

    Raises:
        MmoodError: see `open_store`; or a label is missing or not below the number of classes.
    """
    store = open_store(folder)
    if index.classes is None:
        return store
    if bool((store.label < 0).any()):
        labels = [-1 if row.label is None else row.label for row in index.rows()]
        store = replace(store, label=torch.tensor(labels, dtype=torch.int64))
    outside = ((store.label < 0) | (store.label >= index.classes)).nonzero().flatten()
    if len(outside):
        key = int(outside[0])
        raise MmoodError(
            f"The index of the set '{index.name}' has {index.classes} classes, but key {key} has the label "
            f"{int(store.label[key])}; index the set again with `mmood pack --index`."
        )
    return store


def _misfit(path: Path, name: str, tensor: Tensor, manifest: Manifest, dtype: str) -> MmoodError:
    return MmoodError(
        f"The feature store {path} has {name} of shape {tuple(tensor.shape)} and {tensor.dtype}, but its manifest "
        f"says {manifest.count} rows of {dtype}; delete it and encode the set again."
    )
