"""An OoD set that holds ID images is said to, by every test."""

import json
import shutil

import numpy as np
import pytest

from mmood.cli.main import main
from mmood.data.catalog import EvaluationSet
from mmood.errors import MmoodError
from mmood.evaluation import overlap
from mmood.metrics.functional import auroc
from mmood.results.model import Overlap
from mmood.results.overlap import overlap_sentences
from mmood.results.serialisation import read_results
from mmood.shards.hashes import NO_IMAGE, are_copies
from mmood.shards.shard_index import ShardEntry, ShardIndex, load_index

COPIES = 9


@pytest.fixture
def root(toy_root, tmp_path, monkeypatch):
    """The toy sets, and two OoD sets with copies: nine images of the ID test set, and three of the training set."""
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    root = shutil.copytree(toy_root, tmp_path / "shards")
    images = toy_root.parent / "images"
    for name, source, count in (("near-copy", "toy-test", COPIES), ("far-copy", "toy-train", 3)):
        folder = shutil.copytree(images / "toy-far", tmp_path / name)
        for number, path in enumerate(sorted((images / source).rglob("*.png"))[:count]):
            shutil.copy(path, folder / f"copy-{number}.png")
        assert main(["pack", "--out", str(root / name), "--folder", str(folder), "--quiet"]) == 0
    return root


@pytest.fixture
def flags(root, toy_root, toy_flags):
    flags = [str(root) if flag == str(toy_root) else flag for flag in toy_flags]
    return ["--config", "vitb16_zeroshot.yaml", *flags, "--data.ood", "{near: [near-copy, toy-near], far: [far-copy]}"]


def results_of(flags, folder, *more):
    assert main(["test", *flags, "--run_dir", str(folder), *more]) == 0
    return json.loads((folder / "results.json").read_text())


def counted(results):
    return {(one["set"], one["id_set"]): (one["copies"], one["n"]) for one in results["overlap"]}


def test_copies_of_id_test_images_are_counted_and_said(flags, tmp_path, capsys):
    results = results_of(flags, tmp_path / "run")
    assert counted(results) == {
        ("near-copy", "toy-test"): (COPIES, COPIES + 2),
        ("toy-near", "toy-test"): (0, 21),
        ("far-copy", "toy-test"): (0, 5),
    }
    said = f"{COPIES} of {COPIES + 2} images of near-copy are in toy-test"
    assert said in " ".join(capsys.readouterr().out.split())
    assert said in (tmp_path / "run" / "results.md").read_text()
    assert read_results(tmp_path / "run").overlap[0].copies == COPIES
    assert main(["report", str(tmp_path / "run"), "--resamples", "0"]) == 0
    assert all(said in (tmp_path / "run" / f"report.{kind}").read_text() for kind in ("html", "md"))


def test_training_images_count_where_the_settings_name_them(flags, tmp_path, capsys):
    found = counted(results_of(flags, tmp_path / "run", "--data.train", "toy-train"))
    assert found["far-copy", "toy-train"] == (3, 5)
    assert found["near-copy", "toy-train"] == (0, COPIES + 2)
    assert len(found) == 6
    assert "3 of 5 images of far-copy are in toy-train" in " ".join(capsys.readouterr().out.split())


def test_without_copies_nothing_is_said_and_zero_is_written(flags, tmp_path, capsys):
    found = counted(results_of(flags, tmp_path / "run", "--data.ood", "{near: [toy-near]}"))
    assert found == {("toy-near", "toy-test"): (0, 21)}
    assert "toy-near are in" not in capsys.readouterr().out


def test_it_can_be_left_out(flags, tmp_path):
    assert "overlap" not in results_of(flags, tmp_path / "run", "--evaluation.overlap", "false")
    assert not (tmp_path / "cache" / "hashes").exists()


def without_hashes(root):
    """Let the sets be as packed before shards came with hashes of their images."""
    for path in root.glob("*/index.json"):
        index = json.loads(path.read_text())
        index["image_hashes"] = ""
        path.write_text(json.dumps(index))


def test_a_second_test_reads_no_image_for_it(root, flags, tmp_path, monkeypatch):
    without_hashes(root)
    first = results_of(flags, tmp_path / "one")
    assert counted(first)["near-copy", "toy-test"] == (COPIES, COPIES + 2)
    monkeypatch.setattr(overlap, "image_hashes", lambda *_: pytest.fail("an image was read"))
    assert results_of(flags, tmp_path / "two")["overlap"] == first["overlap"]


def test_packed_sets_are_compared_however_large_they_are(flags, tmp_path, monkeypatch):
    monkeypatch.setattr(overlap, "MOST_BYTES", 10)
    monkeypatch.setattr(overlap, "image_hashes", lambda *_: pytest.fail("an image was read"))
    assert counted(results_of(flags, tmp_path / "run"))["near-copy", "toy-test"] == (COPIES, COPIES + 2)


def test_a_set_too_large_to_read_for_it_is_said_and_tested(root, flags, tmp_path, monkeypatch, capsys):
    without_hashes(root)
    monkeypatch.setattr(overlap, "MOST_BYTES", 10)
    results = results_of(flags, tmp_path / "run")
    assert all(one["copies"] is None and "GiB" in one["reason"] for one in results["overlap"])
    assert results["rows"]
    assert "contain images of toy-test" in " ".join(capsys.readouterr().out.split())


def test_hashes_that_are_not_those_of_the_index_are_not_used(root):
    index = load_index(str(root), "near-copy")
    images = root / "near-copy" / "images.npy"
    images.write_bytes(images.read_bytes()[:-1] + b"x")
    with pytest.raises(MmoodError, match="are not those that the index names"):
        index.known_hashes(index.keys())
    images.unlink()
    assert index.known_hashes(index.keys()) is None  # the images are read


def test_sets_on_other_machines_are_not_read(root):
    near, far = (
        ShardIndex(name, (ShardEntry(f"{name}.tar", 3, "0" * 64),), root="https://sets.invalid/data") for name in "ab"
    )
    sets = {"a": EvaluationSet("a", "id", near, 3, near.keys()), "b": EvaluationSet("b", "far", far, 3, far.keys())}
    (one,) = overlap.find_overlaps(sets, None, skip=False, quiet=True)
    assert (one.set, one.id_set, one.copies) == ("b", "a", None)
    assert one.reason == "'b' is not on this machine (https://sets.invalid/data/b/b.tar)."


def test_the_sentences_name_each_reason_once():
    one = {"id_set": "train", "n": 5, "copies": None, "reason": "It lies far away."}
    results = type("R", (), {"overlap": (Overlap(set="a", **one), Overlap(set="b", **one))})
    assert overlap_sentences(results) == ["It is unknown whether a, b contain images of train: It lies far away."]


def test_a_sample_without_an_image_is_a_copy_of_nothing():
    images = np.array([NO_IMAGE, 5, 6, 5], dtype=np.uint64)
    assert are_copies(images, np.array([NO_IMAGE, 5], dtype=np.uint64)).tolist() == [False, True, False, True]


def test_an_ood_set_of_id_images_alone_has_an_auroc_of_one_half():
    # Why it matters: the number alone looks like a hard set.
    scores = np.random.default_rng(0).normal(size=300)
    assert auroc(scores, scores) == 0.5
