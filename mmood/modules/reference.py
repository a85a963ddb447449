"""The ID side as the scores see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from lightning.pytorch import LightningModule
from PIL.Image import Image
from torch import Tensor

from mmood.data.datamodule import OoDDataModule
from mmood.encoders.base import AbstractEncoder
from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.errors import MmoodError
from mmood.features.loader import few_shot
from mmood.features.store import StoredFeatures
from mmood.scores.base import Bank, LinearHead, Tokens

Labeller = Callable[[StoredFeatures, Tensor], Tensor]


@dataclass(frozen=True)
class TextReference:
    """What a vision-language model knows of the ID classes: their names, text prototypes and training images.

    Attributes:
        class_names: the C ID classes, in the order of the labels.
        prototypes: (C, D) unit-norm text prototypes.
        encoder: the model that embeds further texts.
        module: the module that asks, whose trainer knows the ID training set; None without a bank.
        linear: the trained head that gives the logits; None where they are cosines with the prototypes.
    """

    class_names: Sequence[str]
    prototypes: Float[Tensor, "classes dim"]
    encoder: VisionLanguageEncoder
    module: LightningModule | None = None
    linear: LinearHead | None = None

    def identity(self) -> dict[str, object]:
        """Return what names the encoder for good."""
        return dict(self.encoder.identity())

    def encode_text(self, texts: Sequence[str], normalise: bool = True) -> Float[Tensor, "texts dim"]:
        """Return float32 embeddings of whole texts, of unit norm unless `normalise` is off, in full precision."""
        with torch.autocast(self.prototypes.device.type, enabled=False):
            return self.encoder.encode_text(texts, normalise)

    def encode_images(self, images: Sequence[Image]) -> Float[Tensor, "images dim"]:
        """Return the unit-norm embeddings of RGB images; see `embed_images`."""
        return embed_images(self.encoder, images)

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Return whole texts as tokens; see `frozen_tokens`."""
        return frozen_tokens(self.encoder, texts)

    def encode_tokens(
        self, embeddings: Float[Tensor, "texts length width"], ids: Int[Tensor, "texts length"]
    ) -> Float[Tensor, "texts dim"]:
        """Return unit-norm embeddings of texts given by token embeddings, with gradient to these alone."""
        return encode_frozen_tokens(self.encoder, embeddings, ids)

    def bank(self, shots: int | None = None, transform: Literal["eval", "train"] = "eval") -> Bank:
        """Return the ID training images; see `id_bank`."""
        return id_bank(self.module, shots, transform)

    def head(self) -> LinearHead | None:
        """Return the trained head that gives the logits, or None where they are cosines with the prototypes."""
        return self.linear


@dataclass(frozen=True)
class ImageReference:
    """What a linear head knows of the ID side; text prototypes are made only for a score that asks.

    Attributes:
        class_names: the C ID classes, in the order of the labels.
        encoder: the encoder, with texts or without.
        templates: prompts of the prototypes.
        module: the module that asks, whose trainer knows the ID training set.
        linear: the trained head that gives the logits.
        labels: from a store and keys to the classes of these training images; None for the true ones.
    """

    class_names: Sequence[str]
    encoder: AbstractEncoder
    templates: Sequence[str]
    module: LightningModule
    linear: LinearHead
    labels: Labeller | None = None

    @cached_property
    def prototypes(self) -> Float[Tensor, "classes dim"]:
        """Unit-norm text prototypes; MmoodError for an image-only encoder."""
        return text_prototypes(self.encoder, self.class_names, self.templates)

    def identity(self) -> dict[str, object]:
        """Return what names the encoder for good."""
        return dict(self.encoder.identity())

    def encode_text(self, texts: Sequence[str], normalise: bool = True) -> Float[Tensor, "texts dim"]:
        """Return float32 embeddings of whole texts, of unit norm unless `normalise` is off, in full precision.

        Raises:
            MmoodError: the encoder is image-only.
        """
        encoder = with_texts(self.encoder)
        with torch.autocast(encoder.device.type, enabled=False):
            return encoder.encode_text(texts, normalise)

    def encode_images(self, images: Sequence[Image]) -> Float[Tensor, "images dim"]:
        """Return the unit-norm embeddings of RGB images; see `embed_images`."""
        return embed_images(with_texts(self.encoder), images)

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Return whole texts as tokens; see `frozen_tokens`."""
        return frozen_tokens(with_texts(self.encoder), texts)

    def encode_tokens(
        self, embeddings: Float[Tensor, "texts length width"], ids: Int[Tensor, "texts length"]
    ) -> Float[Tensor, "texts dim"]:
        """Return unit-norm embeddings of texts given by token embeddings, with gradient to these alone."""
        return encode_frozen_tokens(with_texts(self.encoder), embeddings, ids)

    def bank(self, shots: int | None = None, transform: Literal["eval", "train"] = "eval") -> Bank:
        """Return the ID training images; see `id_bank`."""
        return id_bank(self.module, shots, transform, self.labels)

    def head(self) -> LinearHead:
        """Return the trained head that gives the logits."""
        return self.linear


def text_prototypes(
    encoder: AbstractEncoder, class_names: Sequence[str], templates: Sequence[str]
) -> Float[Tensor, "classes dim"]:
    """Return the unit-norm text prototypes of classes, in full precision.

    Raises:
        MmoodError: the encoder knows no texts.
    """
    knows_texts = with_texts(encoder)
    with torch.no_grad(), torch.autocast(knows_texts.device.type, enabled=False):
        return knows_texts.prototypes(class_names, templates)


@torch.no_grad()
def embed_images(encoder: VisionLanguageEncoder, images: Sequence[Image]) -> Float[Tensor, "images dim"]:
    """Return the unit-norm embeddings of RGB images under the eval transform, in full precision."""
    transform = encoder.transform()
    batch = torch.stack([transform(image) for image in images]).to(encoder.device)
    with torch.autocast(encoder.device.type, enabled=False):
        embedding = encoder.encode_image(batch).embedding
    assert embedding is not None
    return embedding


def frozen_tokens(encoder: VisionLanguageEncoder, texts: Sequence[str]) -> Tokens:
    """Return whole texts as tokens that autograd may use, even where the caller is in inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        return Tokens(*encoder.frozen_tokens(texts))


def encode_frozen_tokens(
    encoder: VisionLanguageEncoder,
    embeddings: Float[Tensor, "texts length width"],
    ids: Int[Tensor, "texts length"],
) -> Float[Tensor, "texts dim"]:
    """Return unit-norm embeddings of texts given by token embeddings, in full precision; the weights are constants."""
    with torch.autocast(encoder.device.type, enabled=False):
        return encoder.encode_frozen_tokens(embeddings, ids)


def data_of(module: LightningModule | None) -> OoDDataModule:
    """Return the data that a module runs over.

    Raises:
        MmoodError: the module does not run over an OoDDataModule.
    """
    # The module's own property raises where it has no trainer.
    trainer = None if module is None else module._trainer
    data = None if trainer is None else getattr(trainer, "datamodule", None)
    if not isinstance(data, OoDDataModule):
        raise MmoodError("There is no ID training set here; run the module over data with `data.train` set.")
    return data


def id_bank(
    module: LightningModule | None,
    shots: int | None,
    transform: Literal["eval", "train"],
    labels: Labeller | None = None,
) -> Bank:
    """Return the ID training images, without what `data.val.id` holds out, from the feature store.

    If no store has them, all ranks encode them now, with progress; every rank must call this. All of a set come
    memory-mapped, a part of it in memory.

    Args:
        module: the module that runs.
        shots: images of each class, drawn by `data.loader.seed`; None for all.
        transform: `train` reads images under the training transform, each augmented once.
        labels: what gives the classes of training images; None for the true ones.

    Raises:
        MmoodError: `data.train` is not set, or its store does not fit.
    """
    data = data_of(module)
    store = data.train_features(augment=transform == "train")
    keys = torch.from_numpy(data.train_keys())
    classes = store.label[keys] if labels is None else labels(store, keys)
    identity: dict[str, object] = {
        "set": data.train,
        "index_sha256": store.manifest.identity["index_sha256"],
        "features_sha256": store.manifest.sha256,
        "dtype": store.manifest.dtype,
        "shots": shots,
        "transform": transform,
        "labels": "true" if labels is None else "pseudo",
    }
    if shots is not None:
        drawn = few_shot(classes, shots, data.loader.seed)
        keys, classes = keys[drawn], classes[drawn]
    data.banks[shots, transform] = {**identity, "n": len(keys)}
    if len(keys) == len(store.label):
        return Bank(store.features, classes, keys, store.embedding, identity)
    embedding = None if store.embedding is None else store.embedding[keys]
    return Bank(store.features[keys], classes, keys, embedding, identity)


def with_texts(encoder: AbstractEncoder) -> VisionLanguageEncoder:
    """Return the encoder as one that knows texts; MmoodError for an image-only encoder."""
    if not isinstance(encoder, VisionLanguageEncoder):
        raise MmoodError(
            f"model.encoder.name is '{encoder.settings.name}', an image-only encoder without texts; use a "
            "vision-language model such as ViT-B-16, or scores and labels that need no text."
        )
    return encoder
