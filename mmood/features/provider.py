"""The features of a run: read from a store where one fits, encoded now where not, given to whoever asks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from mmood.encoders.base import ImageTransform
from mmood.encoders.transforms import KeyedTransform, corrupted
from mmood.features.encoding import Encoding, SetEncoder
from mmood.features.store import StoredFeatures, store_name
from mmood.features.stores import AUTO, OFF, FeatureStores
from mmood.features.views import StoredViews, drawn_keys, encode_views
from mmood.images.corruption import Corruption
from mmood.images.rgb import Exif
from mmood.loading.few_shot import FewShot, few_shot
from mmood.loading.settings import LoaderSettings
from mmood.scores.base import Bank
from mmood.scores.descriptors import LocalDescriptors
from mmood.shards.index import Keys, SetIndex

MOST_IMAGES = 256
"""Images of a device that are encoded at a time, at most: the batches of a probe are far larger."""

Labeller = Callable[[StoredFeatures, Tensor], Int[Tensor, " rows"]]
"""From a store and keys to the classes of these images."""


@dataclass(frozen=True)
class LabelledSet:
    """Images with ID labels.

    Attributes:
        name: of the set.
        index: of the whole set.
        keys: the images that are meant, ascending.
    """

    name: str
    index: SetIndex
    keys: Keys


class FeatureProvider:
    """The features of the sets of a run. All ranks must make the same calls: they encode together.

    Args:
        encoding: what encodes.
        stores: where features are kept: in the cache or a folder; with `off`, or while the encoder is trained, nowhere.
        batch_size: images per batch and device.
        loader: workers that decode images, and the seed of draws.
        exif: whether images are turned as their cameras noted.
        train: returns the ID training images; raises MmoodError where the settings name none.
        validation: likewise, the ID validation images.
        corruptions: returns the corruption of a set under evaluation, by its name; None for images as they are.

    Attributes:
        banks: shots, transform and descriptors -> what names each bank that was given out, for the provenance.
    """

    def __init__(
        self,
        encoding: Encoding,
        stores: FeatureStores,
        batch_size: int,
        loader: LoaderSettings,
        exif: Exif,
        train: Callable[[], LabelledSet],
        validation: Callable[[], LabelledSet],
        corruptions: Callable[[str], Corruption | None] = lambda _: None,
    ) -> None:
        self.encoding = encoding
        self.stores = stores
        self.batch_size = min(batch_size, MOST_IMAGES)
        self.loader = loader
        self.exif: Exif = exif
        self.banks: dict[tuple[int | None, str, str | None], dict[str, object]] = {}
        self._train, self._validation = train, validation
        self._corruptions = corruptions
        self._held: dict[tuple[str, int | None, str | None], tuple[str, StoredFeatures]] = {}

    def train(
        self, augment: bool = False, descriptors: LocalDescriptors | None = None
    ) -> tuple[StoredFeatures, Int[Tensor, " rows"]]:
        """Return the features of the whole training set, and the keys that training may use, ascending.

        Args:
            augment: of images under the training transform, each augmented once, by `loader.seed`.
            descriptors: more of each image.

        Raises:
            MmoodError: there is no training set, or `data.features` names a folder without a store that fits.
        """
        train = self._train()
        store = self._encoded(train.index, self.loader.seed or 0 if augment else None, descriptors)
        return store, torch.from_numpy(train.keys)

    def views(self, few: FewShot, count: int, patches: bool) -> StoredViews:
        """Return `count` views of the images of a few-shot draw, encoded now and held in memory.

        Raises:
            MmoodError: there is no training set, or it has no table of labels.
        """
        train = self._train()
        keys = drawn_keys(train.index, train.keys, few)
        return encode_views(self.encoding, train.index, keys, few, count, patches, self.loader, self.exif)

    def validation(self) -> tuple[StoredFeatures, Int[Tensor, " rows"]]:
        """Return the features of the set of the ID validation images, and the keys that are meant, ascending.

        Raises:
            MmoodError: there is no ID validation set, or `data.features` names a folder without a store that fits.
        """
        validation = self._validation()
        return self._encoded(validation.index), torch.from_numpy(validation.keys)

    def bank(
        self,
        shots: int | None = None,
        transform: Literal["eval", "train"] = "eval",
        labels: Labeller | None = None,
        descriptors: LocalDescriptors | None = None,
    ) -> Bank:
        """Return the ID training images, without those that `data.val.id` holds out.

        All of a set come memory-mapped, a part of it in memory.

        Args:
            shots: images of each class, drawn by `loader.seed`; None for all.
            transform: `train` reads images under the training transform, each augmented once.
            labels: what gives the classes of training images; None for the true ones.
            descriptors: more of each image. `mmood embed` stores none, so `data.features` names no folder of them.

        Raises:
            MmoodError: there is no training set, or `data.features` names a folder without a store that fits.
        """
        store, keys = self.train(transform == "train", descriptors)
        classes = store.label[keys] if labels is None else labels(store, keys)
        identity: dict[str, object] = {
            "set": self._train().name,
            "index_sha256": store.manifest.identity["index_sha256"],
            "features_sha256": store.manifest.sha256,
            "dtype": store.manifest.dtype,
            "shots": shots,
            "transform": transform,
            "labels": "true" if labels is None else "pseudo",
        }
        if descriptors is not None:
            identity["descriptors"] = descriptors.identity()
        if shots is not None:
            drawn = few_shot(classes, shots, self.loader.seed or 0)
            keys, classes = keys[drawn], classes[drawn]
        self.banks[shots, transform, _named(descriptors)] = {**identity, "n": len(keys)}
        if len(keys) == len(store.label):
            return Bank(store.features, classes, keys, store.embedding, identity, store.descriptors)
        embedding = None if store.embedding is None else store.embedding[keys]
        several = None if store.descriptors is None else store.descriptors[keys]
        return Bank(store.features[keys], classes, keys, embedding, identity, several)

    def found(self, indices: Mapping[str, SetIndex]) -> dict[str, StoredFeatures]:
        """Return the features of sets by name where a store has them; nothing is encoded.

        Raises:
            MmoodError: `data.features` names a folder without a store that fits.
        """
        encoders = self._encoders(indices)
        known = {name: index for name, index in indices.items() if self.stores.knows(index)}
        found = {name: self.stores.find(index, encoders[name].identity(index)) for name, index in known.items()}
        return {name: store for name, store in found.items() if store is not None}

    def on_disk(self, indices: Mapping[str, SetIndex]) -> dict[str, StoredFeatures]:
        """Return the features of sets by name, memory-mapped, empty sets left out; encoded now if no store has them.

        Row i is key i of the set. What is encoded goes into the cache; under `data.features: off` into the folder of
        the run, until `discard`.

        Raises:
            MmoodError: `data.features` names a folder without a store that fits.
        """
        encoders, found = self._encoders(indices), {}
        for name, index in indices.items():
            if index.count:
                encoder = encoders[name]
                identity = encoder.identity(index)
                own = self.encoding.folder / store_name(index, identity, "fp32")
                folder = own if self.stores.setting == OFF else self.stores.folder(index, identity, "fp32")
                found[name] = self.stores.find(index, identity) or encoder.encode(index, folder)
        return found

    def discard(self) -> None:
        """Delete the files of `on_disk` in the folder of the run."""
        self.encoding.ranks.barrier()
        if self.stores.setting == OFF and self.encoding.ranks.rank == 0:
            shutil.rmtree(self.encoding.folder, ignore_errors=True)

    def abandon(self) -> None:
        """Delete what a run that is cut short has begun in its folder; waits for no other rank."""
        if self.encoding.ranks.rank == 0 and (self.stores.setting == OFF or self.encoding.trained):
            shutil.rmtree(self.encoding.folder, ignore_errors=True)

    def _encoded(
        self, index: SetIndex, augment_seed: int | None = None, descriptors: LocalDescriptors | None = None
    ) -> StoredFeatures:
        """Return the features of a set, after encoding it if no store has them.

        They are kept in the cache; only in memory under `data.features: off`, and if a run trains what makes them.
        """
        encoder = self._encoder(augment_seed, descriptors)
        identity = encoder.identity(index)
        of_this_run = self.encoding.trained or (descriptors is not None and descriptors.head is not None)
        if self.stores.setting != OFF and not of_this_run:
            # No command makes stores with descriptors, so a folder of stores has none, and the cache keeps them.
            stores = self.stores if descriptors is None else FeatureStores(AUTO)
            folder = stores.folder(index, identity, "fp32")
            return stores.find(index, identity) or encoder.encode(index, folder)
        name, key = store_name(index, identity, "fp32"), (index.hash, augment_seed, _named(descriptors))
        if key not in self._held or self._held[key][0] != name:
            self._held.pop(key, None)
            self._held[key] = (name, _in_memory(encoder, index, self.encoding.folder / name))
        return self._held[key][1]

    def keyed(self, name: str, transform: ImageTransform) -> KeyedTransform | None:
        """Return what transforms the images of a set under evaluation, with its corruption; None where it has none."""
        corruption = self._corruptions(name)
        return None if corruption is None else corrupted(transform, corruption)

    def _encoders(self, names: Iterable[str]) -> dict[str, SetEncoder]:
        """Return the encoder of each set under evaluation; those without a corruption share one."""
        plain = self._encoder()
        made: dict[Corruption | None, SetEncoder] = {None: plain}
        for corruption in map(self._corruptions, names):
            made.setdefault(corruption, replace(plain, corruption=corruption))
        return {name: made[self._corruptions(name)] for name in names}

    def _encoder(self, augment_seed: int | None = None, descriptors: LocalDescriptors | None = None) -> SetEncoder:
        """Return the encoder of stores with the current weights."""
        run, size = self.encoding, self.batch_size
        own = SetEncoder(run.encoder, run.ranks, size, self.loader, augment_seed, run.quiet, self.exif)
        return replace(own, descriptors=descriptors)


def _named(descriptors: LocalDescriptors | None) -> str | None:
    return None if descriptors is None else f"{descriptors.reads} {descriptors.identity()['sha256']}"


def _in_memory(encoder: SetEncoder, index: SetIndex, folder: Path) -> StoredFeatures:
    """Return the features of a set, and leave nothing in the folder."""
    mapped = encoder.encode(index, folder)
    embedding = None if mapped.embedding is None else mapped.embedding.clone()
    held = replace(mapped, features=mapped.features.clone(), embedding=embedding, label=mapped.label.clone())
    if mapped.descriptors is not None:
        held = replace(held, descriptors=mapped.descriptors.clone())
    encoder.ranks.barrier()
    if encoder.ranks.rank == 0:
        shutil.rmtree(folder)
    return held
