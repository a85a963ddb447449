"""Progress says which set is evaluated."""

import re

import pytest
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar

from mmood.cli.main import main
from mmood.configuration.lightning import built
from mmood.evaluation.progress import SetProgressBar


@pytest.fixture
def shown(monkeypatch):
    """The descriptions of all bars, as they are added."""
    found = []
    add = RichProgressBar._add_task

    def noted(bar, total, description, visible=True):
        found.append(description)
        return add(bar, total, description, visible)

    monkeypatch.setattr(RichProgressBar, "_add_task", noted)
    return found


def with_bar(flags):
    return [*flags, "--trainer.enable_progress_bar", "true", "--trainer.enable_model_summary", "false"]


@pytest.mark.parametrize(
    ("stage", "more", "said"),
    [
        ("test", [], ["Testing toy-test", "Testing toy-near", "Testing toy-far"]),
        (
            "validate",
            ["--data.val", "{id: toy-test, ood: {val: [toy-val-ood]}}"],
            ["Validation toy-test", "Validation toy-val-ood"],
        ),
    ],
)
def test_the_set_stands_before_its_bar(stage, more, said, toy_flags, tmp_path, shown):
    arguments = [stage, "--config", "vitb16_zeroshot.yaml", *with_bar(toy_flags), *more]
    assert main([*arguments, "--run_dir", str(tmp_path / "run")]) == 0
    assert shown == said


def test_without_a_terminal_lines_say_what_begins(toy_flags, tmp_path, capsys):
    flags = ["--config", "vitb16_zeroshot.yaml", *toy_flags, "--trainer.enable_progress_bar", "null"]
    assert main(["test", *flags, "--run_dir", str(tmp_path / "test")]) == 0
    shown = capsys.readouterr()
    lines = re.findall(r"^ *\d+ s  (.*)$", shown.err, re.MULTILINE)
    assert lines == ["Testing toy-test", "Testing toy-near", "Testing toy-far"]
    assert main(["predict", *flags, "--data.predict", "toy-far", "--run_dir", str(tmp_path / "predict")]) == 0
    fit = [
        "fit",
        "--config",
        "vitb16_linear.yaml",
        *flags[2:],
        "--data.train",
        "toy-train",
        "--trainer.max_epochs",
        "3",
    ]
    assert main([*fit, "--run_dir", str(tmp_path / "fit")]) == 0
    after = capsys.readouterr()
    assert "s  Predicting\n" in after.err
    assert re.findall(r"s  Epoch (\d) of 3, train/loss [\d.]+, ", after.err) == ["1", "3"]
    shown = shown.out + shown.err + after.out + after.err
    assert not re.search(r"\r|(Testing|Predicting|Epoch|encoding).*━", shown), "neither carriage returns nor bars"


def test_a_bar_of_the_users_own_stays_alone(toy_flags, tmp_path):
    bar = '[{"class_path": "TQDMProgressBar"}]'
    arguments = ["--config", "vitb16_zeroshot.yaml", *with_bar(toy_flags), "--trainer.callbacks", bar]
    trainer = built([*arguments, "--run_dir", str(tmp_path)]).trainer
    assert isinstance(trainer.progress_bar_callback, TQDMProgressBar)
    assert not any(isinstance(callback, SetProgressBar) for callback in trainer.callbacks)
