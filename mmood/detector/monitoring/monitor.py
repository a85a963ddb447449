"""`mmood monitor`: windows of decisions against the calibration, and a rule for an alarm with a stated rate."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mmood.detector.calibration import (
    EMBEDDINGS_FILE,
    Calibration,
    CalibrationEmbeddings,
    read_embeddings,
    ties_at_threshold,
)
from mmood.detector.manifest import check_file, manifest_hash, read_manifest
from mmood.detector.monitoring.drift import (
    ScoreShift,
    ShareBelow,
    energy_test,
    holm,
    mean_cosine,
    score_shift,
    share_below,
)
from mmood.detector.monitoring.windows import Window, read_windows
from mmood.errors import MmoodError
from mmood.files import write_atomically
from mmood.settings import check_count

SCHEMA = 1
SAMPLE = 500
"""Images of a window that the energy test takes at most; of the calibration it takes all that the detector keeps."""

_CHUNK = 2**14
_LEAST_RATE = 0.001  # what a permutation test of some 10,000 permutations can still tell
NO_IMAGE = "no readable image"


@dataclass(frozen=True)
class Rule:
    """When a window raises an alarm: if one of its tests does so at this rate after Holm's correction.

    Attributes:
        false_alarms: the share of windows without any change that raise an alarm, at most.
        seed: of the images that the energy test takes, and of its permutations.
    """

    false_alarms: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if not _LEAST_RATE <= self.false_alarms < 1:
            raise MmoodError(
                f"--false_alarms is {self.false_alarms}; it is a share of the windows, at least {_LEAST_RATE} and "
                "below 1."
            )
        check_count("--seed", self.seed, least=0)

    @property
    def permutations(self) -> int:
        """How many the energy test draws: enough for a p-value of a tenth of the rate."""
        return max(999, math.ceil(10 / self.false_alarms) - 1)


@dataclass(frozen=True)
class EmbeddingShift:
    """How the embeddings of a window differ from those of the calibration.

    Attributes:
        cosine: of the window's mean embedding with that of the calibration.
        cosine_expected: about what it is without any change; it is lower for small windows.
        energy: energy distance of images of the window from images of the calibration.
        p_value: of the permutation test with it.
        sample: images of the window, and of the calibration, that the test took.
    """

    cosine: float
    cosine_expected: float
    energy: float
    p_value: float
    sample: tuple[int, int]


@dataclass(frozen=True)
class Finding:
    """What a window shows.

    Attributes:
        window: its name.
        images, broken: how many have a decision, and how many have none.
        below: the share below the threshold; None without an image, as all that follows.
        scores: how the scores moved.
        embeddings: how the embeddings moved; None also where none were kept.
        adjusted: p-value of each test after Holm's correction.
        because: the tests that raise an alarm.
    """

    window: str
    images: int
    broken: int
    below: ShareBelow | None = None
    scores: ScoreShift | None = None
    embeddings: EmbeddingShift | None = None
    adjusted: dict[str, float] = field(default_factory=dict)
    because: tuple[str, ...] = (NO_IMAGE,)

    @property
    def alarm(self) -> bool:
        """Whether the window raises an alarm."""
        return bool(self.because)


@dataclass(frozen=True)
class Reference:
    """The detector as a monitor reads it: without its tower.

    Attributes:
        folder: of the detector.
        score: name of its score.
        sha256: of its manifest.
        calibration: scores and threshold.
        embeddings: of the calibration images.
    """

    folder: Path
    score: str
    sha256: str
    calibration: Calibration
    embeddings: CalibrationEmbeddings

    @classmethod
    def read(cls, folder: Path) -> Reference:
        """Return that of a detector folder; MmoodError if it is not a detector, or is damaged."""
        manifest = read_manifest(folder)
        if manifest.stream is not None:
            raise MmoodError(
                f"{folder} decides with the test-time score '{manifest.score.name}', whose calibration moves with its "
                "memory, so its decisions cannot be compared with one calibration; monitor a score of single images."
            )
        assert manifest.calibration is not None, "what is written is calibrated"
        check_file(folder, manifest, EMBEDDINGS_FILE)
        return cls(folder, manifest.score.name, manifest_hash(folder), manifest.calibration, read_embeddings(folder))


def monitor(reference: Reference, paths: Iterable[Path], rows: int | None, rule: Rule) -> list[Finding]:
    """Return what each window shows, in order.

    Args:
        reference: the detector.
        paths: files of decisions.
        rows: of a window; None for a window for each file.
        rule: when there is an alarm.

    Raises:
        MmoodError: a file holds no decisions of this detector.
    """
    if rows is not None and rows < 1:
        raise MmoodError(f"--window is {rows}; it is a number of rows, at least 1.")
    width = len(reference.embeddings.mean)
    windows = (window for path in paths for window in read_windows(path, rows, reference.calibration, width))
    return [examine(window, reference, rule) for window in windows]


def examine(window: Window, reference: Reference, rule: Rule) -> Finding:
    """Return what a window shows."""
    images = len(window.scores)
    finding = Finding(window.name, images, window.broken)
    if not images:
        return finding
    calibration = reference.calibration
    rejected = int((~calibration.accepts(window.scores)).sum())
    below = share_below(rejected, images, len(calibration.scores), calibration.rank)
    scores = score_shift(window.scores, calibration.scores)
    tests = {"share below": below.p_value, "scores": scores.p_value}
    embeddings = None
    if window.embeddings is not None:
        embeddings = _embedding_shift(window, window.embeddings, reference.embeddings, rule)
        tests["embeddings"] = embeddings.p_value
    adjusted = holm(tests)
    because = tuple(test for test in tests if adjusted[test] <= rule.false_alarms)
    return replace(finding, below=below, scores=scores, embeddings=embeddings, adjusted=adjusted, because=because)


def _embedding_shift(
    window: Window, rows: Float[np.ndarray, "images dim"], calibration: CalibrationEmbeddings, rule: Rule
) -> EmbeddingShift:
    total = np.zeros(rows.shape[1])
    for start in range(0, len(rows), _CHUNK):
        total += rows[start : start + _CHUNK].sum(axis=0, dtype=np.float64)
    if not np.isfinite(total).all():
        raise MmoodError(f"The embeddings of {window.name} are not all finite.")
    # The same draw for a window whichever others stand beside it.
    generator = np.random.default_rng(rule.seed)
    ours, theirs = _sample(rows, generator), calibration.sample
    cosine, expected = mean_cosine(total / len(rows), calibration.mean, len(rows))
    energy, p_value = energy_test(ours, theirs, rule.permutations, generator)
    return EmbeddingShift(cosine, expected, energy, p_value, (len(ours), len(theirs)))


def _sample(rows: Float[np.ndarray, "images dim"], generator: np.random.Generator) -> Float[np.ndarray, "sample dim"]:
    if len(rows) <= SAMPLE:
        return rows
    return rows[np.sort(generator.choice(len(rows), SAMPLE, replace=False))]


def write_findings(path: Path, findings: Sequence[Finding], reference: Reference, rule: Rule) -> None:
    """Write everything as JSON."""
    document = {
        "schema": SCHEMA,
        "detector": {
            "folder": str(reference.folder),
            "sha256": reference.sha256,
            "score": reference.score,
            "threshold": reference.calibration.threshold,
            "id_recall": reference.calibration.id_recall,
            "calibration_images": len(reference.calibration.scores),
            "ties": ties_at_threshold(reference.calibration),
        },
        "rule": {**asdict(rule), "correction": "holm", "permutations": rule.permutations, "sample": SAMPLE},
        "alarm": any(finding.alarm for finding in findings),
        "windows": [{"alarm": finding.alarm, **asdict(finding)} for finding in findings],
    }
    write_atomically(path, f"{json.dumps(document, indent=1, allow_nan=False)}\n".encode())
