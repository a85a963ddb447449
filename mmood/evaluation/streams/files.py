"""The scores of single images of a stream as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int

from mmood.evaluation.streams.runner import StreamScores
from mmood.files import write_atomically
from mmood.results.arrays import arrays_bytes


def write_stream(folder: Path, run: str, scores: StreamScores, id_label: Int[np.ndarray, " id"]) -> Path:
    """Write `scores/streams/<score>/<set>.<seed>.npz`, its arrays in the order of the stream; returns the path.

    It holds `key` (int64, of the image in its set), `label` (int64, -1 for OoD) and `score` (float32).

    Args:
        folder: the run folder.
        run: id of the run.
        scores: of one stream.
        id_label: class of the ID image with each key.
    """
    order = scores.order
    label = np.where(order.ood, -1, id_label[np.where(order.ood, 0, order.key)])
    path = folder / "scores" / "streams" / scores.name.score / f"{scores.name.set}.{scores.name.seed}.npz"
    write_atomically(path, arrays_bytes({"key": order.key, "label": label, "score": scores.score}, run))
    return path
