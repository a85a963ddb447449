"""Which adapter splits the image tower of a model."""

from __future__ import annotations

from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer

from mmood.encoders.timm_towers import timm_tower
from mmood.encoders.towers import ImageTower, ResNetTower, TransformerTower, VisionLanguageModel, WholeTower


def image_tower(model: VisionLanguageModel) -> ImageTower:
    """Return the adapter of a model's image tower."""
    visual = model.visual
    if isinstance(visual, VisionTransformer):
        return _transformer_tower(visual)
    if isinstance(visual, ModifiedResNet):
        return ResNetTower(visual.output_dim, visual.output_dim, visual)
    if isinstance(visual, TimmModel):
        return timm_tower(visual) or _whole_tower(model)
    return _whole_tower(model)


def _transformer_tower(visual: Any) -> ImageTower:
    feature_dim = visual.ln_post.normalized_shape[0]
    embedding_dim = feature_dim if visual.proj is None else visual.proj.shape[1]
    return TransformerTower(feature_dim, embedding_dim, visual)


def _whole_tower(model: Any) -> ImageTower:
    """Return the adapter of an unknown tower; its width shows only in an output, so one black image is encoded."""
    size = model.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    training = model.training
    with torch.no_grad():
        # In eval mode: the statistics of a BatchNorm must not learn from a black image.
        dim = model.eval().encode_image(torch.zeros(1, 3, height, width), normalize=False).shape[1]
    model.train(training)
    return WholeTower(dim, dim, model)
