"""A detector from its folder, whichever kind it is."""

from __future__ import annotations

from pathlib import Path

from mmood.detector.detector import Detector
from mmood.detector.face import AbstractDecider
from mmood.detector.manifest import read_manifest


def load_detector(folder: Path, device: str | None = None) -> AbstractDecider:
    """Return the detector in a folder: a `StreamDetector` if its score learns from what it sees, else a `Detector`.

    Raises:
        MmoodError: it is not a detector, is damaged, belongs to another version, or its tower is not there.
    """
    if read_manifest(folder).stream is None:
        return Detector.load(folder, device)
    from mmood.detector.streams import StreamDetector

    return StreamDetector.load(folder, device)
