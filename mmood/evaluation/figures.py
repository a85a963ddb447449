"""What TensorBoard can draw of an evaluation: the table as text, the scores of each set as histograms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from mmood.evaluation.store import SetScores
from mmood.results.model import Results
from mmood.results.tables import to_markdown


def log_figures(loggers: Iterable[Logger], results: Results, found: Mapping[str, SetScores], step: int) -> None:
    """Send table and histograms to every TensorBoard logger; others get the numbers alone.

    All histograms of a score stand under `scores/<score>/`, one per set, so that TensorBoard shows them side by side.
    Infinite scores are left out of a histogram, which has no place for them.
    """
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            continue
        board = logger.experiment
        board.add_text(f"results/{results.stage}", to_markdown(results), step)
        for name, scores in found.items():
            for score in scores.names:
                values = scores.of(score)
                if (values := values[np.isfinite(values)]).size:
                    board.add_histogram(f"scores/{score}/{name}", values, step)
