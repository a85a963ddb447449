"""A stream score in production: images as they come, their scores at once, a memory that survives the process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self, final

import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from mmood.classes.names import class_names_hash
from mmood.detector.building.from_settings import module_from_settings
from mmood.detector.state_file import read_state, write_state
from mmood.errors import MmoodError
from mmood.images.rgb import Exif, to_rgb
from mmood.loading.batch import Batch
from mmood.modules.base import AbstractDetector
from mmood.scores.test_time.base import AnyStreamScore

# Names of the encoder: two of them may mean the same weights.
_NAMES = ("name", "pretrained")


@final
class StreamDetector:
    """Scores images one batch after another with a score that learns from them.

    What comes in one call of `step` is one batch of the stream; the numbers depend on how images are put into batches.

    Args:
        detector: with its weights, on its device. Its scores are fitted now.
        score: the name of a stream score in `model.scores`; None if there is only one.
        exif: whether PIL images are turned as their cameras noted, as `predict` does, or not, as `test` does.

    Raises:
        MmoodError: there is no such score, or one cannot be fitted.
    """

    def __init__(self, detector: AbstractDetector, score: str | None = None, exif: Exif = "apply") -> None:
        self.exif: Exif = exif
        self.name, self.score = _chosen(dict(detector.stream_scores()), score)
        self.detector = detector.eval()
        detector.fit_scores()
        self._belongs_to = _owner(detector, self.score)
        self.reset()

    @classmethod
    def from_settings(
        cls, arguments: Sequence[str], score: str | None = None, checkpoint: str | Path | None = None
    ) -> Self:
        """Return the detector that `mmood test` would evaluate with these arguments.

        Args:
            arguments: as on the command line, such as `["--config", "vitb16_adaneg.yaml", "--data.root", "shards"]`.
            score: see the class.
            checkpoint: a fine-tuned model; its settings come first, as with `--ckpt_path`.
        """
        detector, data = module_from_settings(arguments, checkpoint)
        return cls(detector, score, data.exif or "apply")

    def reset(self, seed: int = 0) -> None:
        """Forget the stream; `seed` is that of the score's private generators."""
        self.score.reset(seed)

    def step(self, images: Sequence[Image] | Float[Tensor, "batch 3 height width"]) -> Float[Tensor, " batch"]:
        """Return the scores of the next batch, on the CPU, higher = more in-distribution, and learn from it.

        Args:
            images: PIL images of any mode, or a tensor that the detector's transform has made.

        Raises:
            ImageError: an image cannot be used; nothing was learned from its batch.
        """
        if not len(images):
            return torch.empty(0)
        detector = self.detector
        if not isinstance(images, Tensor):
            transform = detector.image_transform(train=False)
            images = torch.stack([transform(to_rgb(image, self.exif)) for image in images])
        nothing = torch.full((len(images),), -1, device=detector.device)
        batch = Batch(image=images.to(detector.device), label=nothing, key=nothing)
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(detector.device.type, enabled=False):
            return self.score.step(detector.embed(batch)).float().cpu()

    def save(self, path: str | Path) -> None:
        """Write what the score remembers to a safetensors file, whole or not at all."""
        write_state(Path(path), self.score.state(), self._belongs_to)

    def load(self, path: str | Path) -> None:
        """Go on where the stream was saved, in this process or another.

        Raises:
            MmoodError: there is no state, or it is one of another score, encoder, list of classes or of words.
        """
        self.score.load_state(read_state(Path(path), self._belongs_to))


def _chosen(scores: dict[str, AnyStreamScore], name: str | None) -> tuple[str, AnyStreamScore]:
    known = ", ".join(scores) or "none"
    if name is None and len(scores) != 1:
        raise MmoodError(f"A StreamDetector runs one stream score, and model.scores has {known}; say which.")
    if name is not None and name not in scores:
        raise MmoodError(f"There is no stream score '{name}' in model.scores; there is {known}.")
    return (name, scores[name]) if name is not None else next(iter(scores.items()))


def _owner(detector: AbstractDetector, score: AnyStreamScore) -> dict[str, object]:
    encoder = {key: value for key, value in detector.encoder.identity().items() if key not in _NAMES}
    return {
        "score": type(score).__name__,
        "settings": score.record(),
        "encoder": encoder,
        "detector": {"class": type(detector).__name__, **detector.own_record()},
        "class names (sha256)": class_names_hash(detector.class_names),
    }
