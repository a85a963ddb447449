"""What a reader needs to trust the numbers of a dense run and to compute them again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch import Trainer

from mmood.classes.names import class_names_hash
from mmood.data.catalog import EvaluationSet
from mmood.dense.data import DenseDataModule
from mmood.dense.detector import AbstractDenseDetector
from mmood.encoders.weights import weights_hash
from mmood.evaluation.provenance import of_set, of_the_program
from mmood.modules.training_record import run_seed


def dense_provenance(
    trainer: Trainer,
    module: AbstractDenseDetector,
    data: DenseDataModule,
    sets: Mapping[str, EvaluationSet],
    evaluation: Mapping[str, object],
) -> dict[str, object]:
    """Return the settings behind a results file, as plain data."""
    checkpoint: dict[str, object] | None = None
    if module.trained_with is not None:
        path = trainer.ckpt_path
        checkpoint = {"path": None if path is None else str(Path(path).absolute()), **module.trained_with}
    return {
        **of_the_program(),
        "module": type(module).__name__,
        "weights_sha256": weights_hash(module),
        "settings": module.own_record(),
        "checkpoint": checkpoint,
        "class_names": {"count": len(module.class_names), "sha256": class_names_hash(module.class_names)},
        "ood_labels": [data.labels.names[label] for label in sorted(data.labels.ood)],
        "ignored_labels": sorted(data.labels.ignored),
        "image_size": list(data.image_size),
        "evaluation": dict(evaluation),
        "scores": {name: score.record() for name, score in module.named_scores()},
        "sets": {name: of_set(entry) for name, entry in sets.items()},
        "precision": str(trainer.precision),
        "world_size": trainer.world_size,
        "batch_size": data.batch_size,
        "seed": run_seed(),
    }
