"""The contract of a score: what it reads (`Embedded`), what it may know (`Reference`), what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor, nn

from mmood.encoders.base import AbstractEncoder
from mmood.encoders.vision_language import with_texts
from mmood.errors import MmoodError
from mmood.images.rgb import to_rgb
from mmood.prompts import LearnedPrompts
from mmood.scores.descriptors import Local, LocalDescriptors, LocalHead
from mmood.scores.softmax import Softmax
from mmood.scores.stable import precise
from mmood.scores.surroundings import Surroundings
from mmood.scores.text_tower import TextTower
from mmood.settings import Recorded
from mmood.settings.requirements import Requirement
from mmood.words.embedding import embed_words

Output = Literal["features", "embedding", "logits", "patches", "feature_map"]
Stored = Literal["features", "embedding"]
"""The outputs that a feature store holds."""


MOST_LOGITS = 2**24
"""Logits that are scored at a time, where there are so many classes: a table of them in float64 takes 128 MB."""

Pixels = Callable[[Int[Tensor, " rows"]], Float[Tensor, "rows 3 height width"]]


@dataclass(frozen=True)
class Embedded:
    """What a module makes of a batch of images; every tensor is float32.

    Attributes:
        features: (B, F) output of the image tower before the projection into the joint space.
        logits: (B, C) of the module's head; raw cosines where the head is a set of text prototypes.
        embedding: (B, D) projected and of unit L2 norm, or None for an image-only encoder.
        patches: (B, P, D) unit-norm local embeddings, or None if no score asked for them.
        feature_map: (B, P, F) local features before the projection, likewise.
        pixels: from rows of the batch to these images as the tower takes them, read when asked; None where they are not
            at hand.
    """

    features: Float[Tensor, "batch features"]
    logits: Float[Tensor, "batch classes"]
    embedding: Float[Tensor, "batch dim"] | None = None
    patches: Float[Tensor, "batch patches dim"] | None = None
    feature_map: Float[Tensor, "batch patches features"] | None = None
    pixels: Pixels | None = None
    _shared: dict[float, Softmax] = field(default_factory=dict, init=False, repr=False, compare=False)

    def softmax(self, temperature: float) -> Softmax:
        """Return the softmax of logits / T, in float64 where the device has it; all scores of the batch share it."""
        if temperature not in self._shared:
            self._shared[temperature] = Softmax.of(precise(self.logits), temperature)
        return self._shared[temperature]

    def joint(self) -> Float[Tensor, "batch dim"]:
        """Return the embedding.

        Raises:
            MmoodError: the encoder is image-only.
        """
        if self.embedding is None:
            raise MmoodError("This score needs a vision-language model, but this encoder has no text encoder.")
        return self.embedding

    def images(self, rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows 3 height width"]:
        """Return some images of the batch as the tower takes them, on the CPU.

        Args:
            rows: which.

        Raises:
            MmoodError: they are not at hand here, or one cannot be read.
        """
        if self.pixels is None:
            raise MmoodError(
                "This score looks at the images of the stream themselves, which are at hand in `mmood test`, `mmood "
                "validate`, `mmood detect` and StreamDetector, but not here."
            )
        return self.pixels(rows.cpu()).cpu()

    def local(self) -> Float[Tensor, "batch patches dim"]:
        """Return the patch embeddings; MmoodError if the images were encoded without them."""
        return self.positions("patches")

    def positions(self, reads: Local) -> Float[Tensor, "batch patches dim"]:
        """Return the patch embeddings or the feature map; MmoodError if the images were encoded without them."""
        found = self.patches if reads == "patches" else self.feature_map
        if found is None:
            what, them = ("patches", "them") if reads == "patches" else ("the feature map", "it")
            raise MmoodError(f"This score reads {what}, but the images were encoded without {them}.")
        return found

    def parts(self) -> Iterator[Embedded]:
        """Yield the batch in consecutive parts of at most `MOST_LOGITS` logits each, or of one image.

        A score makes float64 tables of all classes: of 256 images and a million classes it would take 2 GB for each.
        Scores of a part share such tables, so let go of it before the next.
        """
        images, classes = self.logits.shape
        step = max(1, MOST_LOGITS // max(1, classes))
        if images <= step:
            yield self
            return
        for start in range(0, images, step):
            yield self._rows(start, start + step)

    def _rows(self, start: int, stop: int) -> Embedded:
        def cut(output: Tensor | None) -> Tensor | None:
            return None if output is None else output[start:stop]

        pixels = self.pixels
        features, logits, patches = self.features[start:stop], self.logits[start:stop], cut(self.patches)
        shifted = None if pixels is None else (lambda rows: pixels(rows + start))
        return Embedded(features, logits, cut(self.embedding), patches, cut(self.feature_map), shifted)

    def to(self, device: torch.device) -> Embedded:
        """Return the batch on a device."""

        def moved(output: Tensor | None) -> Tensor | None:
            return None if output is None else output.to(device)

        features, logits, patches = self.features.to(device), self.logits.to(device), moved(self.patches)
        return Embedded(features, logits, moved(self.embedding), patches, moved(self.feature_map), self.pixels)


@dataclass(frozen=True)
class Bank:
    """Stored embeddings of the ID training images; the tensors may be memory-mapped and in half precision.

    Read it in chunks and convert each chunk to float32: on ImageNet it has 1.28 million rows.

    Attributes:
        features: (N, F) before the projection, as the tower gives them.
        labels: (N,) int64 class of each image.
        keys: (N,) int64, the sample's key in its set.
        embedding: (N, D) of unit norm, or None for an image-only encoder.
        identity: the fingerprint of the bank: set, store and hash.
        descriptors: (N, M, D) several of each image, unit norm or 0; None unless asked for.
    """

    features: Float[Tensor, "images features"]
    labels: Int[Tensor, " images"]
    keys: Int[Tensor, " images"]
    embedding: Float[Tensor, "images dim"] | None
    identity: Mapping[str, object]
    descriptors: Float[Tensor, "images descriptors dim"] | None = None

    def take(self, rows: Int[Tensor, " kept"], **identity: object) -> Bank:
        """Return some of the images, in this order, in memory; `identity` says which they are."""

        def taken(output: Tensor | None) -> Tensor | None:
            return None if output is None else output[rows]

        features, labels, keys = self.features[rows], self.labels[rows], self.keys[rows]
        return Bank(
            features, labels, keys, taken(self.embedding), {**self.identity, **identity}, taken(self.descriptors)
        )


@dataclass(frozen=True)
class LinearHead:
    """A linear map from features or embeddings to logits.

    Attributes:
        reads: the output that the head reads.
        weight: (C, F) or (C, D).
        bias: (C,).
    """

    reads: Stored
    weight: Float[Tensor, "classes dim"]
    bias: Float[Tensor, " classes"]

    def logits(self, rows: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Return rows @ weight.T + bias."""
        return torch.addmm(self.bias, rows, self.weight.T)

    def to(self, device: torch.device) -> LinearHead:
        """Return the head on a device."""
        return LinearHead(self.reads, self.weight.to(device), self.bias.to(device))


@dataclass(frozen=True)
class NegativeTexts:
    """Text embeddings of unit norm that images are compared with.

    Attributes:
        positive: (C, D) of the ID names.
        negative: (M, D) of the negative labels; M is a multiple of `groups`, and each of the equal runs is a group.
        words: the M negative labels in that order.
        groups: G.
    """

    positive: Float[Tensor, "classes dim"]
    negative: Float[Tensor, "negatives dim"]
    words: tuple[str, ...]
    groups: int = 1

    def to(self, device: torch.device) -> NegativeTexts:
        """Return the embeddings on a device."""
        return NegativeTexts(self.positive.to(device), self.negative.to(device), self.words, self.groups)


class Reference(ABC):
    """What a score may know about the ID side when it is fitted; never a label of an OoD test image.

    What depends on the classes is for a subclass to say; what depends on the encoder alone is here.

    Attributes:
        class_names: the C names of the ID classes, in the order of the labels.
        encoder: the model, with or without a text encoder, on the device of the module.
        learned: the learned prompts that the prototypes come from; None where these come from templates.
        local_head: the trained head that the positions of a map go through before they are compared; None for none.
    """

    class_names: Sequence[str]
    encoder: AbstractEncoder
    learned: LearnedPrompts | None = None
    local_head: LocalHead | None = None

    @property
    @abstractmethod
    def prototypes(self) -> Float[Tensor, "classes dim"]:
        """Unit-norm text prototypes of the ID classes, on the device of the module.

        Raises:
            MmoodError: the encoder has no text encoder.
        """

    @abstractmethod
    def bank(
        self,
        shots: int | None = None,
        transform: Literal["eval", "train"] = "eval",
        descriptors: LocalDescriptors | None = None,
    ) -> Bank:
        """Return the ID training images, `shots` of each class (drawn by seed) or all, encoded once for all scores.

        Every rank must call this. With the transform `train`, images come under the training transform, each augmented
        once; with `descriptors`, the bank has these of each image, too.

        Raises:
            MmoodError: the data settings name no ID training set.
        """

    @abstractmethod
    def heads(self) -> tuple[LinearHead, ...]:
        """Return the trained linear heads, first the one that gives the logits; none where texts give them."""

    def head(self) -> LinearHead | None:
        """Return the trained linear head that gives the logits, or None where they are cosines with the prototypes."""
        return next(iter(self.heads()), None)

    def identity(self) -> dict[str, object]:
        """Return the fingerprint of the encoder: model, tag, sha256 of the weights, transform."""
        return dict(self.encoder.identity())

    def encode_text(self, texts: Sequence[str], normalise: bool = True) -> Float[Tensor, "texts dim"]:
        """Return float32 embeddings of whole texts, see `TextTower.encode_text`."""
        return self.text_tower.encode_text(texts, normalise)

    def encode_words(
        self, words: Sequence[str], templates: Sequence[str], normalise_first: bool = True
    ) -> Float[Tensor, "words dim"]:
        """Return unit-norm embeddings of words that are no class names, such as negative labels.

        They are encoded in the templates (see `embed_words`), or in the learned context where this is for words, too.

        Raises:
            MmoodError: the encoder has no text encoder, or the learned context belongs to the classes.
        """
        if self.learned is not None and self.learned.for_words:
            return self.learned.of_words(self.encoder, words)
        return embed_words(self.encode_text, words, templates, normalise_first)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image]) -> Float[Tensor, "images dim"]:
        """Return float32 unit-norm embeddings of images of one's own making, under the eval transform.

        Raises:
            MmoodError: the encoder has no text encoder, so its images have no place among texts.
        """
        transform = with_texts(self.encoder).transform()
        return self.encode_pixels(torch.stack([transform(to_rgb(image, "ignore")) for image in images]))

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of what the image tower takes."""
        return self.encoder.image_size

    @torch.no_grad()
    def encode_pixels(self, pixels: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images dim"]:
        """Return float32 unit-norm embeddings of inputs of the image tower, which no transform changes.

        Raises:
            MmoodError: the encoder has no text encoder, so its images have no place among texts.
        """
        encoder = with_texts(self.encoder)
        with torch.autocast(encoder.device.type, enabled=False):
            embedding = encoder.encode_image(pixels.to(encoder.device)).embedding
        assert embedding is not None
        return embedding

    @property
    def text_tower(self) -> TextTower:
        """The text tower of the encoder; using it raises MmoodError if the encoder has none."""
        return TextTower(self.encoder)


class AbstractScore(Recorded, nn.Module, ABC):
    """A score of images, higher = more in-distribution.

    A subclass stores its settings in `__init__`, learns in `fit` and maps `Embedded` to (B,) float32 in `forward`, on
    a scale that its docstring states. What it learns has names that end in `_`, declared in the class with their types
    (tensors, numbers, texts, frozen dataclasses of these): so that it can be shipped (`mmood.scores.portable`).
    Probability-like scores return their log-odds, so that nothing saturates into ties.
    Its arguments are recorded (see `Recorded`); what `fit` finds goes to `details`.
    """

    needs: frozenset[Output] = frozenset({"logits"})
    """The outputs in `Embedded` that `forward` reads."""

    least_classes: int = 1
    """With fewer ID classes every image has the same score."""

    differentiable: bool = True
    """Whether a gradient leads from `objective` to the outputs that it reads; attacks need one. A score that learns
    from the stream, or counts, states false."""

    def fit(self, reference: Reference) -> Self:
        """Learn what the score needs of the ID side; called at the start of every evaluation. Returns self."""
        return self

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return what the score needs besides the outputs that it reads; see `Surroundings`."""
        return ()

    @abstractmethod
    def forward(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the scores of a batch, float32, higher = more in-distribution."""

    def objective(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return what an attack raises or lowers in place of the score: the score itself, unless that saturates.

        It rises with the score, and keeps a gradient where the score has come close to its bounds. An attack is judged
        by the score all the same.
        """
        scores: Tensor = self(embedded)
        return scores

    def negative_labels(self) -> NegativeTexts | None:
        """Return the texts that stand for everything else, once it is fitted; None for a score that has none."""
        return None

    def learned(self) -> dict[str, object]:
        """Return, as plain data, what a checkpoint must keep: a later `fit` would learn it with other weights."""
        return {}

    def restore(self, learned: Mapping[str, object]) -> None:
        """Take back what `learned` returned, in place of learning it at the next `fit`."""
