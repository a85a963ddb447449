"""The metrics of OoD detection, exact over distinct thresholds, as pure numpy functions.

In-distribution (ID) images are label 1 and score high. Scores are compared as they are: no sigmoid, no rounding, and
equal scores are one block that is accepted or rejected as a whole. Infinities are scores like any other; NaN is an
error. Everything is counted in integers and divided once, in float64.

Two quantities go by the name of FPR95, so here each has its own:

* `fpr95_id_pos`, the share of OoD accepted when at least 95 % of ID is accepted;
* `fpr95_ood_pos`, the share of ID rejected when at least 95 % of OoD is rejected.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Num

from mmood.errors import MmoodError


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The five numbers of a comparison of ID with OoD, each in [0, 1]."""

    auroc: float
    aupr_id: float
    aupr_ood: float
    fpr95_id_pos: float
    fpr95_ood_pos: float


@dataclass(frozen=True, kw_only=True)
class OoDMetrics(Rates):
    """The rates of one score on one OoD set, and how many scores they rest on."""

    n_id: int
    n_ood: int


class _Accepted(NamedTuple):
    """How many are accepted at every distinct threshold, the strictest first."""

    positive: Int[np.ndarray, " thresholds"]
    negative: Int[np.ndarray, " thresholds"]


def auroc(id_scores: Num[np.ndarray, " id"], ood_scores: Num[np.ndarray, " ood"]) -> float:
    """Return the area under the ROC curve: P(ID > OoD) + P(ID = OoD) / 2 for a random pair.

    Raises:
        MmoodError: a side is empty or holds NaN.

    >>> auroc(np.array([3.0, 2.0]), np.array([1.0, 2.0]))
    0.875
    """
    return _auroc(_rejecting(_checked(id_scores, "ID"), _checked(ood_scores, "OoD")))


def average_precision(positive: Num[np.ndarray, " positive"], negative: Num[np.ndarray, " negative"]) -> float:
    """Return the area under the precision-recall curve as average precision, where positives should score high.

    The sum over distinct thresholds of precision times gain in recall, without interpolation, as in scikit-learn. The
    trapezoid in its place is optimistic (Davis and Goadrich, ICML 2006). AUPR-ID is `average_precision(id, ood)` and
    AUPR-OoD is `average_precision(-ood, -id)`.

    Raises:
        MmoodError: a side is empty or holds NaN.

    >>> average_precision(np.array([3.0, 1.0]), np.array([2.0, 0.0])) == (1 / 1 + 2 / 3) / 2
    True
    """
    positive, negative = _checked(positive, "positive"), _checked(negative, "negative")
    return _average_precision(_accepting(_rejecting(positive, negative)))


def fpr_at_recall(
    positive: Num[np.ndarray, " positive"], negative: Num[np.ndarray, " negative"], recall: float = 0.95
) -> float:
    """Return the share of negatives accepted at the highest threshold that accepts `recall` of the positives.

    The threshold is a score that occurs; nothing is interpolated. `recall` is meant as written: 0.95 of 20 is 19,
    whatever 0.95 is in binary. `fpr95_id_pos` is `fpr_at_recall(id, ood)`, `fpr95_ood_pos` is
    `fpr_at_recall(-ood, -id)`.

    Raises:
        MmoodError: a side is empty or holds NaN, or `recall` is outside (0, 1].

    >>> fpr_at_recall(np.arange(20.0), np.array([-1.0, 0.0, 0.5, 1.0, 9.0]))
    0.4
    """
    if not 0 < recall <= 1:
        raise MmoodError(f"recall is {recall}; it must be above 0 and at most 1.")
    positive, negative = _checked(positive, "positive"), _checked(negative, "negative")
    return _fpr(_accepting(_rejecting(positive, negative)), recall)


def ood_metrics(id_scores: Num[np.ndarray, " id"], ood_scores: Num[np.ndarray, " ood"]) -> OoDMetrics:
    """Return all metrics of one score on one OoD set, from a single sort.

    Raises:
        MmoodError: a side is empty, holds NaN or masked entries, or is no array of real numbers in one dimension, such
            as one of shape (N, 1) or a tensor that numpy cannot take.

    >>> ood_metrics(np.array([2.0, 3.0, 5.0, 6.0]), np.array([0.0, 1.0, 4.0])).fpr95_id_pos == 1 / 3
    True
    """
    id_sorted, ood_sorted = _checked(id_scores, "ID"), _checked(ood_scores, "OoD")
    rejecting = _rejecting(id_sorted, ood_sorted)
    accepting = _accepting(rejecting)
    return OoDMetrics(
        n_id=len(id_sorted),
        n_ood=len(ood_sorted),
        auroc=_auroc(rejecting),
        aupr_id=_average_precision(accepting),
        aupr_ood=_average_precision(rejecting),
        fpr95_id_pos=_fpr(accepting, 0.95),
        fpr95_ood_pos=_fpr(rejecting, 0.95),
    )


def accuracy(label: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"]) -> float:
    """Return the share of ID images whose predicted class is their label.

    Raises:
        MmoodError: there are no images, or labels and predictions are not two arrays of the same length.

    >>> accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2]))
    0.75
    """
    label, predicted = _numbers(label, "labels"), _numbers(predicted, "predicted classes")
    if len(label) != len(predicted):
        raise MmoodError(
            f"There are {len(label)} labels and {len(predicted)} predicted classes; each image needs both."
        )
    if not len(label):
        raise MmoodError("There are no images to compute an accuracy from; it needs at least one.")
    return int(np.count_nonzero(label == predicted)) / len(label)


def mean_rates(rates: Sequence[Rates]) -> Rates:
    """Return the unweighted mean of `rates`, of which there is at least one.

    >>> one, two = (Rates(auroc=a, aupr_id=a, aupr_ood=a, fpr95_id_pos=a, fpr95_ood_pos=a) for a in (0.5, 1.0))
    >>> mean_rates([one, two]).auroc
    0.75
    """
    return Rates(
        auroc=math.fsum(r.auroc for r in rates) / len(rates),
        aupr_id=math.fsum(r.aupr_id for r in rates) / len(rates),
        aupr_ood=math.fsum(r.aupr_ood for r in rates) / len(rates),
        fpr95_id_pos=math.fsum(r.fpr95_id_pos for r in rates) / len(rates),
        fpr95_ood_pos=math.fsum(r.fpr95_ood_pos for r in rates) / len(rates),
    )


def group_means(rows: Iterable[tuple[str, str, Rates]]) -> dict[str, Rates]:
    """Return the mean rates of one score for each group of sets, and for "all" of them.

    Every set weighs the same, whatever its size (sets are never pooled). Several rows of one set, such as the seeds
    of a test-time adaptive score, count together as that one set.

    Args:
        rows: (group, set, rates of the set).

    Raises:
        MmoodError: a group is itself called "all".

    >>> sun, dtd = (Rates(auroc=a, aupr_id=a, aupr_ood=a, fpr95_id_pos=a, fpr95_ood_pos=a) for a in (0.5, 1.0))
    >>> {group: mean.auroc for group, mean in group_means([("far", "sun", sun), ("far", "dtd", dtd)]).items()}
    {'far': 0.75, 'all': 0.75}
    """
    sets: dict[tuple[str, str], list[Rates]] = {}
    for group, name, rates in rows:
        sets.setdefault((group, name), []).append(rates)
    groups: dict[str, list[Rates]] = {}
    for (group, _), seeds in sets.items():
        groups.setdefault(group, []).append(mean_rates(seeds))
    if "all" in groups:
        raise MmoodError("A group of OoD sets is called 'all', which is the name of the mean over all groups.")
    everything = [rates for members in groups.values() for rates in members]
    return {group: mean_rates(members) for group, members in [*groups.items(), ("all", everything)] if members}


def _checked(scores: Num[np.ndarray, " n"], side: str) -> Num[np.ndarray, " n"]:
    """Return the sorted scores; sorting each side by itself is what makes the merge in `_rejecting` linear."""
    scores = _numbers(scores, f"{side} scores")
    if not len(scores):
        raise MmoodError(f"There are no {side} scores; a metric needs at least one on each side.")
    scores = np.sort(scores)
    if np.isnan(scores[-1]):  # NaN sorts last
        raise MmoodError(f"{np.isnan(scores).sum()} of the {len(scores)} {side} scores are NaN; they cannot be ranked.")
    return scores


def _numbers(values: object, what: str) -> Num[np.ndarray, " n"]:
    """Return what a caller gave as a plain array of one dimension, or say why it is none."""
    if isinstance(values, np.ma.MaskedArray) and (masked := int(np.ma.getmaskarray(values).sum())):
        raise MmoodError(
            f"{masked} of the {values.size} {what} are masked, and a masked entry cannot be ranked; leave these images "
            "out, or give them a score."
        )
    try:
        array: Num[np.ndarray, " n"] = np.asarray(values)
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:  # a tensor on a GPU, in bfloat16 or with gradient; a ragged list
        reason = str(error).partition("\n")[0].rstrip(".")
        raise MmoodError(
            f"The {what} cannot be read as a numpy array ({reason}); of a tensor, pass "
            "`.detach().float().cpu().numpy()`."
        ) from error
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise MmoodError(
            f"The {what} have the shape {array.shape} and the type {array.dtype}; they must be real numbers in one "
            "dimension, one per image."
        )
    return array


def _rejecting(id_sorted: Num[np.ndarray, " id"], ood_sorted: Num[np.ndarray, " ood"]) -> _Accepted:
    """Return how many OoD (positive here) and ID scores are at or below each distinct score, the lowest first."""
    scores = np.concatenate([id_sorted, ood_sorted])
    order = np.argsort(scores, kind="stable")  # timsort: two sorted runs merge in linear time
    scores = scores[order]
    block_ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    id_upto = np.cumsum(order < len(id_sorted))[block_ends]
    return _Accepted(positive=block_ends + 1 - id_upto, negative=id_upto)


def _accepting(rejecting: _Accepted) -> _Accepted:
    """Return the same counts from the other side: ID (now positive) and OoD scores at or above each distinct score."""
    return _Accepted(positive=_from_top(rejecting.negative), negative=_from_top(rejecting.positive))


def _from_top(upto: Int[np.ndarray, " thresholds"]) -> Int[np.ndarray, " thresholds"]:
    return np.flip(upto[-1] - np.append(0, upto[:-1]))


def _auroc(curve: _Accepted) -> float:
    # Each new positive outranks the negatives still outside, and half of those in its own block. All in integers.
    outside = 2 * curve.negative[-1] - curve.negative - np.append(0, curve.negative[:-1])
    return int(np.diff(curve.positive, prepend=0) @ outside) / (2 * int(curve.positive[-1]) * int(curve.negative[-1]))


def _average_precision(curve: _Accepted) -> float:
    precision = curve.positive / (curve.positive + curve.negative)
    # No dot product: BLAS splits it over threads, which wait longer for one another than they work, and the last bits
    # would depend on their number.
    precision *= np.diff(curve.positive, prepend=0)
    return float(precision.sum()) / int(curve.positive[-1])


def _fpr(curve: _Accepted, recall: float) -> float:
    # As a decimal fraction, so that 0.95 of 20 is exactly 19 and not a hair more or less.
    needed = math.ceil(Fraction(str(recall)) * int(curve.positive[-1]))
    return int(curve.negative[np.searchsorted(curve.positive, needed)]) / int(curve.negative[-1])
