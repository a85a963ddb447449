"""The two families of runs: images with one score each, and images with a score for every pixel.

A run belongs to the family of its model's class. Everything else about a run (configs, checkpoints, run folder,
requeue) is the same for both.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

from mmood.configuration.model_class import named_class
from mmood.data.datamodule import EvaluationStage, OoDDataModule
from mmood.dense import MODULES
from mmood.evaluation.callback import OoDCallback
from mmood.evaluation.weights import evaluate
from mmood.modules import AbstractDetector


@dataclass(frozen=True)
class Family:
    """What the command line builds for a run.

    Attributes:
        module: base class of the models.
        data: class of the data module.
        evaluation: class of the callback that evaluates.
        stages: what can be run.
        class_names: checks the data for a stage (None for a tool) and returns the names of the ID classes.
        validates: whether the settings name ID images for validation, from which a checkpoint can be chosen.
        evaluate: runs a stage of evaluation.
    """

    module: type[LightningModule]
    data: type[LightningDataModule]
    evaluation: type[Callback]
    stages: frozenset[str]
    class_names: Callable[[Any, str | None], str | list[str]]
    validates: Callable[[Namespace], bool]
    evaluate: Callable[[EvaluationStage, Trainer, Any, Any, str | None], None]


def family_of(arguments: list[str]) -> Family:
    """Return the family of the model that the arguments name, in a config or with a flag; the last one counts.

    Args:
        arguments: of the command line, with the files of configs found and checked.
    """
    return _dense() if _is_dense(named_class(arguments) or "") else IMAGES


def _is_dense(name: str) -> bool:
    module, _, short = name.rpartition(".")
    if not module or module.partition(".")[0] == "mmood":
        return short in MODULES
    # A class of the user's own; one that cannot be imported is for the parser to complain of.
    with contextlib.suppress(ImportError, AttributeError):
        found = getattr(importlib.import_module(module), short)
        return isinstance(found, type) and issubclass(found, _dense().module)
    return False


def _class_names_of_images(data: OoDDataModule, stage: str | None) -> str | list[str]:
    if stage is not None:
        data.check(stage)
    return data.classes.needed()


IMAGES = Family(
    AbstractDetector,
    OoDDataModule,
    OoDCallback,
    frozenset({"fit", "validate", "test", "predict"}),
    _class_names_of_images,
    lambda data: data.val.id is not None,
    evaluate,
)
"""Detectors: an image has one value of each score."""


def _dense() -> Family:
    """Return the family of dense detectors: a pixel has one value of each score. Imported where a run is of it."""
    # The modules, too: class names in configs may then be short.
    from mmood.dense import observer, segmenter, zero_shot  # noqa: F401
    from mmood.dense.callback import DenseCallback
    from mmood.dense.data import DenseDataModule
    from mmood.dense.detector import AbstractDenseDetector

    def class_names(data: DenseDataModule, stage: str | None) -> list[str]:
        if stage is not None:
            data.check(stage)
        return list(data.labels.id_names)

    def run(stage: EvaluationStage, trainer: Trainer, module: Any, data: Any, checkpoint: str | None) -> None:
        step = trainer.test if stage == "test" else trainer.validate
        step(module, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True)

    return Family(
        AbstractDenseDetector,
        DenseDataModule,
        DenseCallback,
        frozenset({"fit", "validate", "test"}),
        class_names,
        lambda data: data.val is not None,
        run,
    )
