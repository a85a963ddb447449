"""A checkpoint is enough: its settings, what wins over them, and what is refused."""

import json
import pickle
import tempfile

import pytest
import torch
import yaml

from mmood.cli.main import main
from mmood.configuration.config_files import with_found_configs
from mmood.runs.checkpoints import KEY, read_config, readable, stored_config

CONFIG = """
model:
  class_path: AlignmentFineTune
  init_args:
    encoder: {name: ViT-B-16/openai}
    alignment: 0.001
    scores: {max_logit: {class_path: MaxLogit}, mcm: {class_path: MCM, init_args: {temperature: 0.5}}}
    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.001}}
trainer: {max_epochs: 1, precision: 32-true, logger: false}
"""


@pytest.fixture(scope="module")
def trained(toy_root, toy_model, tmp_path_factory):
    """A checkpoint of one epoch on the toy sets."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "fit.yaml").write_text(CONFIG)
    flags = [
        *("--config", str(folder / "fit.yaml"), "--model.encoder.name", toy_model, "--data.root", str(toy_root)),
        *("--data.id", "toy-test", "--data.ood", "{near: [toy-near]}", "--data.train", "toy-train"),
        *("--data.val.id", "0.25", "--data.class_names", str(toy_root / "classes.txt"), "--data.batch_size", "8"),
        *("--data.loader.workers", "0", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
    ]
    assert main(["fit", *flags, "--run_dir", str(folder / "run")]) == 0
    return folder / "run" / "checkpoints" / "last.ckpt"


def results(arguments, folder):
    assert main([*arguments, "--run_dir", str(folder), "--trainer.accelerator", "cpu"]) == 0
    return json.loads((folder / "results.json").read_text())


def test_a_checkpoint_alone_is_enough(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    found = results(["test", "--ckpt_path", str(trained)], tmp_path / "run")
    assert [row["score"] for row in found["rows"]] == ["max_logit", "mcm"]
    assert found["provenance"]["scores"]["mcm"] == {"temperature": 0.5}
    assert found["provenance"]["settings"]["alignment"] == 0.001
    assert found["provenance"]["class_names"]["count"] == 3
    assert not list((tmp_path / "temporary").iterdir())


def test_settings_of_a_checkpoint_are_passed_on_as_they_are(tmp_path):
    init = {"scores": {1: "a: b", "é": ["#", "no", "-1:30", "\n", "{}"]}, "x": 1e-5, "y": float("inf"), "z": None}
    content = {"version": "1", "model": {"class_path": "ZeroShot", "init_args": init}, "data": {"root": "/a" * 2000}}
    torch.save({KEY: content}, tmp_path / "a.ckpt")
    flag, settings = stored_config(["--ckpt_path", str(tmp_path / "a.ckpt")])
    assert flag == "--config"
    assert yaml.safe_load(settings) == {name: content[name] for name in ("model", "data")}
    assert with_found_configs([flag, settings]) == [flag, settings]


def test_flags_and_configs_win_over_a_checkpoint(trained, tmp_path):
    flags = ["--model.scores.mcm.temperature", "2", "--data.ood", "{far: [toy-far]}"]
    found = results(["test", "--ckpt_path", str(trained), *flags], tmp_path / "a")
    assert found["provenance"]["scores"]["mcm"] == {"temperature": 2.0}
    assert {row["set"] for row in found["rows"]} == {"toy-far"}
    (tmp_path / "more.yaml").write_text("data: {batch_size: 5}")
    found = results(["test", f"--ckpt_path={trained}", "--config", str(tmp_path / "more.yaml")], tmp_path / "b")
    assert found["provenance"]["batch_size"] == 5


def test_the_trained_weights_are_the_ones_tested(trained, tmp_path):
    found = results(["test", "--ckpt_path", str(trained)], tmp_path / "run")
    checkpoint = torch.load(trained, weights_only=True)
    assert found["provenance"]["encoder"]["weights_sha256"] == checkpoint["mmood_encoder"]["weights_sha256"]


def test_the_stored_settings_are_plain_data_with_absolute_paths(trained, toy_root):
    config = read_config(trained)
    assert set(config) == {"model", "data", "seed_everything"}
    assert config["data"]["root"] == str(toy_root)
    assert config["data"]["class_names"] == ["red square", "green square", "blue square"]
    json.dumps(config)


def edited(trained, folder, change):
    checkpoint = torch.load(trained, weights_only=True)
    change(checkpoint)
    path = folder / "edited.ckpt"
    torch.save(checkpoint, path)
    return str(path)


def drop_a_tensor(checkpoint):
    del checkpoint["state_dict"]["encoder.model.logit_scale"]


def add_a_tensor(checkpoint):
    checkpoint["state_dict"]["encoder.surplus"] = torch.zeros(1)


def drop_the_settings(checkpoint):
    del checkpoint[KEY]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (drop_a_tensor, "lacks ['encoder.model.logit_scale']"),
        (add_a_tensor, "has the unexpected ['encoder.surplus']"),
        (drop_the_settings, "was not written by mmood"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(trained, tmp_path, capsys, change, expected):
    path = edited(trained, tmp_path, change)
    assert main(["test", "--ckpt_path", path, "--run_dir", str(tmp_path / "run")]) == 2
    assert expected in capsys.readouterr().err


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps(Evil())])
def test_a_file_that_is_no_checkpoint_is_refused_and_not_executed(content, tmp_path, capsys):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    assert main(["test", "--ckpt_path", str(path)]) == 2
    captured = capsys.readouterr()
    assert "cannot be read as a checkpoint" in captured.err
    assert "executed" not in captured.out


def test_what_is_wrong_in_the_settings_of_a_checkpoint_is_said(tmp_path, capsys):
    model = {"class_path": "ZeroShot", "init_args": {"encoderr": 1}}
    torch.save({KEY: {"version": "1", "model": model, "data": {}}}, tmp_path / "a.ckpt")
    assert main(["test", "--ckpt_path", str(tmp_path / "a.ckpt")]) == 2
    assert "ZeroShot has no setting 'encoderr'; did you mean 'encoder'?" in capsys.readouterr().err
    assert main(["test", "--config", "{a"]) == 2
    assert "--config is not valid YAML" in capsys.readouterr().err


def test_a_checkpoint_cut_short_is_refused(trained, tmp_path, capsys):
    path = tmp_path / "short.ckpt"
    path.write_bytes(trained.read_bytes()[:1000])
    assert main(["test", "--ckpt_path", str(path)]) == 2
    assert "cannot be read as a checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["last.ckpt", "best", "registry.ckpt"])
def test_a_file_wins_over_lightning_s_words(trained, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(trained.read_bytes())
    assert readable(name) == str(tmp_path / name)
    assert stored_config(["--ckpt_path", name])


def test_what_only_begins_like_a_word_is_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["test", "--ckpt_path", "latest.ckpt"]) == 2
    assert "--ckpt_path latest.ckpt does not exist" in capsys.readouterr().err


def test_training_goes_on_with_nothing_but_the_checkpoint(trained, tmp_path):
    settings = read_config(trained, resume=True)["trainer"]
    assert (settings["max_epochs"], settings["precision"]) == (1, "32-true")
    assert "devices" not in settings
    assert "accelerator" not in settings
    assert "trainer" not in read_config(trained), "an evaluation may have another precision"
    arguments = ["fit", "--ckpt_path", str(trained), "--run_dir", str(tmp_path), "--trainer.accelerator", "cpu"]
    assert main([*arguments, "--trainer.max_epochs", "2"]) == 0
    longer = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert longer["epoch"] == 1, "flags win"
    assert read_config(tmp_path / "checkpoints" / "last.ckpt", resume=True)["trainer"]["max_epochs"] == 2


def test_how_long_is_asked_for_where_nothing_says_it(trained, tmp_path, capsys):
    path = edited(trained, tmp_path, lambda checkpoint: checkpoint[KEY].pop("trainer"))
    assert main(["fit", "--ckpt_path", path, "--run_dir", str(tmp_path / "run")]) == 2
    assert "set --trainer.max_epochs" in capsys.readouterr().err


def test_a_checkpoint_sets_nothing_else_of_the_trainer(trained, tmp_path, capsys):
    path = edited(trained, tmp_path, lambda checkpoint: checkpoint[KEY]["trainer"].update(plugins="x"))
    assert main(["fit", "--ckpt_path", path, "--run_dir", str(tmp_path / "run")]) == 2
    assert "sets trainer.plugins" in capsys.readouterr().err
