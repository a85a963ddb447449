"""The contract of an encoder, and the settings that name one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor, nn

from mmood.encoders.patches import PATCHES, Patches
from mmood.errors import MmoodError
from mmood.files import user_path
from mmood.images.preprocessing import Preprocessing, Resize
from mmood.settings import check_choice

ImageTransform = Callable[[Image], Tensor]

LOCAL = "local-dir:"
"""How the name of a folder in open_clip's form begins."""

TIMM = "timm:"
"""How the name of an image-only encoder begins."""

RANDOM = "random"
"""The value of `pretrained` that asks for seeded random weights: for tests and demonstrations."""


@dataclass(frozen=True)
class EncoderSettings:
    """Which encoder to build.

    Attributes:
        name: an open_clip architecture with its tag (`ViT-B-16/openai`) or without (`ViT-B-16`), `local-dir:FOLDER`,
            `hf-hub:OWNER/MODEL`, or `timm:MODEL` for an image-only encoder.
        pretrained: open_clip's tag of the weights (`openai`, `laion2b_s34b_b88k`), a checkpoint file, or `random` for
            weights drawn from a fixed seed. A tag brings its activation (QuickGELU for `openai`) whatever the name
            says; with a file the name decides (`ViT-B-16-quickgelu`). Must be left out with `local-dir:` and
            `hf-hub:`, which carry their own; left out with `timm:`, it means the weights of the tag in the name (or
            timm's default tag).
        image_size: side of the input in pixels; None for the model's own.
        cache_dir: folder for downloaded weights; None for the library's default.
        crop: smallest and largest share of an image's area in a training crop; the paper's by default. Cropping blurs
            pictures that are no larger than the input: there `[1, 1]`, no crop, trains on what is evaluated.
        patches: the patch embeddings that scores get. `value`, the value path: each position alone through the last
            block, the last norm and the projection (MaskCLIP; GL-MCM and LoCoOp use it), in a convolutional tower each
            position of the last map through the projection. `tokens`: the plain output tokens of a ViT.
    """

    name: str
    pretrained: str | None = None
    image_size: int | None = None
    cache_dir: str | None = None
    crop: tuple[float, float] = (0.9, 1.0)
    patches: Patches = "value"

    def __post_init__(self) -> None:
        # In one key, so that another name does not meet the tag of the model that it replaces.
        if ":" not in self.name and "/" in self.name and self.pretrained is None:
            architecture, _, tag = self.name.partition("/")
            object.__setattr__(self, "name", architecture)
            object.__setattr__(self, "pretrained", tag)
        for key in ("pretrained", "cache_dir"):
            if (value := getattr(self, key)) is not None and value.startswith("~"):
                object.__setattr__(self, key, str(user_path(value)))
        if self.name.startswith(LOCAL):
            object.__setattr__(self, "name", f"{LOCAL}{user_path(self.name.removeprefix(LOCAL))}")
        if self.image_size is not None and self.image_size <= 0:
            raise MmoodError(f"image_size is {self.image_size}, but must be a positive number of pixels.")
        check_choice("model.encoder.patches", self.patches, PATCHES)
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise MmoodError(
                f"`model.encoder.crop` is {list(self.crop)}; give the smallest and the largest share of an image's "
                "area, such as [0.9, 1]."
            )


@dataclass(frozen=True)
class EncodedImages:
    """Output of an image tower; every tensor is float32.

    Attributes:
        features: (B, F) before the projection into the joint space.
        embedding: (B, D) projected, unit L2 norm; None for an image-only encoder.
        patches: (B, P, D) projected local features, unit L2 norm; None unless asked for.
        feature_map: (B, P, F) local features before the projection, as the tower gives them; None unless asked for.
    """

    features: Float[Tensor, "batch features"]
    embedding: Float[Tensor, "batch dim"] | None = None
    patches: Float[Tensor, "batch patches dim"] | None = None
    feature_map: Float[Tensor, "batch patches features"] | None = None


class AbstractEncoder(nn.Module, ABC):
    """An image tower with the transforms that belong to it.

    Attributes:
        settings: what the encoder was built from.
        feature_dim: F, width of the features before projection.
        embedding_dim: D, width of the joint space; None for an image-only encoder.
        image_size: (height, width) of the input in pixels.
        preprocessing: what the eval transform does.
    """

    settings: EncoderSettings
    feature_dim: int
    embedding_dim: int | None
    image_size: tuple[int, int]
    preprocessing: Preprocessing

    @abstractmethod
    def patch_grid(self) -> tuple[int, int]:
        """Return the rows and columns of the patch embeddings of an image, which come row by row.

        Raises:
            MmoodError: the tower gives none, or not those of `settings.patches`.
        """

    @abstractmethod
    def map_grid(self) -> tuple[int, int]:
        """Return the rows and columns of the feature map of an image, whose positions come row by row.

        Raises:
            MmoodError: the tower gives none, or not that of `settings.patches`.
        """

    @abstractmethod
    def encode_image(
        self, images: Float[Tensor, "batch 3 height width"], patches: bool = False, feature_map: bool = False
    ) -> EncodedImages:
        """Return features, embeddings where the tower has them, and what is asked for; B = 0 is answered, too.

        The tower runs under the autocast of the caller; what it returns is float32. Raises MmoodError if `patches` or
        the `feature_map` are asked of a tower that has none.
        """

    @abstractmethod
    def transform(self, train: bool = False) -> ImageTransform:
        """Return the model's own eval transform, or its training transform; both take RGB and can be pickled.

        The training transform is a random resized crop of a share `settings.crop` of the area, bicubic and without a
        flip, with the model's own mean and standard deviation.
        """

    def resize_by(self, resize: Resize) -> None:
        """Let the eval transforms made from now on resize by Pillow or by torch."""
        self.preprocessing = replace(self.preprocessing, resize=resize)

    @abstractmethod
    def weights_hash(self) -> str:
        """Return the sha256 (hex) of the names, types, shapes and bytes of all weights as they are now."""

    @abstractmethod
    def identity(self) -> dict[str, str | int | None]:
        """Return the data to rebuild the encoder and check it: names, weights hash, transform, widths."""
