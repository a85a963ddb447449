"""Image towers of open_clip, each split into a feature extractor and a projection into the joint space.

The towers differ in where the projection sits; an adapter per family knows that. Adapters hold a tower without owning
it: they are no modules, so no weight is registered twice.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

VisionLanguageModel: TypeAlias = Any
"""open_clip's CLIP, CustomTextCLIP or CoCa: they share no class, and open_clip has no types."""


@dataclass(frozen=True)
class ImageTower(ABC):
    """An image tower in two stages: `project(features(images))` equals open_clip's `encode_image`.

    Attributes:
        feature_dim: F, width of the features.
        embedding_dim: D, width of the joint space.
        patches: P, number of patch embeddings of an image; None if the tower gives none.
    """

    feature_dim: int
    embedding_dim: int
    patches: int | None

    @abstractmethod
    def features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the pooled features (B, F) and, from the same pass, the patch features (B, P, F) if there are any."""

    @abstractmethod
    def project(self, features: Tensor) -> Tensor:
        """Return features (..., F) in the joint space (..., D), not normalised."""


@dataclass(frozen=True)
class TransformerTower(ImageTower):
    """open_clip's own ViT: features after the last LayerNorm and pooling, projected by a matrix.

    Patch features are the last layer's tokens, class token left out, after the last LayerNorm: the plain form, not
    the value path of GL-MCM and LoCoOp.
    """

    visual: Any

    def features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return pooled features and tokens."""
        pooled, tokens = self.visual._pool(self.visual.transformer(self.visual._embeds(images)))
        if self.patches is None:
            return pooled, None
        # Pooled before the LayerNorm (CLIPA), the tokens have not seen it yet.
        return pooled, self.visual.ln_post(tokens) if self.visual.final_ln_after_pool else tokens

    def project(self, features: Tensor) -> Tensor:
        """Return features @ proj; a tower whose projection was removed ends in its features."""
        return features if self.visual.proj is None else features @ self.visual.proj


@dataclass(frozen=True)
class HeadTower(ImageTower):
    """A timm trunk and open_clip's head: pooled features of the trunk, projected by the head's last layers."""

    trunk: nn.Module
    pool: nn.Module
    head: nn.Module

    def features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return pooled features."""
        return self.pool(self.trunk(images)), None

    def project(self, features: Tensor) -> Tensor:
        """Return the head's linear layer or MLP of the features."""
        return cast(Tensor, self.head(features))


@dataclass(frozen=True)
class TrunkTower(ImageTower):
    """A timm trunk that projects with its own classifier (EVA, MobileCLIP, PE), or not at all (SigLIP)."""

    trunk: Any

    def features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the trunk's features before its classifier."""
        return self.trunk.forward_head(self.trunk.forward_features(images), pre_logits=True), None

    def project(self, features: Tensor) -> Tensor:
        """Return the classifier's output."""
        return cast(Tensor, self.trunk.get_classifier()(features))


@dataclass(frozen=True)
class WholeTower(ImageTower):
    """A tower without a separate projection (CLIP's ResNets, anything unknown): its features are its output."""

    model: Any

    def features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the output of `encode_image`, not normalised."""
        return self.model.encode_image(images, normalize=False), None

    def project(self, features: Tensor) -> Tensor:
        """Return the features."""
        return features


def image_tower(model: VisionLanguageModel) -> ImageTower:
    """Return the adapter of a model's image tower."""
    visual = model.visual
    if isinstance(visual, VisionTransformer):
        return _transformer_tower(visual)
    if isinstance(visual, TimmModel):
        return _timm_tower(visual) or _whole_tower(model)
    if isinstance(visual, ModifiedResNet):
        return WholeTower(visual.output_dim, visual.output_dim, None, model)
    return _whole_tower(model)


def _transformer_tower(visual: Any) -> ImageTower:
    feature_dim = visual.ln_post.normalized_shape[0]
    embedding_dim = feature_dim if visual.proj is None else visual.proj.shape[1]
    # Tokens of an attentional pool are its queries, not places in the image.
    patches = math.prod(visual.grid_size) if visual.attn_pool is None else None
    return TransformerTower(feature_dim, embedding_dim, patches, visual)


def _timm_tower(visual: Any) -> ImageTower | None:
    """Return the split of a timm tower, or None where its layers are of another kind."""
    layers = dict(visual.head.named_children())
    pool = layers.pop("pool", nn.Identity())
    if "proj" in layers:
        widths = layers["proj"].in_features, layers["proj"].out_features
    elif "mlp" in layers:
        widths = layers["mlp"].fc1.in_features, layers["mlp"].fc2.out_features
    elif "pool" in dict(visual.head.named_children()):
        return None
    else:
        return _trunk_tower(visual.trunk)
    return HeadTower(*widths, None, visual.trunk, pool, nn.Sequential(*layers.values()))


def _trunk_tower(trunk: Any) -> ImageTower | None:
    classifier = trunk.get_classifier()
    if isinstance(classifier, nn.Identity):
        return TrunkTower(trunk.head_hidden_size, trunk.head_hidden_size, None, trunk)
    if isinstance(classifier, nn.Linear):
        return TrunkTower(classifier.in_features, classifier.out_features, None, trunk)
    return None


def _whole_tower(model: Any) -> ImageTower:
    """Return the adapter of an unknown tower; its width shows only in an output, so one black image is encoded."""
    size = model.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    training = model.training
    with torch.no_grad():
        # In eval mode: the statistics of a BatchNorm must not learn from a black image.
        dim = model.eval().encode_image(torch.zeros(1, 3, height, width), normalize=False).shape[1]
    model.train(training)
    return WholeTower(dim, dim, None, model)
