"""The contract of an encoder, and the settings that name one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor, nn

ImageTransform = Callable[[Image], Tensor]


@dataclass(frozen=True)
class EncoderSettings:
    """Which encoder to build.

    Attributes:
        name: an open_clip architecture (`ViT-B-16`), `local-dir:FOLDER`, `hf-hub:OWNER/MODEL`, or `timm:MODEL` for an
            image-only encoder.
        pretrained: open_clip's tag of the weights (`openai`, `laion2b_s34b_b88k`) or a checkpoint file; for `timm:`
            models `true` loads the tag that the name carries. Must be left out with `local-dir:` and `hf-hub:`.
        image_size: side of the input in pixels; None for the model's own.
        cache_dir: folder for downloaded weights; None for the library's default.
    """

    name: str
    pretrained: str | None = None
    image_size: int | None = None
    cache_dir: str | None = None


@dataclass(frozen=True)
class EncodedImages:
    """Output of an image tower; every tensor is float32.

    Attributes:
        features: (B, F) before the projection into the joint space.
        embedding: (B, D) projected, unit L2 norm; None for an image-only encoder.
        patches: (B, P, D) projected local features, unit L2 norm; None unless asked for.
    """

    features: Float[Tensor, "batch features"]
    embedding: Float[Tensor, "batch dim"] | None = None
    patches: Float[Tensor, "batch patches dim"] | None = None


class AbstractEncoder(nn.Module, ABC):
    """An image tower with the transforms that belong to it."""

    settings: EncoderSettings
    feature_dim: int
    embedding_dim: int | None

    @abstractmethod
    def encode_image(self, images: Float[Tensor, "batch 3 height width"], patches: bool = False) -> EncodedImages:
        """Return features (and embeddings, patches where the tower has them) of a batch; B = 0 is answered too."""

    @abstractmethod
    def transform(self, train: bool = False) -> ImageTransform:
        """Return the model's own eval transform, or its training transform; both picklable."""

    @abstractmethod
    def weights_hash(self) -> str:
        """Return the sha256 (hex) of the names, shapes, types and bytes of all weights."""
