"""Streams from the command line: every image once, the same on any number of ranks, with and without a store."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stream_runs import run

from mmood.cli.main import main
from mmood.configuration.lightning import built
from mmood.detector.streams import StreamDetector
from mmood.evaluation.streams.order import stream_order
from mmood.loading.loader import Decoder, EvalLoader

SIZES = {"toy-test": 37, "toy-near": 21, "toy-far": 2}


def streams(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays of every stream that a run kept, by path."""
    root = folder / "scores" / "streams"
    return {str(path.relative_to(root)): dict(np.load(path)) for path in sorted(root.rglob("*.npz"))}


def stream_rows(results: dict) -> list[dict]:
    return [row for row in results["rows"] if row["protocol"] == "test_time"]


def without(row: dict, *names: str) -> dict:
    return {name: value for name, value in row.items() if name not in names}


def test_every_image_is_scored_once_in_the_order_of_the_seed(flags, tmp_path):
    results = run(["test", *flags], tmp_path)
    found = streams(tmp_path)
    wanted = {
        f"{score}/{name}.{seed}.npz"
        for score in ("running", "late")
        for name in ("toy-near", "toy-far")
        for seed in (0, 5)
    }
    assert set(found) == wanted
    for path, arrays in found.items():
        name, seed = Path(path).stem.rsplit(".", 1)
        order = stream_order(np.arange(37), np.arange(SIZES[name]), int(seed))
        np.testing.assert_array_equal(arrays["key"], order.key)
        np.testing.assert_array_equal(arrays["label"] == -1, order.ood)
        labels = arrays["label"][~order.ood][np.argsort(order.key[~order.ood])]
        np.testing.assert_array_equal(labels, np.load(tmp_path / "scores" / "toy-test.npz")["label"])
    rows = stream_rows(results)
    assert {(row["score"], row["set"], row["seed"], row["n_id"], row["n_ood"]) for row in rows} == {
        (score, name, seed, 37, SIZES[name])
        for score in ("running", "late")
        for name in ("toy-near", "toy-far")
        for seed in (0, 5)
    }
    assert [row["seed"] for row in results["rows"] if row["score"] == "mcm"] == [None, None]


def test_the_scores_are_those_of_a_loop_over_the_embeddings(flags, toy_root, tmp_path):
    """An independent loop: the images encoded again, cut by hand."""
    run(["test", *flags], tmp_path)
    rows = _embeddings(flags, tmp_path / "built")
    keep = streams(tmp_path)["late/toy-near.5.npz"]
    images = torch.stack(
        [
            rows["toy-near" if label < 0 else "toy-test"][key]
            for key, label in zip(keep["key"], keep["label"], strict=True)
        ]
    )
    mean, seen, expected = torch.zeros(16), 0, []
    generator = torch.Generator().manual_seed(5)
    for start_at in range(0, len(images), 8):
        batch = images[start_at : start_at + 8]
        expected.append(batch @ mean + 0.01 * torch.rand(len(batch), generator=generator))
        seen += len(batch)
        mean = images[:seen].mean(dim=0)
    np.testing.assert_allclose(keep["score"], torch.cat(expected).numpy(), atol=1e-5)


def _embeddings(flags: list[str], folder: Path) -> dict[str, torch.Tensor]:
    cli = built([*flags, "--run_dir", str(folder)])
    cli.model.eval()
    rows = {}
    for name, entry in cli.datamodule.catalog.indices(["toy-test", "toy-near"]).items():
        decoder = Decoder(cli.model.image_transform(train=False), classes=None)
        loader = EvalLoader(entry, entry.keys(), decoder, 64, cli.datamodule.loader)
        with torch.no_grad():
            rows[name] = torch.cat([cli.model.encoder.encode_image(batch["image"]).embedding for batch in loader])
    return rows


def test_counts_and_purity_are_in_the_results(flags, tmp_path):
    results = run(["test", *flags], tmp_path)
    section = results["provenance"]["streams"]
    assert section["protocol"] == {
        "batch_size": 8,
        "order": "shuffled",
        "ratio": None,
        "carry": False,
        "seeds": [0, 5],
        "update": {"running": "before", "late": "after"},
    }
    assert len(section["runs"]) == 8
    for entry in section["runs"]:
        assert entry["counts"]["seen"] == 37 + SIZES[entry["set"]]
        assert entry["purity"]["ood"]["kept"] == entry["counts"]["low"]
        assert entry["purity"]["id"] == {"kept": 0, "pure": None}


def test_a_fresh_start_before_each_set_unless_state_is_carried(flags, tmp_path):
    apart = run(["test", *flags], tmp_path / "apart")
    only_far = run(["test", *flags, "--data.ood", "{far: [toy-far]}"], tmp_path / "far")
    of_far = [row for row in stream_rows(apart) if row["set"] == "toy-far"]
    assert of_far == stream_rows(only_far)
    carried = run(["test", *flags, "--evaluation.stream.carry", "true"], tmp_path / "carried")
    runs = {(r["score"], r["set"], r["seed"]): r for r in carried["provenance"]["streams"]["runs"]}
    assert runs["late", "toy-near", 0]["counts"]["seen"] == 37 + 21
    assert runs["late", "toy-far", 0]["counts"]["seen"] == 37 + 21 + 37 + 2
    one, other = streams(tmp_path / "apart"), streams(tmp_path / "carried")
    np.testing.assert_array_equal(one["late/toy-near.0.npz"]["score"], other["late/toy-near.0.npz"]["score"])
    assert not np.array_equal(one["late/toy-far.0.npz"]["score"], other["late/toy-far.0.npz"]["score"])


def test_a_ratio_subsamples_both_sides(flags, tmp_path):
    results = run(
        ["test", *flags, "--evaluation.stream.ratio", "[4, 1]", "--evaluation.stream.order", "id-first"], tmp_path
    )
    assert {(row["set"], row["n_id"], row["n_ood"]) for row in stream_rows(results)} == {
        ("toy-near", 36, 9),
        ("toy-far", 8, 2),
    }
    assert {row["n_id"] for row in results["rows"] if row["score"] == "mcm"} == {37}
    label = streams(tmp_path)["late/toy-near.0.npz"]["label"]
    assert (label[:36] >= 0).all()
    assert (label[36:] == -1).all()


def test_without_a_store_features_lie_in_the_run_folder_and_then_no_more(flags, tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    off = run(["test", *flags, "--data.features", "off"], tmp_path / "off")
    assert not (tmp_path / "cache" / "features").exists()
    assert not (tmp_path / "off" / "features").exists()
    auto = run(["test", *flags], tmp_path / "auto")
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 3
    assert off["rows"] == auto["rows"]
    assert off["rows"] == run(["test", *flags], tmp_path / "again")["rows"]


def test_images_are_decoded_once(flags, tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    decoded = []
    original = Decoder.__call__
    monkeypatch.setattr(Decoder, "__call__", lambda self, *arguments: decoded.append(1) or original(self, *arguments))
    run(["test", *flags], tmp_path / "run")
    assert len(decoded) == sum(SIZES.values())


def test_nan_ends_the_run_and_says_where(flags, tmp_path, capsys):
    scores = "{running: {class_path: running_mean.RunningMean, init_args: {nan_at: 11}}}"
    assert main(["test", *flags, "--model.scores", scores, "--run_dir", str(tmp_path)]) == 2
    order = stream_order(np.arange(37), np.arange(21), 0)
    side = "OoD" if order.ood[11] else "ID"
    error = capsys.readouterr().err
    assert "'running' is NaN on the stream of 'toy-near' with seed 0" in error
    assert f"{side} image with key {order.key[11]};" in error
    assert not (tmp_path / "results.json").exists()


def test_validate_runs_streams_and_limits_leave_them_out(flags, tmp_path, capsys):
    data = ["--data.val", "{id: toy-test, ood: {far: [toy-far]}}"]
    results = run(["validate", *flags, *data], tmp_path / "validate")
    assert len(stream_rows(results)) == 4
    assert main(["test", *flags, "--trainer.limit_test_batches", "2", "--run_dir", str(tmp_path / "part")]) == 0
    assert "RUNNING" not in capsys.readouterr().out.split("Score")[-1].upper()
    assert not (tmp_path / "part" / "scores").exists()


def test_a_run_of_stream_scores_alone(flags, tmp_path):
    scores = "{running: {class_path: running_mean.RunningMean}}"
    results = run(["test", *flags, "--model.scores", scores], tmp_path)
    assert {row["score"] for row in results["rows"]} == {"running"}
    assert results["id"][0]["n"] == 37


@pytest.mark.ddp
@pytest.mark.parametrize("more", [[], ["--data.features", "off"], ["--evaluation.stream.carry", "true"]])
def test_two_ranks_give_the_same_bits(more, flags, tmp_path, forked):
    one = run(["test", *flags, *more], tmp_path / "one")
    finished = forked.ranks(["test", *flags, *more, "--run_dir", str(tmp_path / "two")])
    assert finished.code == 0, finished.err
    two = json.loads((tmp_path / "two" / "results.json").read_text())
    assert two["provenance"]["world_size"] == 2
    assert stream_rows(one) == stream_rows(two)
    assert one["provenance"]["streams"] == two["provenance"]["streams"]
    first, second = streams(tmp_path / "one"), streams(tmp_path / "two")
    assert first.keys() == second.keys()
    for path, arrays in first.items():
        for name, values in arrays.items():
            np.testing.assert_array_equal(values, second[path][name])


@pytest.mark.ddp
def test_nan_on_one_rank_ends_all(flags, tmp_path, forked):
    scores = "{late: {class_path: running_mean.RunningMean, init_args: {nan_at: 58}}}"
    more = ["--model.scores", scores, "--data.ood", "{near: [toy-near, toy-far]}", "--evaluation.stream.carry", "true"]
    more += ["--evaluation.stream.seeds", "[0]"]
    finished = forked.ranks(["test", *flags, *more, "--run_dir", str(tmp_path)])
    assert finished.code == 2
    assert finished.err.count("is NaN on the stream of 'toy-far' with seed 0") == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_predicted_images_are_one_stream_in_their_order(workers, flags, toy_root, tmp_path):
    images = toy_root.parent / "images" / "toy-near"
    predict = ["predict", *flags, "--data.predict", str(images), "--data.loader.workers", str(workers)]
    assert main([*predict, "--run_dir", str(tmp_path)]) == 0
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert list(rows[0]) == ["image", "status", "reason", "class", "mcm", "running", "late", "run"]
    assert [row["image"] for row in rows] == sorted(path.name for path in images.iterdir())
    stream = StreamDetector.from_settings(flags, "late")
    pictures = [Image.open(path) for path in sorted(images.iterdir())]
    expected = torch.cat([stream.step(pictures[start : start + 8]) for start in range(0, len(pictures), 8)])
    np.testing.assert_allclose([float(row["late"]) for row in rows], expected.numpy(), atol=1e-6)
    assert not (tmp_path / "features").exists()


def test_an_image_that_cannot_be_read_is_no_part_of_the_stream(flags, toy_root, tmp_path):
    images = shutil.copytree(toy_root.parent / "images" / "toy-near", tmp_path / "images")
    (images / "004.png").write_bytes(b"no image")
    predict = ["predict", *flags, "--data.predict", str(images)]
    assert main([*predict, "--run_dir", str(tmp_path / "broken")]) == 0
    (images / "004.png").unlink()
    assert main([*predict, "--run_dir", str(tmp_path / "without")]) == 0
    broken, without = (
        [[row["image"], row["late"]] for row in csv.DictReader((tmp_path / name / "predictions.csv").open())]
        for name in ("broken", "without")
    )
    assert [row for row in broken if row[1]] == without
    assert broken[4] == ["004.png", ""]


@pytest.mark.ddp
def test_predicting_a_stream_needs_one_process(flags, toy_root, tmp_path, forked):
    images = toy_root.parent / "images" / "toy-near"
    finished = forked.ranks(["predict", *flags, "--data.predict", str(images), "--run_dir", str(tmp_path)])
    assert finished.code == 2
    assert "running, late, which learns from all images as one stream" in finished.err
