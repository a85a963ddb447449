"""Labels of stored features are those of the index, whenever the set was encoded."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.features.store import Manifest, open_set, write_manifest
from mmood.shards.shard_index import load_index


@pytest.fixture
def root(toy_root, tmp_path):
    return shutil.copytree(toy_root, tmp_path / "shards")


def without_classes(root, name):
    """Take the classes out of an index; returns what puts them back."""
    path = root / name / "index.json"
    whole = path.read_text()
    path.write_text(json.dumps({**json.loads(whole), "classes": None, "class_names": [], "class_folders": []}))
    return lambda: path.write_text(whole)


def results_of(arguments, folder):
    assert main(["test", "--config", "vitb16_zeroshot.yaml", *arguments, "--run_dir", str(folder)]) == 0
    return json.loads((folder / "results.json").read_text())


def test_a_set_that_was_encoded_before_it_had_classes_has_its_labels(root, toy_root, toy_flags, tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    flags = [str(root) if flag == str(toy_root) else flag for flag in toy_flags]
    # SHE learns from the labels of the training images.
    scores = "{mcm: {class_path: MCM}, she: {class_path: SHE}}"
    flags += ["--data.train", "toy-train", "--model.scores", scores]
    right = results_of([*flags, "--data.features", "off"], tmp_path / "images")
    put_back = [without_classes(root, name) for name in ("toy-test", "toy-train")]
    assert main(["embed", "--config", "vitb16_zeroshot.yaml", *flags, "--quiet"]) == 0
    for each in put_back:
        each()
    found = results_of(flags, tmp_path / "stored")
    assert found["provenance"]["sets"]["toy-test"]["features"] is not None
    assert found["id"] == right["id"]
    assert [row["auroc"] for row in found["rows"]] == pytest.approx([row["auroc"] for row in right["rows"]], abs=1e-5)


def stored(folder, labels):
    from safetensors.torch import save_file

    folder.mkdir()
    tensors = {"features": torch.zeros(len(labels), 2), "label": torch.tensor(labels, dtype=torch.int64)}
    save_file(tensors, folder / "features.safetensors")
    write_manifest(folder, Manifest({}, "fp32", len(labels), 8, {}, ""))
    return folder


def test_only_missing_labels_are_read_from_the_table(toy_root, tmp_path):
    index = load_index(str(toy_root), "toy-test")
    labels = [key % 3 for key in range(index.count)]
    whole = open_set(stored(tmp_path / "whole", labels), replace(index, root="nowhere"))
    assert whole.label.tolist() == labels
    half = open_set(stored(tmp_path / "half", [-1 if key % 2 else key % 3 for key in range(index.count)]), index)
    assert half.label.sort().values.tolist() == sorted(labels)


def test_a_set_without_classes_keeps_what_is_stored(toy_root, tmp_path):
    index = load_index(str(toy_root), "toy-near")
    store = open_set(stored(tmp_path / "store", [-1] * index.count), index)
    assert (store.label == -1).all()


def test_a_label_beyond_the_classes_is_refused(toy_root, tmp_path):
    index = load_index(str(toy_root), "toy-test")
    folder = stored(tmp_path / "store", [key % 3 for key in range(index.count)])
    with pytest.raises(MmoodError, match="has 2 classes, but key 2 has the label 2"):
        open_set(folder, replace(index, classes=2))
