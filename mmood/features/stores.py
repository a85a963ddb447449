"""Where feature stores are, and which one fits a run."""

from __future__ import annotations

from pathlib import Path

from mmood.errors import MmoodError
from mmood.features.store import (
    DTYPES,
    Dtype,
    Identity,
    StoredFeatures,
    is_complete,
    open_set,
    read_manifest,
    store_name,
)
from mmood.files import user_path
from mmood.files.cache import cache_folder as kept_in
from mmood.shards.index import SetIndex

AUTO, OFF = "auto", "off"

_WORDS = {
    "index_sha256": "other images",
    "weights_sha256": "other weights",
    "precision": "another precision",
    "augment_seed": "another augmentation",
    "crop": "another augmentation",
    "corruption": "another corruption (`data.corruption`)",
    "exif": "another treatment of EXIF orientation",
    "resize": "images resized by another library (`data.resize`)",
    "feature_dim": "other weights",
    "embedding_dim": "other weights",
    "descriptors": "other descriptors",
}


def cache_folder() -> Path:
    """Return where stores are kept without a folder of their own: $MMOOD_CACHE/features, or ~/.cache/mmood/features."""
    return kept_in("features")


def hashes_folder() -> Path:
    """Return where hashes of images are kept: $MMOOD_CACHE/hashes, or ~/.cache/mmood/hashes."""
    return kept_in("hashes")


class FeatureStores:
    """The stores that a run may read.

    Args:
        setting: `auto` (stores of the cache that fit are read, others are passed over), `off` (none is read), or a
            folder of stores (each set must have one that fits).
    """

    def __init__(self, setting: str) -> None:
        self.setting = setting
        self.root = cache_folder() if setting in (AUTO, OFF) else user_path(setting).absolute()

    def knows(self, index: SetIndex) -> bool:
        """Return whether it is worth asking for a store of the set, which needs a hash of the weights."""
        return self._strict or (self.setting == AUTO and any(self._stores(index)))

    def find(self, index: SetIndex, identity: Identity) -> StoredFeatures | None:
        """Return the store that fits, the most exact one of several; None means: read the images.

        Raises:
            MmoodError: `data.features` names a folder, and no store in it fits; says why.
        """
        if self.setting == OFF:
            return None
        for dtype in DTYPES:
            folder = self.folder(index, identity, dtype)
            if is_complete(folder):
                return open_set(folder, index)
        if self._strict:
            raise MmoodError(self._misfit(index, identity))
        return None

    def folder(self, index: SetIndex, identity: Identity, dtype: Dtype) -> Path:
        """Return the folder of a store, whether it is there or not."""
        return self.root / store_name(index, identity, dtype)

    @property
    def _strict(self) -> bool:
        return self.setting not in (AUTO, OFF)

    def _stores(self, index: SetIndex) -> list[Path]:
        return sorted(path.parent for path in self.root.glob(f"{index.name}.*/manifest.json"))

    def _misfit(self, index: SetIndex, identity: Identity) -> str:
        advice = "encode the set with `mmood embed`, or set `data.features: auto` to read images."
        others = self._stores(index)
        if not others:
            return f"`data.features` is {self.root}, which has no store of the set '{index.name}'; {advice}"
        found = read_manifest(others[-1]).identity
        key = next((key for key in [*identity, *found] if found.get(key) != identity.get(key)), "schema")
        what = _WORDS.get(key, "another transform")
        return (
            f"The feature store {others[-1]} was made with {what} ({key} {_short(found.get(key))}, now "
            f"{_short(identity.get(key))}); {advice}"
        )


def _short(value: object) -> str:
    return repr(value)[:14].strip("'") if isinstance(value, str) and len(value) == 64 else str(value)
