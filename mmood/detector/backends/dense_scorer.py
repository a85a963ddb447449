"""Scores by torch of a network that scores pixels: an image has the pooled score of its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float32
from PIL.Image import Image
from torch.nn.functional import interpolate, normalize

from mmood.dense.detector import AbstractDenseDetector, enlarged
from mmood.dense.functional import Map, Pooling, pooled
from mmood.dense.scores import AbstractDenseScore
from mmood.detector.scorer import Pixels, Scored
from mmood.images.preprocessing import Preprocessing

LONGEST_SIDE = 128
"""Of a map that is shown: those of all calibration images are in memory at once."""


@final
@dataclass(frozen=True)
class DenseScorer:
    """A scorer of images by their pixels, on a device of torch.

    Attributes:
        module: the network with its weights, on the device, in eval mode.
        score_of_pixels: fitted.
        pooling: how the score of an image comes from those of its pixels.
        pooled_share: which share of the pixels it comes from.
        preprocessing: what the transform does.
    """

    module: AbstractDenseDetector
    score_of_pixels: AbstractDenseScore
    pooling: Pooling
    pooled_share: float
    preprocessing: Preprocessing

    @property
    def on_cpu(self) -> bool:
        """Whether torch computes on the CPU."""
        return self.module.device.type == "cpu"

    def prepare(self, image: Image) -> Float32[np.ndarray, "3 height width"]:
        """Return an RGB image as the network reads it."""
        return self.preprocessing.pixels(image)

    def score(self, pixels: Pixels) -> Scored:
        """Return the arrays of a batch.

        The map of `patches` has a score for each pixel, or for each small square of a large image. The logits are the
        log of the mean probability of each class over the pixels, so their softmax is about the share of the image that
        a class takes; the embedding is that composition, with unit norm.
        """
        device = self.module.device
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            images = torch.from_numpy(pixels).to(device)
            outputs = self.module.outputs(images)
            maps = enlarged(self.score_of_pixels(outputs).float()[None], images[:, 0])[0]
            shares = outputs.logits.softmax(dim=1).mean(dim=(2, 3))
            composition = normalize(shares, dim=1)
            logits = shares.clamp_min(torch.finfo(shares.dtype).tiny).log()
            scores = pooled(maps, self.pooling, self.pooled_share)
        return Scored(scores.cpu().numpy(), logits.cpu().numpy(), composition.cpu().numpy(), patches=maps.cpu().numpy())


def _shown(maps: Map) -> Map:
    """Return maps made smaller, by means over squares, where they are large."""
    height, width = maps.shape[1:]
    share = LONGEST_SIDE / max(height, width)
    if share >= 1:
        return maps
    size = (max(1, round(share * height)), max(1, round(share * width)))
    return interpolate(maps[:, None], size, mode="area")[:, 0]
