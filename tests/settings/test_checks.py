"""Counts, numbers and choices are checked in one way."""

import math

import numpy as np
import pytest

from mmood.errors import MmoodError
from mmood.evaluation.streams.settings import StreamSettings
from mmood.loading.settings import LoaderSettings
from mmood.modules.fine_tuning.alignment import LossSettings
from mmood.modules.fine_tuning.execution import Execution
from mmood.modules.fine_tuning.trained import TrainedTowers
from mmood.modules.probes.training import ProbeSettings
from mmood.scores.gaussian import Mahalanobis
from mmood.scores.logits import MCM
from mmood.scores.neighbours import KNN
from mmood.scores.test_time.adaneg import Gates
from mmood.scores.test_time.tanl import OtsuGate
from mmood.settings import check_choice, check_count, check_number
from mmood.words.miner import NegativeMiner


@pytest.mark.parametrize("value", [0, -1, True, False, 1.0, "1", None, math.nan, 11])
def test_no_counts(value):
    with pytest.raises(MmoodError, match=r"^`x` is .*; it must be a whole number in \[1, 10\]\.$"):
        check_count("`x`", value, most=10)


@pytest.mark.parametrize("value", [1, 10, np.int64(3)])
def test_counts(value):
    check_count("`x`", value, most=10)
    check_count("`x`", None, null="all")


def test_counts_of_zero_where_it_is_allowed():
    check_count("x", 0, least=0)
    with pytest.raises(MmoodError, match=r"^x is -1; it must be a whole number of at least 0, or null for all of them"):
        check_count("x", -1, least=0, null="all of them")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, False, None, "0.5", np.float32("nan")])
def test_no_numbers(value):
    with pytest.raises(MmoodError, match=r"^x is .*; it must be a finite number\.$"):
        check_number("x", value)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "said"),
    [
        ({"above": 0}, (1e-9, 1, 1e9), (0, -1), "greater than 0"),
        ({"least": 0}, (0, 5), (-1e-9,), "of at least 0"),
        ({"least": 0, "most": 1}, (0, 0.5, 1), (-0.1, 1.1), r"in \[0, 1\]"),
        ({"above": 0, "below": 1}, (0.5,), (0, 1), r"in \(0, 1\)"),
        ({"above": 0, "most": 1}, (0.5, 1), (0, 1.5), r"in \(0, 1\]"),
        ({"least": 0, "below": 100}, (0, 99.9), (100,), r"in \[0, 100\)"),
        ({"most": 80}, (80, -5), (81,), "of at most 80"),
    ],
)
def test_bounds(bounds, inside, outside, said):
    for value in inside:
        check_number("x", value, **bounds)
    for value in outside:
        with pytest.raises(MmoodError, match=rf"^x is {value}; it must be a finite number {said}\.$"):
            check_number("x", value, **bounds)


def test_choices():
    check_choice("x", "a", ("a", "b"))
    with pytest.raises(MmoodError, match=r"^x is 'sbc'; it must be one of abc, d\.$"):
        check_choice("x", "sbc", ("abc", "d"))


SETTINGS = {
    "a bool as a count": lambda: KNN(k=True),
    "a negative count": lambda: KNN(shots=-1),
    "a NaN": lambda: MCM(math.nan),
    "a fraction above one": lambda: NegativeMiner(fraction=1.5),
    "a NaN fraction": lambda: NegativeMiner(fraction=math.nan),
    "a bool as a batch": lambda: StreamSettings(batch_size=True),
    "a negative seed": lambda: StreamSettings(seeds=(-1,)),
    "a fraction of workers": lambda: LoaderSettings(workers=1.5),
    "no shots": lambda: ProbeSettings(shots=0),
    "a NaN gate": lambda: Gates(gap=math.nan),
    "a bool as a history": lambda: OtsuGate(history=True),
    "a bool as a chunk": lambda: Execution(chunk=True),
    "no groups": lambda: TrainedTowers(groups=0),
    "a scale of zero": lambda: LossSettings(max_scale=0.0),
    "an endless ridge": lambda: Mahalanobis(ridge=math.inf),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_constructors_check_what_they_are_given(kind):
    with pytest.raises(MmoodError, match=r" is .*; it must be a (whole|finite) number"):
        SETTINGS[kind]()
