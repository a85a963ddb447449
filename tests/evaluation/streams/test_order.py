"""The order of streams: a function of seed and keys, exact ratios, every image once."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmood.errors import MmoodError
from mmood.evaluation.streams.order import stream_order, subsample
from mmood.evaluation.streams.settings import StreamSettings

SIZES = st.integers(0, 60)


def pairs(order):
    return list(zip(order.ood.tolist(), order.key.tolist(), strict=True))


@given(SIZES, SIZES, st.integers(0, 9), st.sampled_from(["shuffled", "id-first", "ood-first"]))
def test_every_image_comes_once(n_id, n_ood, seed, order):
    found = pairs(stream_order(np.arange(n_id), 7 * np.arange(n_ood), seed, order))
    assert sorted(found) == [(False, key) for key in range(n_id)] + [(True, 7 * key) for key in range(n_ood)]


@pytest.mark.parametrize("order", ["shuffled", "id-first", "ood-first"])
def test_the_order_of_the_keys_does_not_matter_and_the_seed_does(order):
    keys, other = np.arange(50), np.arange(30)
    straight = pairs(stream_order(keys, other, 3, order))
    backwards = pairs(stream_order(keys[::-1], other[::-1], 3, order))
    assert straight == backwards
    assert straight != pairs(stream_order(keys, other, 4, order))


def test_one_side_comes_first_in_the_order_that_it_has_in_the_shuffle():
    id_keys, ood_keys = np.arange(40), np.arange(25)
    shuffled = pairs(stream_order(id_keys, ood_keys, 1))
    for order, first in (("id-first", False), ("ood-first", True)):
        sides = [[entry for entry in shuffled if entry[0] is side] for side in (first, not first)]
        assert pairs(stream_order(id_keys, ood_keys, 1, order)) == sides[0] + sides[1]


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 12), st.integers(1, 12))
def test_a_ratio_holds_exactly_with_as_many_images_as_possible(n_id, n_ood, a, b):
    fits = [(i, round(i * b / a)) for i in range(1, n_id + 1) if i * b % a == 0 and 1 <= i * b // a <= n_ood]
    if not fits:
        with pytest.raises(MmoodError, match="ratio"):
            subsample(n_id, n_ood, (a, b))
        return
    assert subsample(n_id, n_ood, (a, b)) == max(fits)
    order = stream_order(np.arange(n_id), np.arange(n_ood), 0, ratio=(a, b))
    assert (~order.ood).sum() == max(fits)[0]
    assert order.ood.sum() == max(fits)[1]
    assert len(set(pairs(order))) == len(order)


def test_a_subsample_keeps_the_order_and_depends_on_the_seed():
    whole = pairs(stream_order(np.arange(200), np.arange(100), 0))
    some = stream_order(np.arange(200), np.arange(100), 0, ratio=(1, 10))
    kept = pairs(some)
    assert [entry for entry in whole if entry in set(kept)] == kept
    other = stream_order(np.arange(200), np.arange(100), 1, ratio=(1, 10))
    assert set(some.key[~some.ood]) != set(other.key[~other.ood])


def test_shuffled_streams_are_mixed_evenly():
    # Of 3,000 images 1,000 are OoD: in every tenth of the stream their share is a third, within 5 standard errors.
    shares = [
        part.ood.mean()
        for seed in range(5)
        for part in stream_order(np.arange(2000), np.arange(1000), seed).batches(300)
    ]
    assert np.abs(np.array(shares) - 1 / 3).max() < 5 * np.sqrt(1 / 3 * 2 / 3 / 300)
    firsts = {pairs(stream_order(np.arange(2000), np.arange(1000), seed))[0] for seed in range(20)}
    assert len(firsts) > 15


def test_the_order_is_the_same_in_every_release():
    # Written down once: results of streams must be repeatable.
    assert stream_order(np.arange(6), np.arange(4), 0).key.tolist() == ORDER
    assert stream_order(np.arange(6), np.arange(4), 0).ood.astype(int).tolist() == SIDE


ORDER = [2, 0, 0, 1, 2, 4, 1, 3, 5, 3]
SIDE = [1, 0, 1, 1, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"order": "sorted"}, "id-first"),
        ({"ratio": (0, 1)}, r"\[0, 1\]"),
        ({"seeds": ()}, "at least one seed"),
        ({"seeds": (1, 1)}, "once"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(MmoodError, match=said):
        StreamSettings(**settings)


@pytest.mark.parametrize("ratio", [(1, 10), (10, 1), (1, 100)])
def test_a_subsample_is_shuffled_too(ratio):
    """The images of the smaller side are spread over the whole stream."""
    order = stream_order(np.arange(5000), np.arange(5000), 3, ratio=ratio)
    few = np.flatnonzero(order.ood == (ratio[0] > ratio[1]))
    assert len(few) == 5000 * min(ratio) // max(ratio)
    # Of places drawn at random: mean 1/2, deviation 1/sqrt(12); five standard errors.
    assert few.mean() / len(order) == pytest.approx(0.5, abs=5 / math.sqrt(12 * len(few)))
    assert few.std() / len(order) == pytest.approx(1 / math.sqrt(12), abs=0.12)
