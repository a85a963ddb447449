"""The command line as a user meets it: help without weight, sentences instead of tracebacks, exit codes."""

import contextlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from mmood.cli.commands import COMMANDS
from mmood.cli.main import main
from mmood.cli.stages import settings
from mmood.configuration.config_files import available, find, installed_folder
from mmood.configuration.families import IMAGES, family_of
from mmood.configuration.lightning import parsed
from mmood.dense.callback import DenseCallback
from mmood.dense.data import DenseDataModule
from mmood.dense.observer import Observer
from mmood.modules import AbstractDetector


def answer(arguments, capsys) -> tuple[int, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    said = [line for line in captured.err.splitlines() if line.startswith("mmood:")]
    assert "Traceback" not in captured.err
    assert "usage:" not in captured.err
    return code, "\n".join(said)


def test_help_and_version_answer_without_torch():
    script = (
        "import sys; from mmood.cli.main import main\n"
        "assert main([]) == 0 and main(['--help']) == 0 and main(['--version']) == 0 and main(['configs']) == 0\n"
        "assert not {'torch', 'lightning', 'jsonargparse', 'open_clip'} & set(sys.modules)\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "mmood test" in finished.stdout
    assert "vitb16_zeroshot.yaml" in finished.stdout


SCREEN = 50
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every key of a config, and what stands beside one."""
    cli = parsed(["--config", "vitb16_zeroshot.yaml", "--data.root", "x"])
    dense = {f"data.{name}" for name in inspect.signature(DenseDataModule).parameters}
    dense |= {f"evaluation.{name}" for name in inspect.signature(DenseCallback).parameters}
    return {*cli.parser.get_defaults().keys(), *dense, "config", "ckpt_path"}


@pytest.mark.parametrize("stage", ["test", "fit", "validate", "predict"])
def test_help_of_a_stage_is_one_screen_and_names_flags_that_exist(stage, known, capsys):
    assert main([stage, "--config", "x", "--help"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) < SCREEN
    assert max(map(len, shown)) <= 80
    flags = [row.flags.split()[0].lstrip("-") for rows in settings(stage).values() for row in rows]
    assert [flag for flag in flags if not flag.startswith("model") and flag not in known] == []
    models = [*AbstractDetector.__subclasses__(), Observer]
    accepted = {name for model in models for name in inspect.signature(model).parameters}
    assert [flag for flag in flags if flag.startswith("model.") and flag.split(".")[1] not in accepted] == []


@pytest.mark.parametrize(
    "command", [name for name, command in COMMANDS.items() if command.module != COMMANDS["test"].module]
)
def test_help_of_a_tool_is_one_screen(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.suppress(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert f"usage: mmood {command}" in shown
    assert len(shown.splitlines()) < SCREEN


def test_all_settings_of_a_command_are_listed_on_request(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["test", "--help", "all"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for key in ("--data.root", "--data.batch_size", "--trainer.devices", "--run_dir", "--evaluation.save_scores"):
        assert key in shown


WRONG = {
    "a command": (["tets"], "no command 'tets'; did you mean 'test'?"),
    "a config": (["test", "--config", "vitb16_zeroshoot.yaml"], "did you mean 'vitb16_zeroshot.yaml'?"),
    "a missing value": (["test", "--config"], "--config needs the name of a config"),
    "a trainer key": (["--trainer.max_epoch", "3"], "'trainer.max_epoch'; did you mean 'trainer.max_epochs'?"),
    "a data key": (["--data.rot", "x"], "'data.rot'; did you mean 'data.root'?"),
    "a loader key": (["--data.loader.wokers", "1"], "did you mean 'data.loader.workers'?"),
    "a model key": (["--model.promts", "x"], "ZeroShot has no setting 'promts'; did you mean 'prompts'?"),
    "a score's key": (["--model.scores.mcm.temprature", "3"], "MCM has no setting 'temprature'; did you mean"),
    "a score's value": (["--model.scores.mcm.temperature", "-1"], "MCM.temperature is -1.0; it must be"),
    "a score's type": (["--model.scores.mcm.temperature", "warm"], "temperature is 'warm'; it takes a number."),
    "a score": (["--model.scores.mcm", "McM"], "'McM', which does not exist; did you mean 'MCM'?"),
    "a model": (["--model", "ZeroShoot"], "did you mean 'ZeroShot'?"),
    "an architecture": (["--model.encoder.name", "ViT-B-61/openai"], "'ViT-B-61'; did you mean 'ViT-B-16'?"),
    "a tag": (["--model.encoder.name", "ViT-B-16/opnai"], "'opnai'; did you mean 'openai'?"),
    "no weights": (["--model.encoder.name", "ViT-B-16"], "needs pretrained weights"),
    "a folder": (["--model.encoder.name", "local-dir:/nowhere"], "no folder '/nowhere'"),
    "a tag beside a folder": (["--model.encoder.pretrained", "openai"], "has its own weights"),
    "a benchmark": (["--data.benchmark", "imagenet-mso"], "did you mean 'imagenet-mos'?"),
    "a set": (["--data.ood", "{near: [toy-naer]}"], "no set 'toy-naer'"),
    "a set twice": (["--data.ood", "{near: [toy-near], far: [toy-near]}"], "'toy-near' is in `data` twice"),
    "a group without sets": (["--data.ood", "{near: [toy-near], far: []}"], "`data.ood.far` is empty; name its sets"),
    "a root": (["--data.root", "/nowhere"], "`data.root` is /nowhere, which is no folder"),
    "a root without sets": (["--data.root", "/usr"], "no sets 'toy-test', 'toy-near', 'toy-far' below /usr"),
    "class names": (["--data.class_names", "nofile.txt"], "no class-name file 'nofile.txt'"),
    "another number of classes": (["--data.class_names", "cifar10"], "class"),
    "a batch size": (["--data.batch_size", "0"], "`data.batch_size` is 0; it must be a whole number of at least 1"),
    "an accelerator": (["--trainer.accelerator", "gpv"], "trainer: You selected an invalid accelerator"),
    "a precision": (["--trainer.precision", "bf16-true"], "weights and scores must stay float32"),
    "a checkpoint": (["--ckpt_path", "nothere.ckpt"], "--ckpt_path nothere.ckpt does not exist"),
    "a run folder": (["--run_dir", "/proc/mmood"], "cannot be made"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_bad_input_is_one_sentence_and_exit_code_2(kind, toy_flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments, expected = WRONG[kind]
    if arguments[0].startswith("--"):
        arguments = ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, *arguments]
    code, said = answer(arguments, capsys)
    assert code == 2
    assert expected in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.rglob("results.*"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: {class_path: ZeroShot", "is not valid YAML"),
        ("model: model/none.yaml", "'model/none.yaml', which is neither a file"),
        ("dta: {root: x}", "'dta.root'; did you mean 'data.root'?"),
        ("data: {rot: x}", "'data.rot'; did you mean 'data.root'?"),
        ("data: {root: x}", "No model is named; give a config"),
        ("model: {class_path: ZeroShot, init_args: {encoder: {nam: x}}}", "has no setting 'nam'; did you mean 'name'?"),
    ],
)
def test_a_bad_config_is_one_sentence(text, expected, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text(text)
    code, said = answer(["test", "--config", str(tmp_path / "bad.yaml")], capsys)
    assert code == 2
    assert expected in said


def test_zero_shot_says_that_it_has_nothing_to_train(toy_flags, tmp_path, capsys):
    flags = [*toy_flags, "--data.train", "toy-train", "--trainer.max_epochs", "1", "--run_dir", str(tmp_path)]
    code, said = answer(["fit", "--config", "vitb16_zeroshot.yaml", *flags], capsys)
    assert (code, said) == (2, "mmood: ZeroShot has nothing to train; use `mmood test` or `mmood predict`.")


def test_configs_are_found_here_first_then_among_the_installed(tmp_path, monkeypatch, toy_flags):
    monkeypatch.chdir(tmp_path)
    installed = parsed(["--config", "vitb16_zeroshot.yaml", *toy_flags[:-6]])
    assert installed.config.model.init_args.prompts == "a photo of a {}"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "vitb16_zeroshot.yaml").write_text(
        "model: {class_path: ZeroShot, init_args: {encoder: {name: x}, scores: {mcm: MCM}, prompts: 'mine {}'}}"
    )
    mine = parsed(["--config", "vitb16_zeroshot.yaml", *toy_flags[:-6]])
    assert mine.config.model.init_args.prompts == "mine {}"


def test_flags_win_over_configs_and_the_last_config_over_the_first(tmp_path):
    (tmp_path / "more.yaml").write_text("data: {root: second, batch_size: 7}")
    both = ["--config", "vitb16_zeroshot.yaml", "--config", str(tmp_path / "more.yaml")]
    assert parsed(both).config.data.root == "second"
    flagged = parsed([*both, "--data.root", "third"]).config.data
    assert (flagged.root, flagged.batch_size, flagged.benchmark) == ("third", 7, "imagenet-mos")


IMAGE_CONFIGS = [name for name, _ in available() if family_of(["--config", str(find(name))]) is IMAGES]


@pytest.mark.parametrize("name", IMAGE_CONFIGS)
def test_every_config_parses(name):
    config = parsed(["--config", name, "--data.root", "somewhere"]).config
    assert config.model.class_path.startswith("mmood.")


def test_every_config_says_what_it_is():
    for path in installed_folder().glob("*.yaml"):
        assert path.read_text().startswith("# "), path


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]), ids=lambda page: page.name
)
def test_docs_name_only_configs_that_exist(page):
    known = {"tuned.yaml", "msp.yaml", *(name for name, _ in available())}  # `mmood tune` writes the first two
    words = page.read_text().replace("`", " ").split()
    named = {words[index + 1] for index, word in enumerate(words) if word == "--config" and index + 1 < len(words)}
    assert {name for name in named if name.endswith(".yaml") and "/" not in name} <= known


def test_a_reader_that_has_enough_is_no_fault():
    process = subprocess.Popen(
        [sys.executable, "-m", "mmood", "configs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
