import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from data_world import CLASSES, SIZE, eval_loader, members_of, number_of, png, rewrite_shard, to_tensor, write_set
from hypothesis import given, settings
from hypothesis import strategies as st

from mmood.errors import MmoodError
from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.settings import LoaderSettings

SKIP = LoaderSettings(workers=0, on_error="skip")


def read_all(index, world=1, **options):
    return [batch for rank in range(world) for batch in eval_loader(index, rank=rank, world=world, **options)]


def keys_of(batches):
    return [key for batch in batches for key in batch["key"].tolist()]


@pytest.fixture(scope="module")
def shared_index(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("sets"), "id", [5, 1, 0, 9, 3])


@settings(max_examples=40, deadline=None)
@given(world=st.integers(1, 25), batch_size=st.integers(1, 20))
def test_every_sample_once_over_ranks(shared_index, world, batch_size):
    for rank in range(world):
        loader = eval_loader(shared_index, batch_size, rank, world)
        assert len(list(loader)) == len(loader) >= 1
    batches = read_all(shared_index, world, batch_size=batch_size)
    assert keys_of(batches) == list(range(18))
    for batch in batches:
        assert [number_of(image) for image in batch["image"]] == batch["key"].tolist()
        assert batch["label"].tolist() == [key % CLASSES for key in batch["key"].tolist()]
        assert "skipped" not in batch


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_exact_under_each_start_method(tmp_path, method):
    index = write_set(tmp_path, "id", [1, 2])
    workers = LoaderSettings(workers=2, start_method=method)
    batches = read_all(index, world=2, settings=workers)
    assert sorted(keys_of(batches)) == [0, 1, 2]


def test_a_single_image_starts_no_worker(tmp_path):
    index = write_set(tmp_path, "id", [1])
    here = []
    decoder = Decoder(lambda image: here.append(os.getpid()) or to_tensor(image), CLASSES)
    batches = list(EvalLoader(index, index.keys(), decoder, 4, LoaderSettings(workers=2)))
    assert keys_of(batches) == [0]
    assert here == [os.getpid()] * len(here)
    assert len(here) > 1  # the probe of the transform's shape is one


def test_workers_take_turns_in_a_fixed_order(shared_index):
    workers = LoaderSettings(workers=2)
    loader = eval_loader(shared_index, 4, settings=workers)
    order = [batch["key"].tolist() for batch in loader]
    assert order == [[0, 1, 2, 3], [9, 10, 11, 12], [4, 5, 6, 7], [13, 14, 15, 16], [8], [17]]
    assert len(loader) == 6
    assert [batch["key"].tolist() for batch in loader] == order


def test_a_rank_with_nothing_gets_one_empty_batch(tmp_path):
    index = write_set(tmp_path, "id", [1])
    empty = list(eval_loader(index, rank=0, world=3))
    assert len(empty) == 1
    assert empty[0]["image"].shape == (0, 3, SIZE, SIZE)
    assert empty[0]["image"].dtype == torch.float32
    assert empty[0]["label"].dtype == empty[0]["key"].dtype == torch.int64


def test_reading_leaves_the_global_generator_alone(shared_index):
    before = torch.get_rng_state()
    list(eval_loader(shared_index))
    assert torch.equal(before, torch.get_rng_state())


def test_ood_labels_are_minus_one_whatever_cls_says(shared_index):
    batches = read_all(shared_index, classes=None)
    assert {label for batch in batches for label in batch["label"].tolist()} == {-1}


def break_sample(index, key, replace):
    """Pass the members of shard 0 through `replace(name, content)`, which returns None to drop one."""
    members = []
    for name, content in members_of(range(index.shards[0].nsamples), labelled=True):
        kept = replace(content) if name == f"s{key:04d}.{replace.field}" else content
        if kept is not None:
            members.append((name, kept))
    rewrite_shard(index, 0, members)


def broken_png(content):
    return content[:40]


def no_label(content):
    return None


def big_label(content):
    return b"5"


def word_label(content):
    return b"cat"


def no_image(content):
    return None


broken_png.field = no_image.field = "png"
no_label.field = big_label.field = word_label.field = "cls"
BREAKS = [
    (broken_png, "the image cannot be decoded"),
    (no_label, r"the label \(`cls`\) is missing"),
    (big_label, "the label 5 is not below the number of classes, 5"),
    (word_label, "the label 'cat' is not a class index"),
    (no_image, "has no image, or several"),
]


@pytest.mark.parametrize(("change", "reason"), BREAKS)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_sample_ends_the_run_with_shard_key_and_reason(tmp_path, change, reason, workers):
    index = write_set(tmp_path, "id", [6, 3])
    break_sample(index, 2, change)
    with pytest.raises(MmoodError, match=reason) as caught:
        read_all(index, settings=LoaderSettings(workers=workers))
    message = str(caught.value)
    assert "id-0.tar, key 2 ('s0002')" in message
    assert "\n" not in message


@pytest.mark.parametrize(("change", "reason"), BREAKS)
def test_skip_leaves_out_and_lists(tmp_path, change, reason):
    index = write_set(tmp_path, "id", [6, 3])
    break_sample(index, 2, change)
    batches = read_all(index, settings=SKIP)
    assert keys_of(batches) == [0, 1, 3, 4, 5, 6, 7, 8]
    skipped = [record for batch in batches for record in batch["skipped"]]
    assert [(record.key, record.sample) for record in skipped] == [(2, "s0002")]
    assert re.search(reason, skipped[0].reason)
    assert len(batches) == len(eval_loader(index))


def cut(index, number, keep):
    path = Path(index.location(number))
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize("keep", [0, 300, 700, 4000, 6656])
def test_a_truncated_shard_is_an_error_that_names_it(tmp_path, keep):
    index = write_set(tmp_path, "ood", [6, 3], labelled=False)
    cut(index, 0, keep)
    with pytest.raises(MmoodError, match=r"ood-0\.tar"):
        read_all(index, classes=None)


def test_skip_lists_the_rest_of_a_truncated_shard(tmp_path):
    index = write_set(tmp_path, "ood", [6, 3], labelled=False)
    cut(index, 0, 4000)
    batches = read_all(index, settings=SKIP, classes=None)
    skipped = [record for batch in batches for record in batch["skipped"]]
    assert keys_of(batches) == sorted(set(range(9)) - {record.key for record in skipped})
    assert 0 < len(skipped) <= 6
    assert all("ood-0.tar" in record.shard for record in skipped)


@pytest.mark.parametrize("size", [5, 7])
@pytest.mark.parametrize("world", [1, 4])
def test_a_count_that_differs_from_the_index_is_an_error(tmp_path, size, world):
    index = write_set(tmp_path, "id", [6, 3])
    rewrite_shard(index, 0, members_of(range(size), labelled=True))
    with pytest.raises(MmoodError, match=rf"id-0\.tar holds {size} samples, but its index says 6"):
        read_all(index, world)


def test_the_count_is_checked_before_the_last_batch_leaves(tmp_path):
    index = write_set(tmp_path, "id", [6])
    rewrite_shard(index, 0, members_of(range(7), labelled=True))
    loader = eval_loader(index, batch_size=6)
    with pytest.raises(MmoodError, match="holds 7 samples"):
        next(iter(loader))


def test_surplus_is_never_skipped(tmp_path):
    index = write_set(tmp_path, "id", [6])
    rewrite_shard(index, 0, members_of(range(7), labelled=True))
    with pytest.raises(MmoodError, match="holds 7 samples"):
        read_all(index, settings=SKIP)


def test_missing_shard_and_two_images(tmp_path):
    index = write_set(tmp_path, "id", [2, 2])
    Path(index.location(1)).unlink()
    with pytest.raises(MmoodError, match=r"id-1\.tar cannot be read after 0 of 2"):
        read_all(index)
    rewrite_shard(index, 0, [("a.png", png(0)), ("a.jpg", png(0)), ("b.png", png(1))])
    with pytest.raises(MmoodError, match="no image, or several"):
        read_all(index, classes=None)
    rewrite_shard(index, 0, [("a.png", png(0)), ("a.png", png(0)), ("b.png", png(1))])
    with pytest.raises(MmoodError, match="has 'png' twice"):
        read_all(index, classes=None)


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch exploded",))


def test_no_member_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    index = write_set(tmp_path, "ood", [2], labelled=False)
    bomb = pickle.dumps(Bomb())
    fields = ["pyd", "pkl", "pickle", "pth", "pt", "npy", "ten"]
    members = [(f"a.{field}", bomb) for field in fields] + members_of(range(2), False) + [("z.pyd", bomb)]
    members += [("s0001.pyd", bomb)]
    rewrite_shard(index, 0, members)
    assert keys_of(read_all(index, classes=None)) == [0, 1]
    assert not (tmp_path / "exploded").exists()


def test_a_transform_of_the_wrong_shape_is_named():
    with pytest.raises(MmoodError, match="transform gives"):
        Decoder(lambda image: to_tensor(image)[:1], None).empty_image()


def test_images_of_different_sizes_are_named(tmp_path):
    index = write_set(tmp_path, "ood", [2], labelled=False)
    shapes = iter([4, 4, 5])  # the probe, then two samples
    decoder = Decoder(lambda image: torch.zeros(3, next(shapes), 4), None)
    with pytest.raises(MmoodError, match=r"gives \(3, 5, 4\) for key 1 and \(3, 4, 4\) for others"):
        list(EvalLoader(index, index.keys(), decoder, 2, SKIP))
