"""What ships: every static score, over every module; the detector says of images what `mmood test` writes of them."""

import inspect
import json

import numpy as np
import pytest

import mmood.scores
from mmood.cli.main import main
from mmood.detector.backends.from_module import from_module
from mmood.detector.backends.from_settings import module_from_settings
from mmood.detector.detector import Detector
from mmood.scores.base import AbstractScore
from mmood.scores.test_time.base import AbstractStreamScore

# What has no default, or one for more images than there are here.
SETTINGS = {"KNN": {"k": 3}, "NNGuide": {"k": 3}, "EOE": {"outliers": "WORDS"}}
SETTINGS |= {name: {"negatives": "WORDS"} for name in ("NegLabel", "CSP")}
TIMM = "{name: timm:test_resnet.r160_in1k, pretrained: random, image_size: 32}"
LOADED = {"neglabel", "knn", "vim", "glmcm"}  # tests/scores/test_portable.py saves and loads all of them
OF_HEADS = {"ASH", "ReAct", "SCALE", "Residual", "ViM"}
OF_TWO_HEADS = {"COOkeD"}
OF_SIGMOIDS = {"SigmoidMax", "NoisyOr"}
OF_PROMPTS = {"GMP", "IDLikeScore", "LocalPromptScore", "NegPromptScore"}  # of a PromptLearning that has learned


def static_scores():
    kinds = ((name, getattr(mmood.scores, name)) for name in mmood.scores.__all__)
    return {
        name
        for name, kind in kinds
        if issubclass(kind, AbstractScore)
        and not inspect.isabstract(kind)
        and not issubclass(kind, AbstractStreamScore)
    }


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("\n".join(f"word {number}" for number in range(120)) + "\n")
    return path


@pytest.fixture
def flags(toy_root, toy_model, words):
    """Return the flags of a module with scores, without those of its training."""

    def of(module, names, encoder=f"{{name: '{toy_model}'}}"):
        scores = {name.lower(): {"class_path": name, "init_args": SETTINGS.get(name, {})} for name in sorted(names)}
        return [
            *("--model", module, "--model.encoder", encoder),
            *("--model.scores", json.dumps(scores).replace("WORDS", str(words))),
            *("--data.root", str(toy_root), "--data.id", "toy-test", "--data.ood", "{near: [toy-near]}"),
            *("--data.train", "toy-train", "--data.class_names", str(toy_root / "classes.txt")),
            *("--data.loader.workers", "0", "--trainer.accelerator", "cpu", "--trainer.logger", "false"),
            *("--trainer.enable_progress_bar", "false"),
        ]

    return of


def results_of(arguments, folder):
    """Return the scores of toy-near as `mmood test` writes them."""
    assert main(["test", *arguments, "--run_dir", str(folder)]) == 0
    with np.load(folder / "scores" / "toy-near.npz") as found:
        return {name: found[name] for name in found if name not in ("key", "label", "predicted")}


def check(detector, toy_root, expected):
    images = sorted((toy_root.parent / "images" / "toy-near").iterdir())
    found = np.array([decision.score for decision in detector(images)])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def trained(arguments, folder):
    more = ["--data.batch_size", "16", "--trainer.max_epochs", "1", "--run_dir", str(folder)]
    assert main(["fit", *arguments, *more]) == 0
    return ["--ckpt_path", str(folder / "checkpoints" / "last.ckpt"), "--trainer.accelerator", "cpu"]


@pytest.mark.slow
@pytest.mark.parametrize("module", ["ZeroShot", "LinearProbe"])
def test_every_static_score_ships(module, flags, toy_root, toy_sigmoid_model, tmp_path):
    names = static_scores() - OF_TWO_HEADS - OF_PROMPTS - (OF_HEADS if module == "ZeroShot" else OF_SIGMOIDS)
    arguments = flags(module, names)
    if module == "ZeroShot":
        arguments += ["--model.encoder.name", toy_sigmoid_model]
    if module == "LinearProbe":
        arguments = trained(arguments, tmp_path / "fit")
    expected = results_of(arguments, tmp_path / "test")
    assert {name.lower() for name in names} == expected.keys()
    checkpoint = arguments[1] if module == "LinearProbe" else None
    shipped, _ = module_from_settings(arguments if checkpoint is None else arguments[2:], checkpoint)
    shipped.fit_scores()
    calibration = sorted((toy_root.parent / "images" / "toy-train").rglob("*.png"))[:20]
    for name, scores in expected.items():
        detector = Detector(*from_module(shipped, name)).calibrated(calibration, id_recall=0.8)
        if name in LOADED:
            detector.save(tmp_path / name, copy_weights=False)
            detector = Detector.load(tmp_path / name, "cpu")
        check(detector, toy_root, scores)


def test_a_score_of_two_heads_ships_with_both(flags, toy_root, tmp_path):
    arguments = [*flags("LinearProbe", OF_TWO_HEADS), "--model.grid.reads", "[embedding, features]"]
    arguments = trained([*arguments, "--data.val.id", "0.25"], tmp_path / "fit")
    (expected,) = results_of(arguments, tmp_path / "test").values()
    assert main(["calibrate", *arguments, "--id_recall", "0.8", "--out", str(tmp_path / "det")]) == 0
    check(Detector.load(tmp_path / "det", "cpu"), toy_root, expected)


@pytest.mark.parametrize(
    ("module", "score"),
    [("PseudoLabelProbe", "Energy"), ("AlignmentFineTune", "NegLabel"), ("CrossEntropyFineTune", "KNN")],
)
def test_a_trained_model_ships_from_its_checkpoint(module, score, flags, toy_root, tmp_path, capsys):
    more = ["--model.alignment", "0.1"] if module == "AlignmentFineTune" else []
    arguments = trained([*flags(module, {score}), *more], tmp_path / "fit")
    (expected,) = results_of(arguments, tmp_path / "test").values()
    calibrate = ["calibrate", *arguments, "--out", str(tmp_path / "det")]
    if module != "PseudoLabelProbe":
        assert main([*calibrate, "--weights", "name"]) == 2
        assert "The tower was trained, so no name means its weights" in capsys.readouterr().err
    assert main(calibrate) == 0
    check(Detector.load(tmp_path / "det", "cpu"), toy_root, expected)


def test_a_probe_on_an_image_only_encoder_ships(flags, toy_root, tmp_path):
    arguments = trained(flags("LinearProbe", {"Energy"}, TIMM), tmp_path / "fit")
    (expected,) = results_of(arguments, tmp_path / "test").values()
    assert main(["calibrate", *arguments, "--out", str(tmp_path / "det")]) == 0
    check(Detector.load(tmp_path / "det", "cpu"), toy_root, expected)
