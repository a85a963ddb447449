"""The toy sets as data."""

from collections.abc import Callable

import pytest

from mmood.data.datamodule import OoDDataModule
from mmood.data.settings import ValSettings
from mmood.loading.settings import LoaderSettings


@pytest.fixture
def data(toy_root, tmp_path, monkeypatch) -> Callable[..., OoDDataModule]:
    """What makes data of the toy sets, with a cache that is empty."""
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))

    def make(**more) -> OoDDataModule:
        names = str(toy_root / "classes.txt")
        settings = {"id": "toy-test", "ood": {"near": ["toy-near"]}, "train": "toy-train", "val": ValSettings(id=0.25)}
        loader = LoaderSettings(workers=0, seed=more.pop("seed", 0))
        return OoDDataModule(str(toy_root), class_names=names, batch_size=16, loader=loader, **{**settings, **more})

    return make
