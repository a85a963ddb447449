"""Misspelt flags are found without torch, and no flag that the parser knows is refused."""

import doctest
import inspect
import json
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

import pytest
from lightning.pytorch import Trainer

import mmood.modules
from mmood.cli.main import main
from mmood.configuration import flag_names, lightning, signatures
from mmood.configuration.config_files import installed_folder
from mmood.configuration.flag_names import check_names, check_words
from mmood.data.datamodule import OoDDataModule
from mmood.encoders import EncoderSettings
from mmood.errors import MmoodError
from mmood.evaluation.callback import OoDCallback
from mmood.evaluation.streams.settings import StreamSettings
from mmood.loading.settings import LoaderSettings
from mmood.modules.prompt_learning.module import PromptLearning

ZERO_SHOT = ["--config", str(installed_folder() / "vitb16_zeroshot.yaml")]
STAGES = ("fit", "validate", "test", "predict")
DETECTORS = [name for name in mmood.modules.__all__ if hasattr(getattr(mmood.modules, name), "logits")]


@pytest.mark.parametrize("module", [signatures, flag_names])
def test_examples(module):
    assert not doctest.testmod(module).failed


@pytest.mark.parametrize("stage", STAGES)
def test_every_flag_of_the_parser_passes(stage, monkeypatch):
    flags = []

    def parse_arguments(cli, parser, args):
        flags.extend(flag for action in cli._subcommand_parsers[stage]._actions for flag in action.option_strings)
        raise StopIteration

    monkeypatch.setattr(lightning.DetectorCLI, "parse_arguments", parse_arguments)
    with pytest.raises(StopIteration):
        lightning.DetectorCLI([stage], None)
    assert {"--data.loader.workers", "--trainer.max_epochs", "--run_dir", "--evaluation.stream.seeds"} <= set(flags)
    for flag in set(flags) - {"--config", "-c"}:
        check_names(stage, [*ZERO_SHOT, flag, "x"])


def below(kind, above):
    """Yield the names of the settings of a class by what it is at run time."""
    hints = get_type_hints(kind if is_dataclass(kind) else kind.__init__)
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else list(inspect.signature(kind).parameters)
    for name in names:
        yield f"{above}.{name}"
        if is_dataclass(hints[name]):
            yield from below(hints[name], f"{above}.{name}")


@pytest.mark.parametrize("name", DETECTORS)
def test_every_setting_of_a_model_passes(name):
    if name == "AbstractDetector":
        return
    for setting in below(getattr(mmood.modules, name), "--model"):
        check_names("fit", ["--model", name, setting, "x"])
        with pytest.raises(MmoodError):
            check_names("fit", ["--model", name, f"{setting}xyz", "x"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data.rot", "x"], "There is no setting 'data.rot'; did you mean 'data.root'?"),
        (["--data.batch_siz=3"], "There is no setting 'data.batch_siz'; did you mean 'data.batch_size'?"),
        (["--model.encoder.nme", "x"], "There is no setting 'model.encoder.nme'; did you mean 'model.encoder.name'?"),
        (["--model.init_args.promts", "x"], "model: ZeroShot has no setting 'promts'; did you mean 'prompts'?"),
        (["--nam", "x"], "There is no setting 'nam'; did you mean 'name'?"),
    ],
)
def test_a_typo_is_named_with_the_nearest_setting(flags, said):
    with pytest.raises(MmoodError, match="^" + said.replace("?", r"\?")):
        check_names("test", [*ZERO_SHOT, *flags])


@pytest.mark.parametrize(
    "flags",
    [
        ["--model.scores.mcm.temprature", "3"],
        ["--model", "own_module.Own", "--model.anything", "3"],
        ["--ckpt_path", "a.ckpt", "--model.anything", "3"],
        ["--config", "{model: {class_path: own_module.Own}}", "--model.anything", "3"],
        ["--data.ood.far+", "x"],
        ["--trainer.logger.save_dir", "x"],
        ["--model.help", "ZeroShot"],
    ],
)
def test_what_is_not_certain_is_left_to_the_parser(flags):
    check_names("test", [*ZERO_SHOT, *flags])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data.exif", "aply"], "data.exif is 'aply'; did you mean 'apply'? It takes apply or ignore."),
        (["--data.loader.on_error=stop"], "data.loader.on_error is 'stop'; it takes raise or skip."),
        (["--data.batch_size", "many"], "data.batch_size is 'many'; it takes a whole number."),
        (
            ["--trainer.precision", "bf16-mixd"],
            "trainer.precision is 'bf16-mixd'; did you mean 'bf16-mixed'? It takes 64,",
        ),
        (
            ["--trainer.deterministic", "wrn"],
            "trainer.deterministic is 'wrn'; did you mean 'warn'? It takes warn or true",
        ),
        (
            ["--evaluation.stream.order", "random"],
            "evaluation.stream.order is 'random'; it takes shuffled, id-first or",
        ),
    ],
)
def test_a_word_that_a_type_excludes_is_named_with_what_it_takes(flags, said):
    with pytest.raises(MmoodError, match="^" + re.escape(said)):
        check_words("test", [*ZERO_SHOT, *flags])


@pytest.mark.parametrize(
    "flags",
    [
        ["--data.exif", "null"],
        ["--trainer.precision", "32"],
        ["--trainer.limit_test_batches", "inf"],
        ["--data.batch_size", "0x10"],
        ["--trainer.accelerator", "word"],
        ["--trainer.devices", "word"],
        ["--data.val", "word"],
        ["--trainer.enable_progress_bar", "True"],
    ],
)
def test_values_that_are_not_certainly_wrong_are_left_to_the_parser(flags):
    check_words("test", [*ZERO_SHOT, *flags])


def taken_by(kind):
    """Return the words of a type and the kinds of its numbers by what it is at run time, None for another type."""
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    words = {str(word) for member in members if get_origin(member) is Literal for word in get_args(member)}
    rest = {member for member in members if get_origin(member) is not Literal} - {type(None)}
    return (words, {member.__name__ for member in rest}) if rest <= {int, float, bool} else None


@pytest.mark.parametrize(
    "kind",
    [OoDDataModule, LoaderSettings, OoDCallback, PromptLearning, StreamSettings, EncoderSettings, Trainer],
)
def test_what_a_setting_takes_is_that_of_its_type(kind):
    """By Python's own reading of the annotations."""
    hints = get_type_hints(kind if is_dataclass(kind) else kind.__init__)
    for name, read in signatures.settings_of(kind.__module__, kind.__name__).items():
        taken = taken_by(hints[name])
        found = (set(read.words), set(read.kinds)) if isinstance(read, signatures.Plain) else None
        assert found == taken, name


LATE = """
import contextlib, io, json, sys
from mmood.cli.main import main
said = io.StringIO()
with contextlib.redirect_stderr(said):
    codes = [main([*command.split(), "--config", "vitb16_zeroshot.yaml", *flags.split()]) for command, flags in (
        ("test", "--data.rot x"), ("test", "--config none.yaml"), ("fit", "--ckpt_path none.ckpt"),
        ("test", "--data.root /nowhere"), ("test", "--data.benchmark imagenet-msos"), ("predict", "--data.exif turn"),
        ("test", "--data.class_names imagnet"),
    )]
    first = sorted(sys.modules)
    codes.append(main(["calibrate", "--out", "new", "--data.resize", "pilow"]))
    second = sorted(sys.modules)
import mmood.configuration.lightning
later = sorted(sys.modules)
import scipy.signal
print(json.dumps([codes, said.getvalue(), first, second, later, len(scipy.signal.windows.hann(4))]))
"""


def test_what_is_imported_when():
    answer = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=True)
    codes, said, first, second, later, window = json.loads(answer.stdout)
    assert codes == [2] * 8
    for part in (
        "did you mean 'data.root'?",
        "no config 'none.yaml'",
        "--ckpt_path none.ckpt does not exist",
        "`data.root` is /nowhere, which is no folder",
        "did you mean 'imagenet-mos'?",
        "data.exif is 'turn'",
        "did you mean 'imagenet-openai'?",
        "did you mean 'pillow'?",
    ):
        assert part in said
    heavy = {"torch", "lightning", "open_clip", "jsonargparse", "scipy", "torchvision"}
    assert not heavy & set(second)
    assert not {*heavy, "numpy", "PIL"} & set(first), "a typo is answered before anything heavy is imported"
    assert not {"scipy.stats", "webdataset", "transformers", "sklearn", "pandas", "matplotlib"} & set(later)
    assert window == 4, "what was put off comes when it is used"


def test_help_needs_nothing_heavy(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["test", "--help"]) == 0
    assert "--data.root" in capsys.readouterr().out
