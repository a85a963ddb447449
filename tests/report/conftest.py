"""Runs of the toy world as the command line leaves them."""

from pathlib import Path

import pytest

from mmood.cli.main import main

VARIANTS = {
    "photo": (),
    "photo_again": ("--seed_everything", "1"),
    "nice": ("--model.prompts", "the nice {}"),
}


@pytest.fixture(scope="session")
def toy_runs(toy_root, toy_model, tmp_path_factory) -> list[Path]:
    """Three run folders: two that differ in their seed, and one with another prompt."""
    base = tmp_path_factory.mktemp("runs")
    flags = [
        *("--model.encoder.name", toy_model, "--data.root", str(toy_root), "--data.benchmark", "null"),
        *("--data.id", "toy-test", "--data.ood", "{near: [toy-near], far: [toy-far]}"),
        *("--data.class_names", str(toy_root / "classes.txt"), "--data.loader.workers", "0"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.enable_progress_bar", "false"),
    ]
    for name, own in VARIANTS.items():
        assert main(["test", "--config", "vitb16_zeroshot.yaml", *flags, *own, "--run_dir", str(base / name)]) == 0
    return [base / name for name in VARIANTS]
