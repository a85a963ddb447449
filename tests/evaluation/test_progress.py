"""Progress says which set is evaluated."""

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


def test_a_bar_of_the_users_own_stays_alone(toy_flags, tmp_path):
    bar = '[{"class_path": "TQDMProgressBar"}]'
    arguments = ["--config", "vitb16_zeroshot.yaml", *with_bar(toy_flags), "--trainer.callbacks", bar]
    trainer = built([*arguments, "--run_dir", str(tmp_path)]).trainer
    assert isinstance(trainer.progress_bar_callback, TQDMProgressBar)
    assert not any(isinstance(callback, SetProgressBar) for callback in trainer.callbacks)
