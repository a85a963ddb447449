"""WiSE-FT from the command line: several weights between the pre-trained and the fine-tuned ones in one run."""

import json

import numpy as np
import pytest

from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.modules.fine_tuning.interpolation import interpolation_weights


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, toy_root, toy_model):
    """A checkpoint of two steps with a learning rate that moves the weights visibly."""
    folder = tmp_path_factory.mktemp("tuned")
    flags = [
        *("--model.encoder.name", toy_model, "--data.root", str(toy_root), "--data.benchmark", "null"),
        *("--data.train", "toy-train", "--data.id", "toy-test", "--data.ood", "{near: [toy-near], far: [toy-far]}"),
        *("--data.class_names", str(toy_root / "classes.txt"), "--data.loader.workers", "0", "--data.batch_size", "24"),
        *("--data.val", "{id: toy-test, ood: {val: [toy-val-ood]}}", "--model.optimizer.init_args.lr", "0.003"),
        *("--model.schedule.init_args.warmup", "0", "--model.scores", "{mcm: {class_path: MCM}}"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.max_epochs", "1"),
        *("--trainer.precision", "32-true", "--trainer.enable_progress_bar", "false"),
    ]
    assert main(["fit", "--config", "vitb16_align.yaml", *flags, "--run_dir", str(folder)]) == 0
    return folder / "checkpoints" / "last.ckpt"


def evaluated(stage, checkpoint, folder, alphas):
    flags = ["--ckpt_path", str(checkpoint), "--model.weight_interpolation", alphas, "--run_dir", str(folder)]
    assert main([stage, *flags]) == 0
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("stage", ["test", "validate"])
def test_several_weights_in_one_run_are_the_runs_one_by_one(stage, tuned, tmp_path, capsys):
    alphas = (0.0, 0.5, 1.0)
    together = evaluated(stage, tuned, tmp_path / "all", "[0, 0.5, 1]")
    shown = capsys.readouterr().out
    scores = np.load(tmp_path / "all" / "scores" / "toy-test.npz")
    variants = [f"wise-ft {alpha:g}" for alpha in alphas]
    assert [row["variant"] for row in together["id"]] == variants
    encoders = together["provenance"]["variants"]
    assert len({encoder["weights_sha256"] for encoder in encoders.values()}) == 3
    for alpha, variant in zip(alphas, variants, strict=True):
        alone = evaluated(stage, tuned, tmp_path / f"{alpha}", f"{alpha}")
        for kind in ("rows", "means", "id"):
            own = [{**row, "variant": None} for row in together[kind] if row["variant"] == variant]
            assert own == alone[kind]
        values = np.load(tmp_path / f"{alpha}" / "scores" / "toy-test.npz")["mcm"]
        np.testing.assert_array_equal(scores[f"mcm [{variant}]"], values)
        assert encoders[variant] == alone["provenance"]["encoder"]
        assert f"mcm [{variant}]" in shown
    assert shown.count("FPR95 ID-pos") == 1, "the table is shown once, for all weights together"
    assert len({scores[f"mcm [{variant}]"].tobytes() for variant in variants}) == 3, "the weights differ"


def test_the_report_reads_several_weights(tuned, tmp_path):
    evaluated("test", tuned, tmp_path / "run", "[0, 1]")
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")]) == 0
    assert "mcm [wise-ft 1]" in (tmp_path / "page.html").read_text()


def test_without_a_checkpoint_there_is_nothing_to_interpolate_to(toy_flags, tmp_path, capsys):
    flags = [*toy_flags, "--model.weight_interpolation", "0.5", "--model.scores", "{mcm: {class_path: MCM}}"]
    assert main(["test", "--config", "vitb16_align.yaml", *flags, "--run_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "--ckpt_path" in error
    assert "weight_interpolation" in error


@pytest.mark.parametrize("alphas", [[], [0.5, 0.5], [0.5, 1.5]])
def test_bad_lists_are_refused(alphas):
    with pytest.raises(MmoodError, match="weight_interpolation"):
        interpolation_weights(alphas)
