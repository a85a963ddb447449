"""One score over one stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32

from mmood.errors import MmoodError
from mmood.evaluation.streams.order import StreamOrder
from mmood.evaluation.streams.source import StreamSource
from mmood.scores.test_time.base import AnyStreamScore


@dataclass(frozen=True)
class StreamName:
    """Which stream this is, for messages, files and tables: a score, the OoD set and the seed."""

    score: str
    set: str
    seed: int

    def __str__(self) -> str:
        return f"{self.score}, {self.set}, seed {self.seed}"


@dataclass(frozen=True)
class StreamScores:
    """What a score said of every image, in the order of the stream.

    Attributes:
        name: of the stream.
        order: the images.
        score: (N,) higher = more in-distribution, free of NaN.
    """

    name: StreamName
    order: StreamOrder
    score: Float32[np.ndarray, " images"]

    def of(self, ood: bool) -> Float32[np.ndarray, " side"]:
        """Return the scores of the OoD or of the ID images."""
        side: Float32[np.ndarray, " side"] = self.score[self.order.ood == ood]
        return side


def run_stream(
    score: AnyStreamScore,
    name: StreamName,
    source: StreamSource,
    order: StreamOrder,
    batch_size: int,
    advance: Callable[[int], object],
) -> StreamScores:
    """Return the scores of a stream; the score keeps its memory.

    Steps run in float32, outside autocast and inference mode: a score may differentiate.

    Args:
        score: fitted and reset.
        name: of the stream.
        source: of the images.
        order: of the images.
        batch_size: images per step.
        advance: told the number of images after each step.

    Raises:
        MmoodError: a score is NaN, or a step does not answer each image of its batch once.
    """
    found = [np.empty(0, dtype=np.float32)]
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(source.device.type, enabled=False):
        for part in order.batches(batch_size):
            values = score.step(source.embedded(part)).float().cpu().numpy()
            _check(name, part, values)
            found.append(values)
            advance(len(part))
    return StreamScores(name, order, np.concatenate(found))


def check_complete(name: StreamName, order: StreamOrder, wanted: tuple[int, int]) -> None:
    """Raise MmoodError unless every key of a side comes once, and each side has the number that is wanted.

    Args:
        name: of the stream.
        order: the images as they were scored.
        wanted: number of ID and of OoD images.
    """
    for side, inside, count in (("ID", ~order.ood, wanted[0]), ("OoD", order.ood, wanted[1])):
        different = len(np.unique(order.key[inside]))
        if not different == inside.sum() == count:
            raise MmoodError(
                f"The stream {name} has {inside.sum()} {side} images with {different} different keys, but should have "
                f"{count}; every image must be scored exactly once."
            )


def _check(name: StreamName, part: StreamOrder, values: Float32[np.ndarray, " batch"]) -> None:
    if values.shape != (len(part),):
        raise MmoodError(
            f"Score '{name.score}' returned values of shape {values.shape} for {len(part)} images ({name}); a step "
            "must return one value for each image."
        )
    nan: Bool[np.ndarray, " batch"] = np.isnan(values)
    if nan.any():
        first = int(nan.argmax())
        side = "OoD" if part.ood[first] else "ID"
        raise MmoodError(
            f"Score '{name.score}' is NaN on the stream of '{name.set}' with seed {name.seed}, first for the {side} "
            f"image with key {part.key[first]}; a score must be a number or an infinity."
        )
