"""Every config that scores pixels runs: on the street in place of its own data."""

import pytest
import yaml

from mmood.cli.main import main
from mmood.configuration.config_files import installed_folder
from mmood.dense import MODULES

CONFIGS = sorted(
    path.name
    for path in installed_folder().glob("*.yaml")
    if isinstance(model := yaml.safe_load(path.read_text())["model"], dict) and model["class_path"] in MODULES
)


def test_there_is_one_for_each_module():
    classes = {yaml.safe_load((installed_folder() / name).read_text())["model"]["class_path"] for name in CONFIGS}
    assert classes == set(MODULES)


@pytest.mark.parametrize("name", CONFIGS)
def test_runs_on_the_street(name, street_flags, toy_model, segmenter, tmp_path):
    model = yaml.safe_load((installed_folder() / name).read_text())["model"]
    (words := tmp_path / "words.txt").write_text("fern\noboe\nglacier\n")
    flags = {
        "Segmenter": ["--model.network.width", "0.125"],
        "Observer": ["--model.network.width", "0.125", "--model.segmenter", str(segmenter / "checkpoints/last.ckpt")],
        "DenseZeroShot": ["--model.encoder.name", toy_model, "--model.scores.neglabel.score.negatives", str(words)],
    }[model["class_path"]]
    stage = "test" if model["class_path"] == "DenseZeroShot" else "fit"
    arguments = [stage, "--config", name, *street_flags, *flags, "--trainer.fast_dev_run", "true"]
    assert main([*arguments, "--run_dir", str(tmp_path / "run")]) == 0
    assert not (tmp_path / "run/results.json").exists(), "one batch is no result"
