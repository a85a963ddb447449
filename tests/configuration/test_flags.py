"""Flags that cannot be meant, and what cannot be built, end in a sentence that says which."""

import pytest

from mmood.cli.main import main
from mmood.configuration.flag_checks import flags, without_flags

WRONG = {
    "a setting of no score": (["--model.scores.knn.k", "10"], "has no score 'knn' (it has mcm, max_logit"),
    "a group that is added to": (["--data.ood.far+", "x"], "--data.ood.far+ cannot add to a group"),
    "a group that is no list": (["--data.ood.far", "x"], "--data.ood.far is x; a group is a list of sets"),
    "a logger without its package": (
        ["--trainer.logger", "WandbLogger"],
        "WandbLogger', which needs a package that is not installed",
    ),
    "all devices of a CPU": (["--trainer.devices", "-1"], "trainer: `devices` selected with `CPUAccelerator`"),
    "no devices": (["--trainer.devices", "abc"], "trainer: `devices` selected with `CPUAccelerator`"),
    "a callback that refuses": (
        ["--trainer.callbacks", "[{class_path: EarlyStopping, init_args: {monitor: x, mode: y}}]"],
        "`mode` can be",
    ),
    "few shots below one": (
        ["--model.scores", "{knn: {class_path: KNN, init_args: {shots: -1}}}"],
        "KNN.shots is -1; it must be a whole number of at least 1, or null for all images.",
    ),
    "a word for a group": (
        ["--data.loader", "fast"],
        "data.loader is 'fast', but it is a group of settings: write '{NAME: VALUE, ...}', or the name of a YAML file that has "
        "them. It has: workers, start_method,",
    ),
    "a word for a group that may be null": (
        ["--data.corruption", "fog"],
        "data.corruption is 'fog', but it is a group of settings: write '{NAME: VALUE, ...}', or the name of a YAML file that "
        "has them. It has: name, severity, groups, seed.",
    ),
    "a word for a group of a score": (
        ["--model.scores", "{n: {class_path: NegLabel, init_args: {mining: fast}}}"],
        "model.scores.mining is 'fast', but it is a group of settings: write '{NAME: VALUE, ...}', or the name of a YAML "
        "file that has them. It has: corpus,",
    ),
    "a group without all of its settings": (
        ["--data.corruption", "{name: fog}"],
        "data.corruption is incomplete; it must also have severity.",
    ),
    "learned by nobody": (
        ["--model.negative_prompts", "learned"],
        "`model.negative_prompts` is learned, but `model.prompts` names no learned prompts; set it to learned:FOLDER",
    ),
    "no number": (["--model.scores.mcm.temperature", ".nan"], "MCM.temperature is nan; it must be a finite number"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_sentence(kind, toy_flags, tmp_path, capsys):
    arguments, expected = WRONG[kind]
    flags = ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--run_dir", str(tmp_path / "run")]
    assert main([*flags, *arguments]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mmood:")]
    assert len(said) == 1
    assert expected in said[0]


def test_a_score_may_be_added_with_its_settings(toy_flags):
    from mmood.configuration.lightning import parsed

    added = ["--model.scores.more", "Energy", "--model.scores.more.temperature", "3"]
    scores = parsed(["--config", "vitb16_zeroshot.yaml", *toy_flags, *added]).config.model.init_args.scores
    assert scores["more"].init_args.temperature == 3


def test_null_reaches_a_setting_of_a_model_however_deep_it_is(toy_flags):
    from mmood.configuration.lightning import parsed

    config = ["--config", "vitb16_supreme.yaml", *toy_flags, "--model.encoder.pretrained", "null"]
    config += ["--model.training.shots", "null", "--model.images.views=null"]
    for context in (["--model.method.context.start", "null"], ["--model.method.context", "{tokens: 16, start: null}"]):
        model = parsed([*config, *context]).config.model.init_args
        settings = model.training.shots, model.images.views, model.encoder.pretrained
        assert (*settings, model.method.init_args.context.start) == (None, None, None, None)
    named = ["--model.method.context.start", "None of these"]
    assert parsed([*config, *named]).config.model.init_args.method.init_args.context.start == "None of these"


def test_flags_and_their_values():
    arguments = ["test", "--a.b=1", "--c", "2", "--d", "--e", "[x, y]"]
    assert list(flags(arguments)) == [("a.b", "1"), ("c", "2"), ("e", "[x, y]")]
    assert without_flags(arguments, ["a", "e.f"]) == ["test", "--c", "2", "--d", "--e", "[x, y]"]


@pytest.mark.parametrize("command", ["fit", "test", "predict", "attack", "embed"])
def test_a_command_without_arguments_asks_for_a_model(command, capsys):
    assert main([command]) == 2
    assert "No model is named; give a config" in capsys.readouterr().err
