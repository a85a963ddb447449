"""The loader of stored features, and the files behind it."""

import json

import numpy as np
import pytest
import torch

from mmood.errors import MmoodError
from mmood.features.chunks import ChunkFolder, ChunkPlan
from mmood.features.loader import LEAST_ROWS, FeatureLoader
from mmood.features.store import Manifest, StoredFeatures, open_store, write_manifest

MANIFEST = Manifest({"index_sha256": "0"}, "fp32", 10, 4, {}, "")


def stored(count):
    rows = torch.arange(count)
    return StoredFeatures(rows[:, None].float(), rows[:, None] / count, rows % 7, MANIFEST)


@pytest.mark.parametrize("world", [1, 2, 5])
@pytest.mark.parametrize("keys", [np.arange(3), np.arange(5000), np.arange(0, 5000, 3)])
def test_every_key_comes_once_over_all_ranks_and_every_rank_has_a_batch(keys, world):
    store, seen = stored(5000), []
    for rank in range(world):
        loader = FeatureLoader(store, keys, True, 16, rank, world)
        batches = list(loader)
        assert len(batches) == len(loader) >= 1
        for batch in batches:
            assert len(batch["key"]) <= LEAST_ROWS
            assert torch.equal(batch["features"][:, 0], batch["key"].float())
            assert torch.equal(batch["label"], batch["key"] % 7)
            assert torch.equal(batch["embedding"][:, 0], batch["key"] / 5000)
            seen.append(batch["key"])
    assert torch.cat(seen).tolist() == keys.tolist()


def test_labels_of_an_ood_set_never_show():
    (batch,) = FeatureLoader(stored(10), np.arange(10), False, 16)
    assert (batch["label"] == -1).all()


def chunks_of(folder, count=10, dtype=torch.float16):
    chunks = ChunkFolder(folder, ChunkPlan(count, 4, 2))
    chunks.prepare()
    for chunk in chunks.missing():
        keys = torch.arange(*chunks.plan.bounds(chunk))
        chunks.write(
            chunk,
            {"label": keys, "features": keys[:, None].repeat(1, 3).to(dtype), "embedding": keys[:, None].to(dtype)},
        )
    return chunks


def test_chunks_join_into_a_file_that_safetensors_reads(tmp_path):
    chunks = chunks_of(tmp_path)
    write_manifest(tmp_path, Manifest({}, "fp16", 10, 2, {}, chunks.join()))
    store = open_store(tmp_path)
    assert store.label.tolist() == list(range(10))
    assert store.features[:, 2].tolist() == list(range(10))
    assert store.embedding is not None
    assert store.embedding.dtype == torch.float16


def test_chunks_of_another_plan_are_not_mixed_in(tmp_path):
    chunks_of(tmp_path)
    other = ChunkFolder(tmp_path, ChunkPlan(10, 6, 3))
    other.prepare()
    assert other.missing() == [0, 1]
    with pytest.raises(MmoodError, match="Chunk 0 of the feature store"):
        other.join()


def test_a_store_that_contradicts_its_manifest_is_refused(tmp_path):
    digest = chunks_of(tmp_path).join()
    write_manifest(tmp_path, Manifest({}, "fp16", 11, 2, {}, digest))
    with pytest.raises(MmoodError, match="says 11 rows"):
        open_store(tmp_path)
    (tmp_path / "features.safetensors").write_bytes(b"nothing")
    with pytest.raises(MmoodError, match="cannot be read"):
        open_store(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 9}))
    with pytest.raises(MmoodError, match="schema 9"):
        open_store(tmp_path)
