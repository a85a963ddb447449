"""SIGTERM in an evaluation: it ends."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn, final

from lightning.pytorch import Callback, LightningModule, Trainer

EXIT_CODE = 128 + signal.SIGTERM


@final
class EndAtSigterm(Callback):
    """Ends an evaluation when it is asked to by SIGTERM; a training stays in Lightning's hands.

    Lightning only notes the signal and looks at its note between two batches: while scores are fitted, and while
    streams run, nothing would come of it. An evaluation has nothing to save, as its results are written at its end.
    """

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signal, unless a training validates."""
        if trainer.state.fn == "validate":
            signal.signal(signal.SIGTERM, _end)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signal."""
        signal.signal(signal.SIGTERM, _end)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signal."""
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    print("mmood: ended by SIGTERM before there were results.", file=sys.stderr, flush=True)
    raise SystemExit(EXIT_CODE)
