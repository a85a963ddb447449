"""Stream scores on fine-tuned towers: from the checkpoint alone, at several weights, and not while a run trains."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from stream_runs import run

from mmood.cli.main import main
from mmood.detector.streams import StreamDetector

SCORES = (
    "{mcm: {class_path: MCM}, late: {class_path: AdaNeg, init_args: {groups: 1, update: after, mining: {count: 40}}}, "
    "adaneg: {class_path: AdaNeg, init_args: {groups: 1, mining: {count: 40}}}}"
)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, toy_root, toy_model):
    """The run folder of a few steps of CMA with a learning rate that moves the weights visibly."""
    folder = tmp_path_factory.mktemp("tuned")
    flags = [
        *("--model.encoder.name", toy_model, "--data.root", str(toy_root), "--data.benchmark", "null"),
        *("--data.train", "toy-train", "--data.id", "toy-test", "--data.ood", "{near: [toy-near], far: [toy-far]}"),
        *("--data.class_names", str(toy_root / "classes.txt"), "--data.loader.workers", "0", "--data.batch_size", "24"),
        *("--data.val", "{id: toy-test, ood: {val: [toy-val-ood]}}", "--model.optimizer.init_args.lr", "0.003"),
        *("--model.schedule.init_args.warmup", "0", "--model.scores", SCORES),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.max_epochs", "1"),
        *("--trainer.precision", "32-true", "--trainer.enable_progress_bar", "false"),
    ]
    assert main(["fit", "--config", "vitb16_align.yaml", *flags, "--run_dir", str(folder)]) == 0
    return folder


@pytest.fixture
def checkpoint(tuned):
    return tuned / "checkpoints" / "last.ckpt"


def test_streams_are_left_out_while_a_run_trains(tuned):
    logged = (tuned / "logs" / "fit" / "metrics.csv").read_text().splitlines()[0]
    assert "ood/toy-val-ood/mcm_auroc" in logged
    assert "adaneg" not in logged
    assert not (tuned / "scores").exists()


def test_a_checkpoint_is_tested_with_the_streams_of_its_settings(checkpoint, tmp_path):
    few = ["--evaluation.stream.seeds", "[0, 1]", "--evaluation.stream.batch_size", "8"]
    tested = ["test", "--ckpt_path", str(checkpoint), *few]
    one = run(tested, tmp_path / "one")
    assert {row["score"] for row in one["rows"] if row["protocol"] == "test_time"} == {"late", "adaneg"}
    interpolated = run([*tested, "--model.weight_interpolation", "[0, 1]"], tmp_path / "both")
    rows = [{**row, "variant": None} for row in interpolated["rows"] if row["variant"] == "wise-ft 1"]
    assert rows == one["rows"], "the towers are those of the checkpoint"
    assert [{**row, "variant": None} for row in interpolated["rows"] if row["variant"] == "wise-ft 0"] != one["rows"]
    runs = interpolated["provenance"]["streams"]["runs"]
    assert [entry["variant"] for entry in runs] == ["wise-ft 0"] * 8 + ["wise-ft 1"] * 8
    kept = tmp_path / "both" / "scores" / "streams" / "adaneg [wise-ft 1]" / "toy-near.1.npz"
    alone = tmp_path / "one" / "scores" / "streams" / "adaneg" / "toy-near.1.npz"
    np.testing.assert_array_equal(np.load(kept)["score"], np.load(alone)["score"])


def test_the_stream_detector_takes_the_weights_of_a_checkpoint(checkpoint, toy_root):
    pictures = [Image.open(path) for path in sorted((toy_root.parent / "images" / "toy-near").iterdir())]
    stored = torch.load(checkpoint, weights_only=True)
    stream = StreamDetector.from_settings([], "adaneg", checkpoint)
    weights = {f"encoder.{name}": tensor for name, tensor in stream.graph.encoder.state_dict().items()}
    towers = {name: tensor for name, tensor in stored["state_dict"].items() if name in weights}
    assert towers
    assert all(torch.equal(tensor, weights[name]) for name, tensor in towers.items())
    untrained = StreamDetector.from_settings(["--data.root", str(toy_root)], "adaneg", checkpoint)
    assert torch.equal(stream.step(pictures), untrained.step(pictures))
    list_of_run = stored["mmood_scores"]["adaneg"]
    assert json.dumps(stream.score.learned(), default=str) == json.dumps(list_of_run, default=str), (
        "mined before training"
    )
