"""The progress bar of a run, which names the current set."""

from __future__ import annotations

from typing import final

from lightning.pytorch.callbacks import RichProgressBar


@final
class SetProgressBar(RichProgressBar):
    """Lightning's progress bar with the name of the set, which Lightning leaves out."""

    @property
    def test_description(self) -> str:
        """The title of the bar in a test."""
        return _named("Testing", self.trainer.test_dataloaders, self._current_eval_dataloader_idx)

    @property
    def validation_description(self) -> str:
        """The title of the bar in a validation."""
        return _named("Validation", self.trainer.val_dataloaders, self._current_eval_dataloader_idx)


def _named(what: str, loaders: object, number: int | None) -> str:
    """Return the description for the loader of this number; its name is the set's.

    >>> _named("Testing", {"sun": None, "places": None}, 1)
    'Testing places'
    """
    names = list(loaders) if isinstance(loaders, dict) else []
    return what if number is None or number >= len(names) else f"{what} {names[number]}"
