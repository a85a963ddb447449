"""Whether the world has changed since a detector was calibrated: decisions in windows against the calibration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from scipy import stats
from scipy.spatial.distance import cdist

from mmood.detector.conformal import Calibration, coverage_band
from mmood.detector.embeddings import CalibrationEmbeddings
from mmood.detector.scorer import batched
from mmood.detector.tables import Table, read_rows
from mmood.errors import MmoodError

BINS = 10
PERMUTATIONS = 199
_SAMPLE = 300

Rows = Float32[np.ndarray, "images dim"]


@dataclass(frozen=True)
class Window:
    """What a window of images shows.

    Attributes:
        first: number of its first row, from 1.
        images: that could be read.
        broken: that could not.
        rejected: share of the images below the threshold.
        low, high: exact binomial interval of that share (Clopper & Pearson), at a level of 95 %.
        expected: share of ID images below the threshold, by the calibration.
        rejected_p: probability that as many or more ID images are rejected (beta-binomial: the calibration's own error
            counts).
        psi: population stability index of the scores, over the deciles of the calibration scores.
        ks: two-sample Kolmogorov-Smirnov distance of the scores from the calibration scores.
        ks_p: its p-value.
        cosine: of the mean embeddings; None without embeddings.
        energy: energy distance of the embeddings from those of the calibration; None without embeddings.
        energy_p: its p-value, by permutation.
        alarms: which tests alarm.
    """

    first: int
    images: int
    broken: int
    rejected: float
    low: float
    high: float
    expected: float
    rejected_p: float
    psi: float
    ks: float
    ks_p: float
    cosine: float | None
    energy: float | None
    energy_p: float | None
    alarms: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the fields as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Reference:
    """What windows are compared with.

    Attributes:
        calibration: scores and threshold.
        embeddings: of calibration images; None to leave embeddings out.
        rate: of false alarms, for a window of ID images, over all tests together.
    """

    calibration: Calibration
    embeddings: CalibrationEmbeddings | None
    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise MmoodError(f"--false_alarms is {self.rate}; it is a rate, between 0 and 1.")
        if self.embeddings is not None and self.rate / 3 < 1 / (PERMUTATIONS + 1):
            raise MmoodError(
                f"--false_alarms is {self.rate:g}, and the test of embeddings has no p-value below "
                f"{1 / (PERMUTATIONS + 1):g}; give at least {3 / (PERMUTATIONS + 1):g}, or leave embeddings out."
            )


def windows(paths: Iterable[Path], reference: Reference, size: int) -> Iterator[Window]:
    """Yield what each window of `size` rows shows, over all files of decisions in order; the last may be smaller.

    Raises:
        MmoodError: a file holds no decisions, or its embeddings do not fit.
    """
    if size < 20:
        raise MmoodError(f"--window is {size}; fewer than 20 images tell nothing.")
    rows = (entry for path in paths for entry in _with_embeddings(path, reference.embeddings))
    for number, chunk in enumerate(batched(rows, size)):
        if len(chunk) < 20 and number:
            return  # the rest of a stream is no window
        yield _window(number * size + 1, chunk, reference)


def false_alarm_levels(reference: Reference) -> float:
    """Return the level of each test, by Bonferroni's correction: together they keep the rate of false alarms."""
    return reference.rate / (2 if reference.embeddings is None else 3)


def population_stability(scores: np.ndarray, calibration: np.ndarray, bins: int = BINS) -> float:
    """Return the population stability index sum (a - e) log(a / e) over equal shares e of the calibration scores.

    Half an image is added to every bin, so that an empty one is no infinity.

    >>> population_stability(np.arange(100.0), np.arange(100.0)) < 1e-9
    True
    """
    edges = np.quantile(calibration, np.linspace(0, 1, bins + 1)[1:-1])
    shares = []
    for values in (scores, calibration):
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=bins) + 0.5
        shares.append(counts / counts.sum())
    actual, expected = shares
    return float(((actual - expected) * np.log(actual / expected)).sum())


def energy_test(sample: Rows, other: Rows, seed: int = 0, permutations: int = PERMUTATIONS) -> tuple[float, float]:
    """Return the energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| of two samples, and its p-value by permutation.

    All pairs of distances are computed once (Szekely & Rizzo, 2013). The p-value is (1 + #{permuted >= found}) /
    (1 + permutations): exact where the two samples are exchangeable.
    """
    pooled = np.concatenate([sample, other]).astype(np.float64)
    distances = cdist(pooled, pooled)
    generator = np.random.default_rng(seed)
    found = _energy(distances, np.arange(len(sample)))
    orders = (generator.permutation(len(pooled))[: len(sample)] for _ in range(permutations))
    larger = sum(_energy(distances, chosen) >= found - 1e-12 for chosen in orders)
    return found, (1 + larger) / (1 + permutations)


def _energy(distances: np.ndarray, chosen: np.ndarray) -> float:
    inside = np.zeros(len(distances))
    inside[chosen] = 1
    outside = 1 - inside
    n, m = inside.sum(), outside.sum()
    to_inside = distances @ inside
    between = outside @ to_inside / (n * m)
    within = inside @ to_inside / n**2 + outside @ (distances @ outside) / m**2
    return float(2 * between - within)


def _window(first: int, chunk: list[tuple[dict[str, object], np.ndarray | None]], reference: Reference) -> Window:
    calibration = reference.calibration
    readable = [(row, embedding) for row, embedding in chunk if row["status"] == "ok"]
    if not readable:
        raise MmoodError(f"The rows {first} to {first + len(chunk) - 1} hold no image that could be read.")
    scores = np.array([row["score"] for row, _ in readable], dtype=np.float32)
    n, rejected = len(scores), int((~calibration.accepts(scores)).sum())
    interval = stats.binomtest(rejected, n).proportion_ci(0.95)
    rank, total = calibration.rank, len(calibration.scores)
    rejected_p = float(stats.betabinom.sf(rejected - 1, n, rank, total + 1 - rank))
    ks = stats.ks_2samp(scores, calibration.scores)
    cosine = energy = energy_p = None
    if reference.embeddings is not None:
        rows = np.stack([embedding for _, embedding in readable if embedding is not None])
        cosine = _cosine(rows.mean(axis=0), reference.embeddings.mean)
        energy, energy_p = energy_test(_thinned(rows), _thinned(reference.embeddings.sample), seed=first)
    level = false_alarm_levels(reference)
    found = {"rejected": rejected_p, "ks": float(ks.pvalue), "energy": energy_p}
    return Window(
        first,
        n,
        len(chunk) - n,
        rejected / n,
        float(interval.low),
        float(interval.high),
        1 - coverage_band(total, calibration.id_recall).mean,
        rejected_p,
        population_stability(scores, calibration.scores),
        float(ks.statistic),
        float(ks.pvalue),
        cosine,
        energy,
        energy_p,
        tuple(name for name, p_value in found.items() if p_value is not None and p_value <= level),
    )


def _with_embeddings(
    path: Path, wanted: CalibrationEmbeddings | None
) -> Iterator[tuple[dict[str, object], np.ndarray | None]]:
    embeddings = None if wanted is None else _embeddings(path, len(wanted.mean))
    place = 0
    for row in read_rows(path):
        if embeddings is None or row["status"] != "ok":
            yield row, None
            continue
        if place >= len(embeddings):
            raise MmoodError(f"{Table(path).embeddings} has {len(embeddings)} rows, and {path} more images.")
        yield row, embeddings[place].astype(np.float32)
        place += 1


def _embeddings(path: Path, width: int) -> np.ndarray:
    file = Table(path).embeddings
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise MmoodError(f"{file} cannot be read: {error}.") from error
    if found.ndim != 2 or found.shape[1] != width or found.dtype != np.float16:
        raise MmoodError(f"{file} holds {found.dtype} {found.shape}; the detector's embeddings have {width} columns.")
    return np.asarray(found)


def _thinned(rows: Rows) -> Rows:
    """Return at most 300 rows, evenly spaced: the test compares all pairs."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).round().astype(np.int64))]


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-12))
