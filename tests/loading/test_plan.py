import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmood.loading.plan import batches_in, bounds, epoch_keys, held_out, slots
from mmood.shards.shard_index import ShardEntry, ShardIndex

# Computed once with sha256sum: no release may change who is held out.
FIRST_HELD_OUT = [39, 51, 55, 146]
SIZES = st.lists(st.integers(0, 30), max_size=8)


def index_of(sizes):
    return ShardIndex("x", tuple(ShardEntry(f"{i}.tar", size, "0" * 64) for i, size in enumerate(sizes)))


@given(sizes=SIZES, world=st.integers(1, 7), workers=st.integers(1, 5))
def test_slots_cover_every_key_once_and_are_balanced(sizes, world, workers):
    index = index_of(sizes)
    work = [slots(index.keys(), rank, world, workers) for rank in range(world)]
    flat = [slot for rank in work for slot in rank]
    assert np.concatenate(flat).tolist() == list(range(sum(sizes)))
    assert len(flat) == world * workers
    lengths = [len(slot) for slot in flat]
    assert max(lengths) - min(lengths) <= 1
    per_rank = [sum(map(len, rank)) for rank in work]
    assert max(per_rank) - min(per_rank) <= 1


@given(sizes=SIZES, world=st.integers(1, 7), workers=st.integers(1, 5))
def test_shards_are_opened_only_where_a_slot_overlaps_them(sizes, world, workers):
    index = index_of(sizes)
    for rank in range(world):
        for slot in slots(index.keys(), rank, world, workers):
            runs = list(index.by_shard(slot))
            keys = [int(index.offsets[shard]) + p for shard, positions in runs for p in positions.tolist()]
            assert keys == slot.tolist()
            assert all(0 <= p < sizes[shard] for shard, positions in runs for p in positions.tolist())
            assert len({shard for shard, _ in runs}) == len(runs)


def test_a_rank_with_nothing_still_has_one_batch():
    assert batches_in([0, 0], 8) == 1
    assert batches_in([8, 9, 0], 8) == 3
    assert bounds(0, 3) == [0, 0, 0, 0]


@given(sizes=SIZES, seed=st.integers(0, 100), epoch=st.integers(0, 100))
def test_epoch_order_permutes_whole_shards(sizes, seed, epoch):
    index = index_of(sizes)
    order = epoch_keys(index, index.keys(), seed, epoch)
    assert sorted(order.tolist()) == list(range(sum(sizes)))
    assert order.tolist() == epoch_keys(index, index.keys(), seed, epoch).tolist()
    runs = list(index.by_shard(order))
    assert len(runs) == sum(size > 0 for size in sizes)


def test_held_out_fraction_is_fixed_nested_and_of_the_right_size():
    keys = np.arange(20_000)
    small, large = held_out(keys, 0.05), held_out(keys, 0.1)
    assert abs(len(small) / 20_000 - 0.05) < 0.006
    assert set(small.tolist()) <= set(large.tolist())
    assert small[:4].tolist() == FIRST_HELD_OUT
    assert len(held_out(keys, 0.9999999)) <= 20_000
