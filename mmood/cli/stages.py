"""`mmood test`, `fit`, `validate` and `predict`: their help on one screen, and the way to LightningCLI."""

from __future__ import annotations

from dataclasses import dataclass

from mmood.cli.commands import COMMANDS
from mmood.cli.imports import quick_imports
from mmood.configuration.config_files import with_found_configs
from mmood.configuration.flag_checks import check_flags
from mmood.configuration.flag_names import check_names

EVALUATES = frozenset({"test", "validate", "predict"})


@dataclass(frozen=True)
class Setting:
    """A line of the help.

    Attributes:
        flags: as a user types them, with a word for the value.
        meaning: in a line.
        only: the stages that it matters for.
    """

    flags: str
    meaning: str
    only: frozenset[str] = EVALUATES | {"fit"}


_TESTS = frozenset({"test", "validate"})

SECTIONS: dict[str, list[Setting]] = {
    "What to run": [
        Setting("--config NAME", "a path, a file in ./configs, or one of `mmood configs`; flags win over it"),
        Setting("--ckpt_path FILE", "a checkpoint; it contains its settings and needs no config", EVALUATES),
        Setting("--ckpt_path FILE", "resume training from this checkpoint", frozenset({"fit"})),
    ],
    "Data": [
        Setting("--data.root FOLDER", "the folder that contains the sets"),
        Setting("--data.benchmark NAME", "one of `mmood sets`, or several: '[imagenet-mos, ...]'", _TESTS),
        Setting("--data.id SET", "the ID test set: a name below root, or a path (docs/data.md)", frozenset({"test"})),
        Setting("--data.ood '{far: [SET]}'", "the OoD test sets, by group", frozenset({"test"})),
        Setting("--data.csid '[SET]'", "shifted ID test sets, which count as ID in rows id+csid", frozenset({"test"})),
        Setting("--data.corruption '{...}'", "such as {name: fog, severity: 3} (docs/robustness.md)", _TESTS),
        Setting("--data.predict PATH", "a folder of images, one image, or a set", frozenset({"predict"})),
        Setting("--data.train SET", "the training set", frozenset({"fit"})),
        Setting(
            "--data.val.id SET",
            "the ID validation set, or a fraction of train such as 0.01",
            frozenset({"fit", "validate"}),
        ),
        Setting("--data.class_names FILE", "a file with one class name per line, or the name of a list"),
        Setting(
            "--data.ood_labels '[9, 10]'",
            "labels of masks that are OoD, for scores of pixels (docs/dense.md)",
            _TESTS | {"fit"},
        ),
        Setting("--data.batch_size N", "images per batch on each device"),
        Setting("--data.features MODE", "auto, off, or a folder written by `mmood embed`"),
        Setting("--data.loader.workers N", "number of processes that decode images"),
        Setting("--data.loader.on_error skip", "skip broken images and list them"),
    ],
    "Model": [
        Setting("--model CLASS", "ZeroShot, PromptLearning, LinearProbe, AlignmentFineTune, Segmenter, ..."),
        Setting("--model.encoder.name NAME", "such as ViT-L-14/openai, local-dir:FOLDER, hf-hub:OWNER/MODEL"),
        Setting("--model.prompts TEMPLATES", "'a photo of a {}', openai-80, or learned:FOLDER"),
        Setting("--model.training.shots N", "images of each class, of probes and prompts", frozenset({"fit"})),
        Setting("--model.scores.NAME CLASS", "one more score; its settings: --model.scores.NAME.SETTING VALUE"),
        Setting("--model.weight_interpolation '[0, 1]'", "WiSE-FT of fine-tuned weights", _TESTS),
        Setting("--model.segmenter FILE", "the segmenter's checkpoint, of an Observer", frozenset({"fit"})),
        Setting("--model.execution.strategy fsdp", "shard big towers; see checkpointing, chunk", frozenset({"fit"})),
        Setting("--model.optimizer.lr RATE", "learning rate of the optimiser in the config", frozenset({"fit"})),
    ],
    "Evaluation": [
        Setting("--evaluation.save_scores false", "do not write the scores of single images", _TESTS),
        Setting("--maps.files npz", "write the maps of local scores; png: also as pictures"),
        Setting("--evaluation.smoothing.copies N", "smoothed and certified scores (docs/robustness.md)", _TESTS),
        Setting("--evaluation.save_maps N", "write the maps of the N worst images, of scores of pixels", _TESTS),
        Setting("--evaluation.stream.order ORDER", "order of test-time streams: shuffled, id-first, ood-first", _TESTS),
        Setting("--evaluation.stream.seeds '[0, 1, 2]'", "seeds of test-time streams; one run for each", _TESTS),
    ],
    "Run": [
        Setting("--name NAME", "name of the run, which writes to runs/NAME/VERSION"),
        Setting("--run_dir FOLDER", "folder of the run, instead of runs/NAME/VERSION"),
        Setting("--seed_everything N", "seed of all random draws"),
        Setting("--trainer.max_epochs N", "number of epochs", frozenset({"fit"})),
        Setting("--trainer.devices N", "number of devices; with several, add --trainer.strategy ddp"),
        Setting("--trainer.precision TYPE", "32-true, bf16-mixed or 16-mixed; scores stay float32"),
    ],
}

_MORE = """\
More
  mmood {stage} --help all             all settings, including those of Lightning's trainer
  mmood {stage} --model.help CLASS     the settings of a model
  mmood {stage} ... --print_config     the resolved settings as a config
"""


def main(arguments: list[str]) -> int:
    """Run a stage with its arguments, the stage's name first; return the exit code."""
    stage, *rest = arguments
    asked = next((place for place, word in enumerate(rest) if word in ("--help", "-h")), None)
    if asked is not None:
        if rest[asked + 1 : asked + 2] != ["all"]:
            print(_help(stage), end="")
            return 0
        arguments = [stage, "--help"]
    # What is wrong with the arguments alone is said before torch is imported, which takes seconds.
    check_flags(rest)
    check_names(stage, with_found_configs(rest))
    with quick_imports():
        from mmood.configuration.lightning import run
    return run(arguments)


def settings(stage: str) -> dict[str, list[Setting]]:
    """Return the sections of a stage's help."""
    chosen = {title: [row for row in rows if stage in row.only] for title, rows in SECTIONS.items()}
    return {title: rows for title, rows in chosen.items() if rows}


def _help(stage: str) -> str:
    command = COMMANDS[stage]
    lines = [f"mmood {stage} {command.arguments} ...", "", f"  {command.purpose}", ""]
    for title, rows in settings(stage).items():
        lines += [title, *(f"  {row.flags:37} {row.meaning}" for row in rows), ""]
    return "\n".join(lines) + _MORE.format(stage=stage)
