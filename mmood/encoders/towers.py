"""Image towers, each split into a feature extractor and a projection into the joint space.

Here are the contract and the adapters of open_clip's own towers, which differ in where the projection sits. Adapters
hold a tower without owning it: they are no modules, so no weight is registered twice.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeAlias, cast, final

from torch import Tensor

from mmood.encoders.patches import Patches, one_by_one, value_path

VisionLanguageModel: TypeAlias = Any
"""open_clip's CLIP, CustomTextCLIP or CoCa: they share no class, and open_clip has no types."""


@dataclass(frozen=True)
class ImageTower(ABC):
    """An image tower in two stages: `project(features(images))` equals open_clip's `encode_image`.

    Attributes:
        feature_dim: F, width of the features.
        embedding_dim: D, width of the joint space.
    """

    feature_dim: int
    embedding_dim: int

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the patch embeddings of an image, row by row; None if the tower gives none."""

    @property
    @abstractmethod
    def tokens(self) -> bool:
        """Whether the patches can be the plain tokens of the last block, too."""

    @property
    def patches(self) -> int | None:
        """P, number of patch embeddings of an image; None if the tower gives none."""
        return None if self.grid is None else math.prod(self.grid)

    @abstractmethod
    def features(self, images: Tensor, patches: Patches | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the pooled features (B, F) and, from the same pass, the patch features (B, P, F) if asked for."""

    @abstractmethod
    def project(self, features: Tensor) -> Tensor:
        """Return features (..., F) in the joint space (..., D), not normalised."""


@final
@dataclass(frozen=True)
class TransformerTower(ImageTower):
    """open_clip's own ViT: features after the last LayerNorm and pooling, projected by a matrix.

    Patch features of a tower with attentional pooling (CoCa) are its tokens, each pooled alone.

    Attributes:
        visual: the ViT.
    """

    visual: Any

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the tokens; None with two attention pools, which open_clip calls untested."""
        visual = self.visual
        two_pools = visual.attn_pool is not None and visual.attn_pool_contrastive is not None
        return None if two_pools else visual.grid_size

    @property
    def tokens(self) -> bool:
        """True: a ViT has tokens."""
        return True

    def features(self, images: Tensor, patches: Patches | None = None) -> tuple[Tensor, Tensor | None]:
        """Return pooled features and tokens."""
        visual = self.visual
        embedded = visual._embeds(images)
        if patches is None:
            return visual._pool(visual.transformer(embedded))[0], None
        *blocks, last = visual.transformer.resblocks
        for block in blocks:
            embedded = block(embedded)
        tokens = last(embedded)
        local = value_path(last, embedded) if patches == "value" else tokens
        return visual._pool(tokens)[0], self._patches(local[:, 1:])

    def project(self, features: Tensor) -> Tensor:
        """Return features @ proj; a tower whose projection was removed ends in its features."""
        return features if self.visual.proj is None else features @ self.visual.proj

    def _patches(self, tokens: Tensor) -> Tensor:
        if self.visual.attn_pool is not None:
            tokens = one_by_one(self._pool_one, tokens)
        return cast(Tensor, self.visual.ln_post(tokens))

    def _pool_one(self, tokens: Tensor) -> Tensor:
        """Return what the attention pool makes of one token (rows, 1, width): the same for every query."""
        pool = self.visual.attn_pool
        keys, query = pool.ln_k(tokens), pool.ln_q(pool.query[:1])
        return cast(Tensor, pool.attn(query.expand(len(keys), -1, -1), keys, keys, need_weights=False)[0][:, 0])


@final
@dataclass(frozen=True)
class ResNetTower(ImageTower):
    """CLIP's ResNet: the attention pool ends in the joint space, so its features are its output.

    A patch is a position of the last map under the value and the output projection of the pool, without positional
    embedding (GL-MCM, arXiv 2304.04521).

    Attributes:
        visual: the ResNet.
    """

    visual: Any

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the last map."""
        side = self.visual.image_size // 32
        return side, side

    @property
    def tokens(self) -> bool:
        """False: it has no blocks of tokens."""
        return False

    def features(self, images: Tensor, patches: Patches | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the output of the attention pool and the patches."""
        visual = self.visual
        last = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images)))))
        if patches is None:
            return visual.attnpool(last), None
        positions = last.flatten(2).transpose(1, 2)
        return visual.attnpool(last), visual.attnpool.c_proj(visual.attnpool.v_proj(positions))

    def project(self, features: Tensor) -> Tensor:
        """Return the features."""
        return features


@final
@dataclass(frozen=True)
class WholeTower(ImageTower):
    """A tower of an unknown family: its features are its output, and it gives no patches.

    Attributes:
        model: open_clip's model.
    """

    model: Any

    @property
    def grid(self) -> tuple[int, int] | None:
        """None."""
        return None

    @property
    def tokens(self) -> bool:
        """False."""
        return False

    def features(self, images: Tensor, patches: Patches | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the output of `encode_image`, not normalised."""
        return self.model.encode_image(images, normalize=False), None

    def project(self, features: Tensor) -> Tensor:
        """Return the features."""
        return features
