"""`mmood test`, `fit`, `validate` and `predict`: their help on one screen, and the way to LightningCLI."""

from __future__ import annotations

from dataclasses import dataclass

from mmood.cli.commands import COMMANDS
from mmood.cli.imports import quick_imports
from mmood.configuration.early_checks import check_arguments

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
        Setting("--config NAME", "a YAML file, or one of `mmood configs`"),
        Setting("--ckpt_path FILE", "a trained model; brings its own config", EVALUATES),
        Setting("--ckpt_path FILE", "resume training from this checkpoint", frozenset({"fit"})),
    ],
    "Data": [
        Setting("--data.root FOLDER", "the folder that contains the sets"),
        Setting("--data.benchmark NAME", "one of `mmood sets`, or a list of them", _TESTS),
        Setting("--data.id SET", "ID test set: name below root, or path", frozenset({"test"})),
        Setting("--data.ood '{far: [SET]}'", "the OoD test sets, by group", frozenset({"test"})),
        Setting("--data.csid '[SET]'", "covariate-shifted ID sets, for rows id+csid", frozenset({"test"})),
        Setting("--data.corruption '{...}'", "corrupted images: '{name: fog, severity: 3}'", _TESTS),
        Setting("--data.predict PATH", "a folder of images, one image, or a set", frozenset({"predict"})),
        Setting("--data.train SET", "the training set", frozenset({"fit"})),
        Setting(
            "--data.val.id SET",
            "ID validation set, or a share of train (0.01)",
            frozenset({"fit", "validate"}),
        ),
        Setting("--data.class_names FILE", "one class name per line, or a known list"),
        Setting(
            "--data.ood_labels '[9, 10]'",
            "mask labels that count as OoD (docs/dense.md)",
            _TESTS | {"fit"},
        ),
        Setting("--data.batch_size N", "images per batch on each device"),
        Setting("--data.features MODE", "stored features: auto, off, or their folder"),
        Setting("--data.loader.workers N", "number of processes that decode images"),
        Setting("--data.loader.on_error skip", "skip broken images and list them"),
    ],
    "Model": [
        Setting("--model CLASS", "ZeroShot, LinearProbe, AlignmentFineTune, ..."),
        Setting("--model.encoder.name NAME", "ViT-L-14/openai, local-dir:X, hf-hub:X/Y, ..."),
        Setting("--model.prompts TEMPLATES", "'a photo of a {}', openai-80, learned:FOLDER"),
        Setting("--model.training.shots N", "images of each class", frozenset({"fit"})),
        Setting("--model.scores.NAME CLASS", "add a score; set it by .NAME.SETTING VALUE"),
        Setting("--model.weight_interpolation W", "WiSE-FT of fine-tuned weights: '[0, 0.5, 1]'", _TESTS),
        Setting("--model.segmenter FILE", "the segmenter's checkpoint, for an Observer", frozenset({"fit"})),
        Setting("--model.execution.strategy NAME", "fsdp shards the weights of large towers", frozenset({"fit"})),
        Setting("--model.optimizer.lr RATE", "learning rate of the config's optimiser", frozenset({"fit"})),
    ],
    "Evaluation": [
        Setting("--evaluation.save_scores false", "do not write the scores of each image", _TESTS),
        Setting("--maps.files npz", "write maps of local scores; png for pictures"),
        Setting("--evaluation.smoothing.copies N", "smooth scores over noisy copies; certify them", _TESTS),
        Setting("--evaluation.save_maps N", "for scores of pixels: write the N worst maps", _TESTS),
        Setting("--evaluation.stream.order ORDER", "test streams: shuffled, id-first, ood-first", _TESTS),
        Setting("--evaluation.stream.seeds LIST", "one stream for each seed, such as '[0, 1, 2]'", _TESTS),
    ],
    "Run": [
        Setting("--name NAME", "the run writes to runs/NAME/VERSION"),
        Setting("--run_dir FOLDER", "the run writes to FOLDER"),
        Setting("--seed_everything N", "seed of all random draws"),
        Setting("--trainer.max_epochs N", "number of epochs", frozenset({"fit"})),
        Setting("--trainer.devices N", "several need --trainer.strategy ddp"),
        Setting("--trainer.precision TYPE", "32-true, bf16-mixed or 16-mixed"),
    ],
}

_MORE = (
    Setting("--help all", "all settings, including Lightning's Trainer"),
    Setting("--model.help CLASS", "the settings of a model"),
    Setting("--print_config", "print the resolved config, and run nothing"),
)


def main(arguments: list[str]) -> int:
    """Run a stage with its arguments, the stage's name first; return the exit code."""
    stage, *rest = arguments
    asked = next((place for place, word in enumerate(rest) if word in ("--help", "-h")), None)
    if asked is not None:
        if rest[asked + 1 : asked + 2] != ["all"]:
            print(_help(stage), end="")
            return 0
        arguments = [stage, "--help"]
    check_arguments(stage, rest)
    with quick_imports():
        from mmood.configuration.lightning import run
    return run(arguments)


def settings(stage: str) -> dict[str, list[Setting]]:
    """Return the sections of a stage's help."""
    chosen = {title: [row for row in rows if stage in row.only] for title, rows in SECTIONS.items()}
    return {title: rows for title, rows in chosen.items() if rows}


def _help(stage: str) -> str:
    command = COMMANDS[stage]
    lines = [f"mmood {stage} {command.arguments} ...", "", f"  {command.purpose}"]
    for title, rows in {**settings(stage), "More": _MORE}.items():
        lines += ["", title, *(f"  {row.flags:31} {row.meaning}" for row in rows)]
    return "\n".join(lines) + "\n"
