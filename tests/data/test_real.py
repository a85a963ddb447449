"""Real images: set MMOOD_REAL_DATA to a folder with data/SET/*.tar to run these."""

import os
from pathlib import Path

import pytest
from data_world import SIZE, to_tensor

from mmood.cli.pack import main
from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.settings import LoaderSettings
from mmood.shards.shard_index import load_index

ROOT = os.environ.get("MMOOD_REAL_DATA")
pytestmark = pytest.mark.skipif(ROOT is None, reason="MMOOD_REAL_DATA names no folder with real shards")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Links to the shards, since the folder itself is only read, and indexes beside the links."""
    folder = tmp_path_factory.mktemp("real")
    for name in ("id-test", "far-textures"):
        (folder / name).mkdir()
        for shard in (Path(ROOT) / "data" / name).glob("*.tar"):
            (folder / name / shard.name).symlink_to(shard)
        assert main(["--index", str(folder / name), "--quiet"]) == 0
    return folder


def test_hashes_are_those_of_the_publisher(root):
    published = dict(reversed(line.split()) for line in (Path(ROOT) / "data/SHA256SUMS").read_text().splitlines())
    for name in ("id-test", "far-textures"):
        for shard in load_index(str(root), name).shards:
            assert shard.sha256 == published[f"{name}/{shard.url}"]


@pytest.mark.parametrize(("name", "count", "classes"), [("id-test", 5000, 100), ("far-textures", 300, None)])
def test_every_image_once_over_three_ranks(root, name, count, classes):
    index = load_index(str(root), name)
    assert (index.count, index.classes) == (count, classes)
    settings, keys, labels = LoaderSettings(workers=1), [], []
    for rank in range(3):
        decoder = Decoder(to_tensor, classes)
        for batch in EvalLoader(index, index.keys(), decoder, 64, settings, rank, 3):
            assert batch["image"].shape[1:] == (3, SIZE, SIZE)
            keys += batch["key"].tolist()
            labels += batch["label"].tolist()
    assert keys == list(range(count))
    table = index.rows()
    assert labels == [-1 if classes is None else row.label for row in table]
    assert all(row.name and row.source for row in table)
