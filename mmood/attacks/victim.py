"""A detector as an attack sees it: from pixels in [0, 1] through normalisation, tower and head to a score."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mmood.attacks.budget import LEVELS, Images, Levels
from mmood.attacks.search import Objective
from mmood.encoders import ImageTransform
from mmood.encoders.transforms import eval_transform
from mmood.errors import MmoodError
from mmood.loading.batch import Batch
from mmood.modules.base import AbstractDetector
from mmood.modules.evaluated import Scored
from mmood.scores.base import AbstractScore, Embedded
from mmood.scores.test_time.base import AbstractStreamScore


@final
@dataclass(frozen=True)
class Victim:
    """A detector with fitted scores.

    Attributes:
        module: the detector, on its device, its weights constant.
        autocast: the precision of the tower.
        transform: from an image to its input, for a detector that sees images which were attacked for another one; None
            for the one that they were attacked for, whose inputs they are.
    """

    module: AbstractDetector
    autocast: Callable[[], AbstractContextManager[object]]
    transform: ImageTransform | None = None

    def normalised(self, pixels: Images) -> Images:
        """Return pixels in [0, 1] as the tower takes them: what the eval transform does after resize and crop."""
        preprocessing = self.module.encoder.preprocessing
        mean, std = (pixels.new_tensor(each)[:, None, None] for each in (preprocessing.mean, preprocessing.std))
        return (pixels - mean) / std

    def embedded(self, inputs: Images) -> Embedded:
        """Return what the scores read of inputs of the tower."""
        nothing = torch.empty(0, dtype=torch.int64)
        with self.autocast():
            return self.module.embed(Batch(image=inputs, label=nothing, key=nothing))

    def objective(self, name: str, sign: int) -> Objective:
        """Return from pixels to the objective of a score, to be raised (`sign` 1) or lowered (-1)."""
        score = dict(self.module.static_scores())[name]

        def of(pixels: Images) -> Float[Tensor, " batch"]:
            embedded = self.embedded(self.normalised(pixels))
            with torch.autocast(pixels.device.type, enabled=False):
                return sign * score.objective(embedded)

        return of

    def features(self, pixels: Images) -> Float[Tensor, "batch features"]:
        """Return the features of pixels, before the projection."""
        return self.embedded(self.normalised(pixels)).features

    @torch.no_grad()
    def scored(self, levels: Levels, key: Tensor, label: Tensor) -> Scored:
        """Return the static scores of 8-bit images."""
        device = self.module.device
        if self.transform is None:
            inputs = self.normalised(pixels_of(levels).to(device))
        else:
            inputs = torch.stack([self.transform(picture_of(image)) for image in levels]).to(device)
        with self.autocast():
            batch = Batch(image=inputs, label=label.to(device), key=key.to(device))
            return self.module.evaluate(batch).scored


def pixels_of(levels: Levels) -> Images:
    """Return levels of 8 bits as pixels in [0, 1], divided as the eval transforms divide them."""
    return levels.float() / LEVELS


def picture_of(levels: Tensor) -> Image.Image:
    """Return an image of (3, height, width) levels as a picture."""
    return Image.fromarray(levels.permute(1, 2, 0).to(torch.uint8).contiguous().numpy())


def pixel_transform(module: AbstractDetector) -> ImageTransform:
    """Return the eval transform up to the normalisation: RGB image -> pixels in [0, 1].

    Raises:
        MmoodError: this kind of transform is not known apart from its normalisation.
    """
    preprocessing = module.encoder.preprocessing
    preprocessing.check()
    nothing = tuple(0.0 for _ in preprocessing.mean), tuple(1.0 for _ in preprocessing.std)
    return eval_transform(replace(preprocessing, mean=nothing[0], std=nothing[1]))


def keeps_size(module: AbstractDetector) -> bool:
    """Return whether the eval transform leaves an image of the tower's own size as it is."""
    height, width = module.encoder.image_size
    noise = torch.randint(256, (3, height, width), generator=torch.Generator().manual_seed(0))
    return torch.equal((LEVELS * pixel_transform(module)(picture_of(noise))).round().long(), noise)


def attacked_scores(module: AbstractDetector, chosen: list[str] | None) -> list[str]:
    """Return the names of the scores to attack: those chosen, or all of the detector.

    Raises:
        MmoodError: a score is unknown, or no gradient leads through it; names those that can be attacked.
    """
    known = dict(module.named_scores())
    possible = [name for name, score in known.items() if is_differentiable(score)]
    can = f"these can be attacked: {', '.join(possible)}" if possible else "no score of the config can be attacked"
    for name in chosen or known:
        if name not in known:
            raise MmoodError(f"--score is '{name:.80}', which is no score of the config; {can}.")
        if name not in possible:
            raise MmoodError(
                f"No gradient leads through the score '{name}' ({type(known[name]).__name__}), so it cannot be "
                f"attacked; {can} (--score NAME ...)."
            )
    if not known:
        raise MmoodError("The config has no scores (`model.scores`), so there is nothing to attack.")
    return list(dict.fromkeys(chosen or known))


def is_differentiable(score: AbstractScore) -> bool:
    """Return whether a score can be attacked: it depends on one image alone, and has a gradient."""
    return score.differentiable and not isinstance(score, AbstractStreamScore)
