from itertools import islice

import pytest
import torch
from data_world import CLASSES, noisy, number_of, rewrite_shard, to_tensor, write_set
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from mmood.errors import MmoodError
from mmood.loading.loader import Decoder
from mmood.loading.settings import LoaderSettings
from mmood.loading.train import TrainLoader, seeded


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("sets"), "train", [13, 7, 21, 9])  # 50 samples


def train_loader(
    index, rank=0, world=1, workers=0, batch_size=4, transform=to_tensor, seed=0, buffer=8, keys=None, hold=False
):
    settings = LoaderSettings(workers=workers, seed=seed, shuffle_buffer=buffer, persistent=True)
    keys = index.keys() if keys is None else keys
    return TrainLoader(index, keys, Decoder(transform, CLASSES), batch_size, settings, rank, world, hold)


def keys_in(batches):
    return [batch["key"].tolist() for batch in batches]


def in_epoch(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return keys_in(loader)


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (3, 0), (2, 2)])
def test_equal_steps_and_no_sample_twice(index, world, workers):
    epochs = [in_epoch(train_loader(index, rank, world, workers), 0) for rank in range(world)]
    steps = 50 // (4 * world)
    assert [len(rank) for rank in epochs] == [steps] * world
    flat = [key for rank in epochs for batch in rank for key in batch]
    assert len(flat) == len(set(flat)) == steps * 4 * world
    assert 50 - len(flat) < 4 * world


def test_images_and_labels_belong_to_their_keys(index):
    for batch in train_loader(index):
        assert [number_of(image) for image in batch["image"]] == batch["key"].tolist()
        assert batch["label"].tolist() == [key % CLASSES for key in batch["key"].tolist()]


def test_order_is_a_function_of_seed_and_epoch(index):
    loader = train_loader(index, workers=2)
    first, second = in_epoch(loader, 0), in_epoch(loader, 1)
    assert first != second
    assert in_epoch(loader, 0) == first
    assert in_epoch(train_loader(index, workers=2), 1) == second
    assert in_epoch(train_loader(index, workers=2, seed=1), 0) != first


def test_a_subset_of_the_keys(index):
    keys = index.keys()[::3]
    flat = [key for batch in in_epoch(train_loader(index, keys=keys), 0) for key in batch]
    assert len(flat) == 16
    assert set(flat) <= set(keys.tolist())


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_continues_with_the_same_batches(index, workers):
    whole = train_loader(index, workers=workers, transform=noisy)
    whole.sampler.set_epoch(3)
    batches = list(whole)
    for consumed in (0, 1, 5, 11, 12):
        first = train_loader(index, workers=workers, transform=noisy)
        first.sampler.set_epoch(3)
        for _ in islice(first, consumed):
            pass
        resumed = train_loader(index, workers=workers, transform=noisy)
        resumed.load_state_dict(first.state_dict())
        resumed.sampler.set_epoch(3)
        rest = list(resumed)
        assert keys_in(rest) == keys_in(batches[consumed:])
        assert all(torch.equal(a["image"], b["image"]) for a, b in zip(rest, batches[consumed:], strict=True))
        resumed.sampler.set_epoch(4)
        whole.sampler.set_epoch(4)
        assert keys_in(resumed) == keys_in(whole)
        whole.sampler.set_epoch(3)


def test_an_unfinished_epoch_needs_the_same_settings(index):
    loader = train_loader(index)
    next(iter(loader))
    with pytest.raises(MmoodError, match="batch_size = 4, but now it is 5"):
        train_loader(index, batch_size=5).load_state_dict(loader.state_dict())
    list(loader)
    other = train_loader(index, batch_size=5)
    other.load_state_dict(loader.state_dict())
    assert list(other) == []
    assert len(in_epoch(other, 1)) == 10


def test_held_samples_have_one_order_for_any_number_of_ranks_and_workers(index):
    keys = index.keys()[5:45:2]  # 20 samples over four shards
    alone = in_epoch(train_loader(index, keys=keys, batch_size=8, hold=True), 1)
    assert [len(batch) for batch in alone] == [8, 8]
    assert len({key for batch in alone for key in batch} & set(keys.tolist())) == 16
    for workers in (0, 2):
        ranks = [in_epoch(train_loader(index, rank, 2, workers, 4, keys=keys, hold=True), 1) for rank in range(2)]
        assert [[*one, *two] for one, two in zip(*ranks, strict=True)] == alone
    assert in_epoch(train_loader(index, keys=keys, batch_size=8, hold=True, seed=1), 1) != alone
    loader = train_loader(index, keys=keys, batch_size=8, hold=True)
    assert in_epoch(loader, 2) != alone
    next(iter(loader))
    rest = train_loader(index, 0, 2, 0, 4, keys=keys, hold=True)
    rest.load_state_dict(loader.state_dict())
    assert len(keys_in(rest)) == 1, "another number of ranks goes on in the same epoch"


def test_augmentation_depends_on_seed_epoch_and_key_only(index):
    def images(world, workers, epoch):
        found = {}
        for rank in range(world):
            loader = train_loader(index, rank, world, workers, transform=noisy)
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                found.update(zip(batch["key"].tolist(), batch["image"], strict=True))
        return found

    alone, many, later = images(1, 0, 0), images(2, 2, 0), images(1, 0, 1)
    common = alone.keys() & many.keys()
    assert len(common) > 40
    assert all(torch.equal(alone[key], many[key]) for key in common)
    assert not any(torch.equal(alone[key], later[key]) for key in alone.keys() & later.keys())


def test_seeded_leaves_no_trace():
    before = torch.get_rng_state()
    with seeded(1, 2, 3):
        first = torch.rand(2)
    assert torch.equal(before, torch.get_rng_state())
    with seeded(1, 2, 3):
        assert torch.equal(first, torch.rand(2))


def test_too_few_samples_and_broken_ones(tmp_path):
    small = write_set(tmp_path, "train", [6])
    with pytest.raises(MmoodError, match="has 6 samples, fewer than one batch of 4 on each of 2 devices"):
        train_loader(small, world=2)
    rewrite_shard(small, 0, [(f"{i}.{field}", b"0") for i in range(6) for field in ("png", "cls")])
    with pytest.raises(MmoodError, match="cannot be decoded"):
        list(train_loader(small))
    skip = LoaderSettings(workers=0, on_error="skip")
    loader = TrainLoader(small, small.keys(), Decoder(to_tensor, CLASSES), 4, skip)
    with pytest.raises(MmoodError, match="No sample of training batch 0 could be read"):
        list(loader)


class Recorder(LightningModule):
    """Writes down (epoch, keys) of every training batch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.trainer.current_epoch, batch["key"].tolist()))
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class StopAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, module, *_):
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


def trainer(tmp_path, *callbacks):
    saver = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    return Trainer(
        accelerator="cpu", max_epochs=4, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[saver, *callbacks], default_root_dir=tmp_path,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_resumes_in_the_middle_of_an_epoch(index, tmp_path, workers):
    whole = Recorder()
    trainer(tmp_path / "whole").fit(whole, train_dataloaders=train_loader(index, workers=workers))
    assert [epoch for epoch, _ in whole.seen] == [0] * 12 + [1] * 12 + [2] * 12 + [3] * 12
    assert len({str(keys) for _, keys in whole.seen}) == 48
    for stop in (5, 12, 17, 24):
        resumed = Recorder()
        checkpoint = tmp_path / "whole" / f"step={stop}.ckpt"
        trainer(tmp_path / str(stop)).fit(
            resumed, train_dataloaders=train_loader(index, workers=workers), ckpt_path=checkpoint
        )
        assert resumed.seen == whole.seen[stop:]
