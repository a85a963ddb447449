"""`mmood doctor`: 0 only if the config would run, and a line for each shortfall."""

import shutil
import sys
from importlib import metadata

import pytest

from mmood.cli.main import main

CONFIG = ["doctor", "--config", "vitb16_zeroshot.yaml"]


@pytest.fixture
def copied(toy_root, toy_flags, tmp_path):
    """The flags of the toy run on a copy of the sets that may be damaged."""
    root = tmp_path / "shards"
    shutil.copytree(toy_root, root)
    return root, [str(root) if flag == str(toy_root) else flag for flag in toy_flags]


def test_without_a_config_it_says_what_works_here(capsys):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "torch and torchvision" in shown
    assert "accelerator" in shown


def test_a_config_that_would_run(toy_flags, capsys):
    assert main([*CONFIG, *toy_flags]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "37 samples in 3 shards" in shown
    assert "The config would run." in shown
    assert "classes of toy-test" in shown
    assert "2 blue square blue square" in shown


def test_a_fine_tuning_is_told_what_a_step_needs(toy_flags, tmp_path, capsys):
    (tmp_path / "words.txt").write_text("quartz\nsolvent\nmortar\n")
    negatives = ["--model.scores.neglabel.init_args.negatives", str(tmp_path / "words.txt")]
    flags = [*toy_flags, *negatives, "--data.train", "toy-train", "--data.batch_size", "16"]
    assert main(["doctor", "--config", "vitb16_align.yaml", *flags, "--trainer.devices", "2"]) == 0
    # Of each line of the table the last column.
    shown = " ".join(line.split("│")[3].strip() for line in capsys.readouterr().out.splitlines() if "│" in line)
    assert "A step needs about 0.0" in shown
    assert "GiB on each of 2 devices (weights" in shown


def test_a_missing_set_is_a_shortfall(copied, capsys):
    root, flags = copied
    shutil.rmtree(root / "toy-near")
    assert main([*CONFIG, *flags]) == 1
    assert "toy-near" in capsys.readouterr().out


def test_a_changed_shard_is_a_shortfall(copied, capsys):
    root, flags = copied
    shard = next((root / "toy-far").glob("*.tar"))
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    assert main([*CONFIG, *flags]) == 1
    assert "toy-far" in capsys.readouterr().out


def test_missing_sets_of_a_benchmark_come_with_where_to_get_them(toy_model, tmp_path, capsys):
    flags = ["--model.encoder.name", toy_model, "--data.root", str(tmp_path)]
    assert main([*CONFIG, *flags]) == 1
    shown = "".join(capsys.readouterr().out.replace("│", "").split())
    assert "https://image-net.org" in shown


def test_a_key_that_does_not_exist_is_a_shortfall(toy_flags, capsys):
    assert main([*CONFIG, *toy_flags, "--data.rot", "x"]) == 1
    assert "data.root" in capsys.readouterr().out


WORDS = "{corpus: {wordnet: /nowhere}}"
SHORTFALLS = {
    "no training images": (["--model.scores", "{knn: KNN}"], "`data.train` is not set"),
    "no head": (["--model.scores", "{react: ASH}"], "needs a linear head on the features"),
    "no WordNet": (
        ["--model.scores", f"{{neg: {{class_path: NegLabel, init_args: {{mining: {WORDS}}}}}}}"],
        "There is no WordNet in '/nowhere'",
    ),
    "no WordNet for a stream": (
        ["--model.scores", f"{{neg: {{class_path: AdaNeg, init_args: {{mining: {WORDS}}}}}}}"],
        "There is no WordNet in '/nowhere'",
    ),
    "no list": (["--model.scores", "{neg: {class_path: CSP, init_args: {negatives: /no.txt}}}"], "/no.txt"),
    "no outlier names": (["--model.scores", "{eoe: {class_path: EOE, init_args: {outliers: /no.txt}}}"], "/no.txt"),
    "no such device": (["--trainer.devices", "abc"], "should be an int > 0"),
    "a precision": (["--trainer.precision", "bf16-true"], "weights and scores must stay float32"),
    "no logger": (["--trainer.logger", "WandbLogger"], "needs a package that is not installed"),
    "a file as the run folder": (["--run_dir", __file__ + "/run"], "cannot be made"),
}


@pytest.mark.parametrize("kind", SHORTFALLS)
def test_the_doctor_says_what_a_test_would_refuse(kind, toy_flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wrong, expected = SHORTFALLS[kind]
    assert main([*CONFIG, *toy_flags, *wrong]) == 1
    shown = "".join(capsys.readouterr().out.replace("│", "").split())
    assert "".join(expected.split()) in shown
    assert main(["test", *CONFIG[1:], *toy_flags, *wrong]) == 2
    assert expected in capsys.readouterr().err


def test_what_scores_need_is_found(toy_flags, tmp_path, capsys):
    (tmp_path / "words.txt").write_text("\n".join(f"word{number}" for number in range(12)))
    scores = f"{{knn: KNN, neg: {{class_path: NegLabel, init_args: {{negatives: {tmp_path}/words.txt, groups: 2}}}}}}"
    assert main([*CONFIG, *toy_flags, "--data.train", "toy-train", "--model.scores", scores]) == 0
    shown = "".join(capsys.readouterr().out.replace("│", "").split())
    assert "knn:trainingimagesok'toy-train'" in shown.replace("┃", "")
    assert "12negativelabelsin" in shown


def test_a_missing_library_is_a_shortfall_and_nothing_else_is_tried(toy_flags, monkeypatch, capsys):
    version = metadata.version

    def without_lightning(name):
        if name == "lightning":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_lightning)
    monkeypatch.setitem(sys.modules, "rich.table", None)
    assert main([*CONFIG, *toy_flags]) == 1
    shown = capsys.readouterr().out
    assert "fail  lightning: not installed; pip install 'lightning" in shown
    assert "fail  config: not checked" in shown


def test_commands_name_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "yaml", None)
    for name in [name for name in sys.modules if name.partition("mmood.files")[:2] == ("", "mmood.files")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "mmood.configuration.config_files", raising=False)
    monkeypatch.delitem(sys.modules, "mmood.cli.configs", raising=False)
    assert main(["configs"]) == 2
    assert "The module 'yaml' is not installed; `mmood doctor` lists what is missing." in capsys.readouterr().err
