"""What kind of detector is wanted; what cannot be is refused before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmood.detector.manifest import check_new
from mmood.settings import check_number


@dataclass(frozen=True)
class Request:
    """What kind of detector is wanted.

    Attributes:
        out: the detector folder.
        score: name of the score; None for the only one.
        id_recall: share of new ID images to accept.
        fraction: share of the ID images to calibrate on.
        copy_weights: put the tower's weights into the folder.

    Raises:
        MmoodError: the folder holds something, or a share is none.
    """

    out: Path
    score: str | None
    id_recall: float
    fraction: float
    copy_weights: bool

    def __post_init__(self) -> None:
        check_new(self.out)
        check_number("--id_recall", self.id_recall, above=0, below=1)
        check_number("--fraction", self.fraction, above=0, most=1)
