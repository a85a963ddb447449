import pytest
import torch
from data_world import CLASSES, eval_loader, number_of, to_tensor, write_set

from mmood.loading.buffers import Buffers
from mmood.loading.loader import Decoder
from mmood.loading.settings import LoaderSettings
from mmood.loading.train import TrainLoader

WORKERS = LoaderSettings(workers=2, prefetch=1)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("sets"), "id", [120])


def right(batch):
    return [number_of(image) for image in batch["image"]] == batch["key"].tolist()


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_batch_that_is_kept_is_never_written_again(index, method):
    settings = LoaderSettings(workers=2, prefetch=1, start_method=method)
    kept = list(eval_loader(index, batch_size=2, settings=settings))
    assert len(kept) == 60
    assert all(right(batch) for batch in kept)


@pytest.mark.parametrize("every", [1, 2, 5])
def test_a_view_keeps_its_batch(index, every):
    views, numbers = [], []
    for step, batch in enumerate(eval_loader(index, batch_size=2, settings=WORKERS)):
        assert right(batch)
        if step % every == 0:
            views.append(batch["image"][1:].numpy())
            numbers.append(batch["key"][1].item())
    assert [number_of(torch.from_numpy(view)[0]) for view in views] == numbers


def test_a_batch_of_an_earlier_pass_outlives_the_next(index):
    loader = TrainLoader(index, index.keys(), Decoder(to_tensor, CLASSES), 2, WORKERS)  # persistent workers
    kept = []
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)
        batches = iter(loader)
        kept += [next(batches) for _ in range(7)]  # and the pass is left unfinished
    loader.sampler.set_epoch(9)
    assert all(right(batch) for batch in loader)
    assert all(right(batch) for batch in kept)


def test_buffers_return_when_the_consumer_lets_go(index):
    loader = eval_loader(index, batch_size=2, settings=WORKERS)
    places = set()
    for batch in loader:
        places.add(batch["image"].untyped_storage().data_ptr())
        assert right(batch)
    free = loader._buffers.free
    assert len(free) == 2 * loader._buffers.per_worker
    assert free.sum() >= len(free) - 4  # at most those of the last steps are still out


def test_without_workers_memory_is_plain():
    images, buffer = Buffers(0, 2).take((2, 3, 4, 4))
    assert (tuple(images.shape), buffer, images.is_shared()) == ((2, 3, 4, 4), -1, False)
