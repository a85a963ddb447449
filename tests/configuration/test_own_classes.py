"""Scores and modules of a user's own, named in a config by class path, from the folder where mmood is started."""

import json
import sys
from pathlib import Path

import pytest
import torch

from mmood.cli.main import main

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def in_examples(monkeypatch):
    """A process that was started in the folder of the examples, which no other test sees."""
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(EXAMPLES))])
    before = set(sys.modules)
    yield
    for name in {"own_score", "own_module"} - before:
        sys.modules.pop(name, None)


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize(
    "flags",
    [
        ["--model.scores.mine", "own_score.SharpestPatch", "--model.scores.mine.temperature", "0.5"],
        ["--model.scores.mine", "{class_path: own_score.SharpestPatch, init_args: {temperature: 0.5}}"],
    ],
)
def test_a_score_of_ones_own(flags, in_examples, toy_flags, tmp_path):
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--run_dir", str(tmp_path / "run")]
    assert main([*arguments, *flags]) == 0
    found = results(tmp_path / "run")
    assert {row["score"] for row in found["rows"]} >= {"mine", "mcm"}
    assert found["provenance"]["scores"]["mine"] == {"temperature": 0.5}


def test_its_mathematics(in_examples):
    sys.path.append(str(EXAMPLES))
    from own_score import sharpest_patch

    patches = torch.nn.functional.normalize(torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    found = sharpest_patch(patches, torch.eye(3), 0.5)
    expected = [max(float((patch / 0.5).softmax(0).max()) for patch in image) for image in patches]
    torch.testing.assert_close(found.exp(), torch.tensor(expected))


def test_a_module_of_ones_own_from_fit_to_test(in_examples, toy_flags, toy_model, tmp_path, monkeypatch, capsys):
    model = f"{{class_path: own_module.PrototypeTuning, init_args: {{encoder: {{name: '{toy_model}'}}, scores: {{mcm: MCM}}}}}}"
    data = toy_flags[2:]
    fit = [
        "fit",
        "--model",
        model,
        *data,
        "--data.train",
        "toy-train",
        "--data.batch_size",
        "16",
        "--trainer.max_epochs",
        "3",
    ]
    assert main([*fit, "--run_dir", str(tmp_path / "fit")]) == 0
    checkpoint = tmp_path / "fit/checkpoints/last.ckpt"
    assert set(torch.load(checkpoint, weights_only=True)["state_dict"]) == {"vectors"}
    test = ["test", "--ckpt_path", str(checkpoint), "--run_dir", str(tmp_path / "test")]
    assert main(test) == 2
    assert "if you trust the package 'own_module', set MMOOD_TRUST=own_module." in capsys.readouterr().err
    monkeypatch.setenv("MMOOD_TRUST", "own_module")
    assert main(test) == 0
    found = results(tmp_path / "test")["provenance"]
    assert found["settings"]["lr"] == 0.01
    assert found["checkpoint"]["optimizers"][0]["lr"] == 0.01
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(EXAMPLES)])
    del sys.modules["own_module"]
    assert main([*test[:-1], str(tmp_path / "elsewhere")]) == 2
    assert (
        "needs the package 'own_module' for own_module.PrototypeTuning at model.class_path" in capsys.readouterr().err
    )


WRONG = {
    "no package": (
        "nopackage.Mine",
        "names the class 'nopackage.Mine', but there is no module 'nopackage': the package",
    ),
    "no class": ("own_score.Mine", "names the class 'own_score.Mine', but its module defines nothing of that name"),
    "no score": ("own_score.sharpest_patch", "does not correspond to a subclass of AbstractScore"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_class_is_said(kind, in_examples, toy_flags, capsys):
    named, expected = WRONG[kind]
    assert main(["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--model.scores.mine", named]) == 2
    assert expected in capsys.readouterr().err
