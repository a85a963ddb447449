"""The command line on a GPU: the numbers of the CPU, and every way from a fit to decisions.

Skipped where there is no GPU; `make gpu` runs it before it measures.
"""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmood.cli.main import main
from mmood.detector.streams import StreamDetector
from mmood.metrics.functional import ood_metrics

pytestmark = pytest.mark.gpu

STREAMS = {"adaneg": "AdaNeg", "tanl": "TANL", "coevo": "CoEvo", "interneg": "InterNeg"}
WORDS = [f"{first} {second}" for first in ("wet", "old", "tiny") for second in ("fork", "lamp", "cloud", "tram")]


@pytest.fixture
def words(tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(WORDS) + "\n")
    return str(tmp_path / "words.txt")


@pytest.fixture
def flags(toy_flags, tmp_path, monkeypatch):
    """Toy sets with validation sets, and a cache for each test."""
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    data = ["--data.train", "toy-train", "--data.val", "{id: 0.25, ood: {val: [toy-val-ood]}}"]
    return [*toy_flags, *data, "--data.batch_size", "16", "--data.loader.workers", "2"]


def on(device, precision="32-true"):
    return ["--trainer.accelerator", device, "--trainer.precision", precision]


def run(arguments, folder):
    assert main([*arguments, "--run_dir", str(folder)]) == 0
    return folder


def arrays(folder):
    """Return the scores of each set in a run folder."""
    return {path.stem: dict(np.load(path)) for path in sorted((folder / "scores").glob("*.npz"))}


def assert_alike(one, two, atol):
    assert one.keys() == two.keys()
    for name, columns in one.items():
        for column in columns.keys() - {"predicted"}:
            np.testing.assert_allclose(columns[column], two[name][column], rtol=1e-3, atol=atol, err_msg=column)


def test_a_test_gives_the_numbers_of_the_cpu_and_bf16_those_near_them(flags, words, tmp_path):
    scores = {
        "mcm": {"class_path": "MCM"},
        "neglabel": {"class_path": "NegLabel", "init_args": {"negatives": words, "groups": 2}},
        "knn": {"class_path": "KNN", "init_args": {"k": 3}},
        "mahalanobis": {"class_path": "Mahalanobis"},
    }
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *flags, "--model.scores", json.dumps(scores)]
    cpu = run([*arguments, *on("cpu")], tmp_path / "cpu")
    gpu = run([*arguments, *on("gpu")], tmp_path / "gpu")
    half = run([*arguments, *on("gpu", "bf16-mixed")], tmp_path / "half")
    assert_alike(arrays(cpu), arrays(gpu), atol=1e-3)
    assert "NVIDIA" in json.loads((gpu / "results.json").read_text())["provenance"]["accelerator"]
    for name in scores:
        aurocs = [
            ood_metrics(found["toy-test"][name], found["toy-near"][name]).auroc for found in map(arrays, (gpu, half))
        ]
        assert aurocs[1] == pytest.approx(aurocs[0], abs=0.1), name


FITS = {
    "vitb16_align.yaml": ["--trainer.max_epochs", "2"],
    "vitb16_fft.yaml": ["--trainer.max_epochs", "2"],
    "vitb16_plp.yaml": ["--trainer.max_epochs", "4", "--trainer.check_val_every_n_epoch", "2"],
    "vitb16_linear.yaml": ["--trainer.max_epochs", "4", "--trainer.check_val_every_n_epoch", "2"],
}


@pytest.mark.parametrize("config", FITS)
def test_from_a_fit_in_bf16_to_decisions(config, flags, words, toy_root, tmp_path):
    more = ["--model.scores.neglabel.init_args.negatives", words] if "align" in config else []
    own = ["--model.training.batch_size", "16"] if config in ("vitb16_plp.yaml", "vitb16_linear.yaml") else []
    trained = run(
        ["fit", "--config", config, *flags, *more, *own, *FITS[config], *on("gpu", "bf16-mixed")], tmp_path / "fit"
    )
    checkpoint = ["--ckpt_path", str(trained / "checkpoints" / "last.ckpt")]
    state = torch.load(checkpoint[1], weights_only=True, map_location="cpu")["state_dict"]
    assert all(tensor.isfinite().all() for tensor in state.values())
    gpu = run(["test", *checkpoint, *on("gpu")], tmp_path / "gpu")
    cpu = run(["test", *checkpoint, *on("cpu"), "--data.features", "off"], tmp_path / "cpu")
    assert_alike(arrays(cpu), arrays(gpu), atol=2e-3)
    pictures = str(toy_root.parent / "images" / "toy-near")
    run(["predict", *checkpoint, "--data.predict", pictures, *on("gpu", "bf16-mixed")], tmp_path / "predict")
    score = "mcm" if "align" in config else "msp"
    detector = str(tmp_path / "detector")
    assert main(["calibrate", *checkpoint, "--score", score, "--id_recall", "0.8", "--out", detector, *on("gpu")]) == 0
    found = {}
    for device in ("cuda", "cpu"):
        out = tmp_path / f"{device}.csv"
        assert main(["detect", detector, pictures, "--out", str(out), "--device", device]) == 0
        found[device] = [float(row["score"]) for row in csv.DictReader(out.open())]
    assert found["cuda"] == pytest.approx(found["cpu"], abs=2e-3)


@pytest.mark.parametrize("extra", [[], ["--model.execution.chunk", "5"], ["--model.execution.checkpointing", "true"]])
def test_training_is_that_of_the_cpu(extra, flags, words, tmp_path):
    more = ["--model.scores.neglabel.init_args.negatives", words, "--trainer.max_epochs", "1", *extra]
    # Adam divides each gradient by its size: of one that is only rounding, the step would be a coin's.
    more += ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.1"]
    states = []
    for device in ("cpu", "gpu"):
        run(["fit", "--config", "vitb16_align.yaml", *flags, *more, *on(device)], tmp_path / device)
        path = tmp_path / device / "checkpoints" / "last.ckpt"
        states.append(torch.load(path, weights_only=True, map_location="cpu")["state_dict"])
    torch.testing.assert_close(states[0], states[1], rtol=1e-3, atol=1e-4)


def stream_flags(flags, words):
    mining = {"corpus": {"nouns": [words]}, "count": 8}
    own = {
        "adaneg": {"groups": 2, "temperature": 0.1, "mining": mining, "gates": {"gap": 0.0}},
        "tanl": {"temperature": 0.1, "mining": mining, "gate": {"gap": 0.0}},
        "coevo": {"groups": 2, "temperature": 0.1, "mining": mining, "gates": {"gap": 0.0}},
        "interneg": {
            **{"groups": 2, "temperature": 0.1, "mining": {**mining, "criterion": "inter_modal"}, "beta": 0.99},
            "inversion": {"steps": 3, "templates": ["a photo of a {}", "a {}"]},
            "images": {"shots": 4},
        },
    }
    scores = {name: {"class_path": STREAMS[name], "init_args": arguments} for name, arguments in own.items()}
    return ["--config", "vitb16_zeroshot.yaml", *flags, "--model.scores", json.dumps(scores)]


def test_streams_learn_on_the_device(flags, words, tmp_path):
    folder = run(
        ["test", *stream_flags(flags, words), *on("gpu"), "--evaluation.stream.batch_size", "8"], tmp_path / "run"
    )
    results = json.loads((folder / "results.json").read_text())
    assert {row["score"] for row in results["rows"]} == set(STREAMS)
    assert all(np.isfinite(row["auroc"]) for row in results["rows"])


@pytest.mark.parametrize("method", STREAMS)
def test_a_memory_moves_between_devices(method, flags, words, toy_root, tmp_path):
    pictures = [Image.open(path) for path in sorted((toy_root.parent / "images" / "toy-near").iterdir())]
    on_device = StreamDetector.from_settings([*stream_flags(flags, words), *on("gpu")], method)
    on_cpu = StreamDetector.from_settings([*stream_flags(flags, words), *on("cpu")], method)
    on_device.reset(seed=1)
    on_device.step(pictures[:8])
    on_device.save_state(tmp_path / "state.safetensors")
    on_cpu.load_state(tmp_path / "state.safetensors")
    assert on_cpu.score.counts() == on_device.score.counts()
    for stream in (on_cpu, on_device):
        assert stream.step(pictures[8:16]).isfinite().all()


def test_a_store_and_the_tuning_on_it(flags, tmp_path):
    common = ["--config", "vitb16_zeroshot.yaml", *flags, *on("gpu"), "--quiet"]
    assert main(["embed", *common]) == 0
    grid = ["--grid", "{mcm: {temperature: [0.01, 1.0]}}", "--out", str(tmp_path / "tuned.yaml")]
    assert main(["tune", *common, *grid]) == 0
    folder = run(["test", *common[:-1], "--config", str(tmp_path / "tuned.yaml")], tmp_path / "run")
    assert (folder / "results.json").exists()
