"""The store of one evaluation set: what goes in comes out once, in order, from any number of ranks."""

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_negatives import added_mib
from forked import ForkServer
from torch import Tensor

from mmood.errors import MmoodError
from mmood.evaluation.store import ScoreStore, SetScores, constant_scores
from mmood.metrics.detection import OoDDetection
from mmood.metrics.functional import OoDMetrics, ood_metrics
from mmood.metrics.gather import SETTLED, append, gathered_objects


def samples(keys: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows that are a function of their keys: every third is OoD."""
    key = torch.tensor(keys, dtype=torch.int64)
    label = torch.where(key % 3 == 0, -1, key % 7)
    scores = torch.stack([torch.sin(key * 1.7) + (label >= 0), -key.float()], dim=1)
    return key, label, (key + 1) % 7, scores


def filled(keys: list[int], batch_size: int = 4) -> ScoreStore:
    store = ScoreStore("sun", ["mcm", "energy"])
    for start in range(0, max(len(keys), 1), batch_size):
        store.update(*samples(keys[start : start + batch_size]))
    return store


def metrics_of(found: SetScores) -> OoDMetrics:
    is_id = found.label >= 0
    return ood_metrics(found.of("mcm")[is_id], found.of("mcm")[~is_id])


@pytest.mark.parametrize("batch_size", [1, 7, 5000])
def test_what_went_in_comes_out_sorted_by_key(batch_size: int) -> None:
    keys = np.random.default_rng(0).permutation(9001).tolist()
    found = filled(keys, batch_size).gathered(expected=9001)
    key, label, predicted, scores = samples(sorted(keys))
    assert (found.set, found.names) == ("sun", ("mcm", "energy"))
    for got, want in [(found.key, key), (found.label, label), (found.predicted, predicted), (found.scores, scores)]:
        assert got.dtype == want.numpy().dtype
        np.testing.assert_array_equal(got, want.numpy())
    np.testing.assert_array_equal(found.of("energy"), -np.arange(9001, dtype=np.float32))
    assert found.skipped.tolist() == []


def test_every_bit_of_keys_and_scores_survives() -> None:
    store = ScoreStore("sun", ["s"])
    key = torch.tensor([0, 2**31, 2**40 + 5, 2**62 + 1])
    scores = torch.tensor([torch.inf, -torch.inf, -0.0, 1e-45])
    store.update(key, key.sign(), key.sign(), scores[:, None])
    found = store.gathered(expected=key.numpy())
    assert found.key.tolist() == key.tolist()
    np.testing.assert_array_equal(found.of("s").view(np.int32), scores.numpy().view(np.int32))


def test_a_store_without_rows_and_scores_of_no_rows() -> None:
    empty = filled([]).gathered(expected=0)
    assert (empty.key.shape, empty.scores.shape, empty.scores.dtype) == ((0,), (0, 2), np.float32)


def test_views_of_larger_tensors_are_taken_as_they_look() -> None:
    key, label, predicted, scores = samples(list(range(10)))
    store = ScoreStore("sun", ["energy"])
    store.update(key[::2], label[::2], predicted[::2], scores[::2, 1:])
    assert store.gathered().of("energy").tolist() == [0, -2, -4, -6, -8]


def test_reset_forgets_and_gathering_does_not() -> None:
    store = filled(list(range(10)))
    assert len(store.gathered(10).key) == len(store.gathered(10).key) == 10
    store.reset()
    store.update(*samples([0]))
    assert store.gathered(1).key.tolist() == [0]


def test_small_batches_are_held_in_few_pieces_and_large_ones_wait_on_the_cpu() -> None:
    pieces: list[Tensor] = []
    settled = [append(pieces, torch.full((1,), i)) for i in range(3 * SETTLED - 1)]
    assert torch.cat(pieces).tolist() == list(range(3 * SETTLED - 1))
    assert len(pieces) <= SETTLED.bit_length() + 1
    assert sum(settled) == 2  # at every 4,096 rows, until then nothing waits for the device
    lengths = [len(piece) for piece in pieces]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("keys", "expected", "message"),
    [
        ([0, 1, 2, 2, 1], 3, "2 of the 5 samples of set 'sun' were evaluated more than once: keys 1, 2;"),
        ([0, 0], None, "1 of the 2 samples of set 'sun' were evaluated more than once: key 0;"),
        ([0, 2], 4, "2 of the 4 samples of set 'sun' are missing: keys 1, 3;"),
        ([], 9, "9 of the 9 samples of set 'sun' are missing: keys 0, 1, 2, 3, 4 and more;"),
        ([0, 1, 7], 2, "1 of the 3 samples of set 'sun' do not belong to the set: key 7;"),
    ],
)
def test_repeated_missing_and_foreign_keys(keys: list[int], expected: int | None, message: str) -> None:
    with pytest.raises(MmoodError, match=message):
        filled(keys).gathered(expected)


def test_expected_keys_need_not_be_a_range() -> None:
    assert len(filled([5, 11]).gathered(np.array([11, 5])).key) == 2
    with pytest.raises(MmoodError, match="missing: key 12;"):
        filled([5, 11]).gathered(np.array([5, 11, 12]))


def test_a_partial_evaluation_is_not_asked_for_completeness() -> None:
    assert filled([3, 8]).gathered().key.tolist() == [3, 8]


def test_skipped_samples_are_not_missed_but_counted_once() -> None:
    store = filled([0, 2, 4])
    store.skip(torch.tensor([3, 1]))
    found = store.gathered(5)
    assert (found.key.tolist(), found.skipped.tolist()) == ([0, 2, 4], [1, 3])
    store.skip(torch.tensor([4]))
    with pytest.raises(MmoodError, match="more than once: key 4;"):
        store.gathered(5)


def test_nan_is_an_error_that_names_score_set_and_key() -> None:
    store = filled([0, 1])
    key, label, predicted, scores = samples([2, 3, 4])
    scores[1:, 1] = torch.nan
    store.update(key, label, predicted, scores)
    with pytest.raises(MmoodError, match="Score 'energy' is NaN for 2 of 5 samples of set 'sun': keys 3, 4;"):
        store.gathered()


def test_nan_ends_a_long_evaluation_early() -> None:
    store = ScoreStore("sun", ["s"])
    key = torch.arange(SETTLED)
    with pytest.raises(MmoodError, match="is NaN"):
        store.update(key, key, key, torch.full((SETTLED, 1), torch.nan))


# Uneven splits over ranks; each must give the numbers of one process.
N = 101
SPLITS: list[list[list[int]]] = [
    [list(range(0, N, 2)), list(range(1, N, 2))],
    [list(range(N)), []],
    [[], list(range(70)), list(range(70, N))],
    [[100], list(range(99, -1, -1)), []],
]


def one_rank(rank: int, world: int, folder: Path) -> None:
    meeting = f"file://{folder}/meeting{world}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    evaluate_splits(rank, world, folder)
    torch.distributed.destroy_process_group()


def evaluate_splits(rank: int, world: int, folder: Path) -> None:
    numbers = []
    for split in SPLITS:
        if len(split) == world:
            store = filled(split[rank])
            store.skip(torch.tensor([N] if rank == world - 1 else [], dtype=torch.int64))
            found = store.gathered(N + 1)
            assert found.skipped.tolist() == [N]
            on_main = store.collected(N + 1)
            assert (on_main is not None) == (rank == 0)
            if on_main is not None:
                same = [
                    np.array_equal(mine, other) for mine, other in zip(astuple(on_main), astuple(found), strict=True)
                ]
                assert all(same), "every bit as where each rank gets all rows"
            numbers.append([*astuple(metrics_of(found)), float(found.scores.sum(dtype=np.float64))])

            metric = OoDDetection()
            key, label, _, scores = samples(split[rank])
            if len(key):  # a rank of a user's own loop may never update
                metric.update(scores[:, 0], label >= 0)
            assert [value.item() for value in metric.compute().values()] == numbers[-1][:-1]
    assert gathered_objects([rank] * rank) == [r for r in range(world) for _ in range(r)]
    repeated = filled([rank, 50])
    for all_rows in (repeated.gathered, repeated.collected):
        with pytest.raises(MmoodError, match="more than once: key 50;"):  # on every rank, so that none is left waiting
            all_rows()
    np.save(folder / f"{world}-{rank}.npy", numbers)


@pytest.mark.ddp
def test_any_split_over_ranks_gives_the_numbers_of_one_process(tmp_path: Path, forked: ForkServer) -> None:
    alone = filled(list(range(N))).gathered(N)
    want = [*astuple(metrics_of(alone)), float(alone.scores.sum(dtype=np.float64))]
    started = {(w, r): forked.start(one_rank, r, w, tmp_path) for w in (2, 3) for r in range(w)}
    for (world, rank), process in started.items():
        assert process.wait() == 0, process.err
        assert np.load(tmp_path / f"{world}-{rank}.npy").tolist() == [want, want]


def collect_many(rank: int, folder: Path) -> None:
    """Collect 300,000 images, each rank half of them: in several blocks, the ranks with different numbers of rows."""
    meeting = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    store, share = ScoreStore("sun", ["mcm", "energy"]), (0, 100_000, 300_000)
    for start in range(share[rank], share[rank + 1], 10_000):
        store.update(*samples(list(range(start, start + 10_000))))
    grown = {}
    for name, all_rows in [("collected", store.collected), ("gathered", store.gathered)]:
        found: list[SetScores | None] = []
        grown[name] = added_mib(lambda rows=all_rows, found=found: found.append(rows(300_000)))
        if found[0] is not None:
            np.testing.assert_array_equal(found[0].of("energy"), -np.arange(300_000, dtype=np.float32))
    torch.distributed.destroy_process_group()
    np.save(folder / f"{rank}.npy", [grown["collected"], grown["gathered"]])


@pytest.mark.ddp
def test_only_the_main_process_takes_memory_for_all_rows(tmp_path: Path, forked: ForkServer) -> None:
    started = [forked.start(collect_many, rank, tmp_path) for rank in range(2)]
    for process in started:
        assert process.wait() == 0, process.err
    collected, gathered = np.load(tmp_path / "1.npy")
    own = 200_000 * 24 / 2**20
    assert collected < 4 * own, "its own rows, a copy of them, and blocks on their way"
    assert gathered > 2 * collected


def test_detection_is_ood_metrics_of_the_split_scores() -> None:
    random = np.random.default_rng(0)
    scores, is_id = random.normal(30, 5, 500), random.random(500) < 0.4
    metric = OoDDetection()
    for start in range(0, 500, 9):
        metric.update(torch.tensor(scores[start : start + 9]), torch.tensor(is_id[start : start + 9]))
    found = metric.compute()
    want = ood_metrics(scores[is_id], scores[~is_id])
    assert {name: value.item() for name, value in found.items()} == vars(want)
    assert found["auroc"].dtype == torch.float64
    metric.reset()
    with pytest.raises(MmoodError, match="no OoD scores"):
        metric(torch.ones(2), torch.tensor([True, True]))


def test_scores_that_are_the_same_for_every_image_are_named():
    def scores(rows):
        none = np.zeros(len(rows), dtype=np.int64)
        return SetScores("a", ("mcm", "energy"), none, none, none, np.array(rows, np.float32).reshape(-1, 2), none[:0])

    assert constant_scores([scores([(1, 2), (1, 3)]), scores([]), scores([(1, 2)])]) == ["mcm"]
    assert constant_scores([scores([(1, 2), (3, 2)]), scores([(2, 2)])]) == ["energy"]
    assert not constant_scores([scores([(1, 2)])]), "of one image nothing can be said"
    assert not constant_scores([scores([])])
