"""Image towers of open_clip with a trunk of timm, and the patches of such trunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, cast, final

import torch
from timm.layers import RotAttentionPool2d
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mmood.encoders.patches import Patches, one_by_one, value_path
from mmood.encoders.towers import ImageTower

Trunk: TypeAlias = Any
"""A model of timm: they share no class that has their methods, and timm has no types."""


@dataclass(frozen=True)
class Pooled(ABC):
    """A trunk up to its pooled features.

    Attributes:
        trunk: the model; its classifier plays no part.
    """

    trunk: Trunk

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features (B, F)."""

    @abstractmethod
    def with_patches(self, images: Tensor, patches: Patches) -> tuple[Tensor, Tensor]:
        """Return the pooled features (B, F) and the patch features (B, P, F), from one pass."""

    @abstractmethod
    def grid(self, image_size: tuple[int, int]) -> tuple[int, int] | None:
        """Return the rows and columns of the patches; None if the trunk gives none."""


@final
@dataclass(frozen=True)
class PooledTokens(Pooled):
    """A ViT: the pooled feature is the class token, the mean of the tokens, or what an attention pool makes of them."""

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features."""
        return cast(Tensor, self.trunk.forward_head(self.trunk.forward_features(images), pre_logits=True))

    def with_patches(self, images: Tensor, patches: Patches) -> tuple[Tensor, Tensor]:
        """Return the pooled features, and those of each token after the last norms (and an attention pool, alone)."""
        trunk = self.trunk
        before = max(len(trunk.blocks) - 2, 0)
        tokens, (inner,) = trunk.forward_intermediates(images, indices=[before], output_fmt="NLC")
        if patches == "value":
            local = trunk.norm(value_path(trunk.blocks[-1], inner))
        else:
            local = tokens[:, trunk.num_prefix_tokens :]
        if trunk.attn_pool is not None:
            local = one_by_one(trunk.attn_pool, local)
        return trunk.forward_head(tokens, pre_logits=True), trunk.fc_norm(local)

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int] | None:
        """Return the grid of the tokens; none where the positions of an attention pool are learned."""
        pool = self.trunk.attn_pool
        if len(self.trunk.blocks) < 2 or (pool is not None and pool.pos_embed is not None):
            return None
        rows, columns = self.trunk.patch_embed.grid_size
        return rows, columns


@final
@dataclass(frozen=True)
class PooledMap(Pooled):
    """Any other trunk: each position of its last map goes alone through everything that follows the map.

    For an average pool this is the projection of the position. What the pool needs to know of neighbours is lost.

    Attributes:
        pool: open_clip's attention pool; None where the trunk pools itself.
    """

    pool: nn.Module | None = None

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features."""
        return self._finish(self.trunk.forward_features(images))

    def with_patches(self, images: Tensor, patches: Patches) -> tuple[Tensor, Tensor]:
        """Return the pooled features, and those of each position of the last map."""
        last = self.trunk.forward_features(images)
        if last.shape[1] == self.trunk.num_features:
            positions = last.flatten(2).transpose(1, 2)
            return self._finish(last), one_by_one(lambda rows: self._finish(rows.mT.unsqueeze(-1)), positions)
        return self._finish(last), one_by_one(lambda rows: self._finish(rows.unsqueeze(1)), last.flatten(1, 2))

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int] | None:
        """Return the size of the last map; none if the trunk has no map, or a pool with learned positions."""
        if self.pool is not None and not isinstance(self.pool, RotAttentionPool2d):
            return None
        device = next(self.trunk.parameters()).device
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            # Shapes only: nothing is computed, and no BatchNorm learns.
            shape = self.trunk.forward_features(torch.empty(2, 3, *image_size, device=device)).shape
        if len(shape) != 4 or self.trunk.num_features not in (shape[1], shape[3]):
            return None
        first = 2 if shape[1] == self.trunk.num_features else 1
        return int(shape[first]), int(shape[first + 1])

    def _finish(self, last: Tensor) -> Tensor:
        pooled = self.trunk.forward_head(last, pre_logits=True)
        return cast(Tensor, pooled if self.pool is None else self.pool(pooled))


@final
@dataclass(frozen=True)
class TimmTower(ImageTower):
    """A timm trunk, projected by open_clip's head, by its own classifier (EVA, MobileCLIP, PE), or not (SigLIP).

    Attributes:
        pooled: the trunk.
        head: the projection.
        image_size: (height, width) of the input.
    """

    pooled: Pooled
    head: nn.Module
    image_size: tuple[int, int]

    @cached_property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the patches."""
        return self.pooled.grid(self.image_size)

    @property
    def tokens(self) -> bool:
        """Whether the trunk is a ViT."""
        return isinstance(self.pooled, PooledTokens)

    def features(self, images: Tensor, patches: Patches | None = None) -> tuple[Tensor, Tensor | None]:
        """Return pooled features and patch features."""
        if patches is None:
            return self.pooled.features(images), None
        return self.pooled.with_patches(images, patches)

    def project(self, features: Tensor) -> Tensor:
        """Return the head's output for the features."""
        return cast(Tensor, self.head(features))


def timm_tower(visual: Any) -> ImageTower | None:
    """Return the split of a `TimmModel` of open_clip, or None where its layers are of another kind."""
    layers = dict(visual.head.named_children())
    custom_pool = layers.pop("pool", None)
    head: nn.Module = nn.Sequential(*layers.values())
    if "proj" in layers:
        widths = layers["proj"].in_features, layers["proj"].out_features
    elif "mlp" in layers:
        widths = layers["mlp"].fc1.in_features, layers["mlp"].fc2.out_features
    elif custom_pool is not None:
        widths = custom_pool.out_features, custom_pool.out_features
    else:
        head = visual.trunk.get_classifier()
        if isinstance(head, nn.Identity):
            widths = visual.trunk.head_hidden_size, visual.trunk.head_hidden_size
        elif isinstance(head, nn.Linear):
            widths = head.in_features, head.out_features
        else:
            return None
    return TimmTower(*widths, pooled_trunk(visual.trunk, custom_pool), head, visual.image_size)


def pooled_trunk(trunk: Trunk, pool: nn.Module | None = None) -> Pooled:
    """Return a trunk of timm up to its pooled features, pooled by itself or by an attention pool of open_clip."""
    # Subclasses have other heads (distillation).
    if type(trunk) in (VisionTransformer, Eva) and pool is None:
        return PooledTokens(trunk)
    return PooledMap(trunk, pool)
