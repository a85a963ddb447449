"""What a reader needs to trust a number and to compute it again."""

from __future__ import annotations

import functools
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from mmood import __version__
from mmood.classes.names import class_names_hash
from mmood.data.datamodule import EvaluationSet
from mmood.data.protocols import ProtocolSets
from mmood.evaluation.tuned import tuned_settings
from mmood.features.loader import FeatureLoader
from mmood.modules import AbstractDetector
from mmood.modules.training_record import run_seed
from mmood.scores.descriptors import LOCAL

_LIBRARIES = ("torch", "torchvision", "lightning", "open_clip_torch", "torchmetrics", "timm", "webdataset")


def provenance(trainer: Trainer, module: AbstractDetector, protocol: ProtocolSets) -> dict[str, object]:
    """Return the settings behind a results file, as plain data."""
    sets = dict(protocol.sets)
    return {
        **of_the_program(),
        "module": type(module).__name__,
        "encoder": module.encoder.identity(),
        "patches": module.encoder.settings.patches if LOCAL & module.outputs else None,
        "settings": module.own_record(),
        "checkpoint": _checkpoint(trainer, module),
        "class_names": {"count": len(module.class_names), "sha256": class_names_hash(module.class_names)},
        "scores": {name: score.record() for name, score in module.named_scores()},
        "tuned": tuned_settings(trainer, module, sets),
        "sets": {
            name: {
                **_as_part(entry, protocol),
                **_corruption(trainer, name),
                "features": _store_of(trainer, protocol.read_as(name)),
            }
            for name, entry in sets.items()
        },
        "banks": [] if module.provider is None else list(module.provider.banks.values()),
        "precision": str(trainer.precision),
        "accelerator": _device_name(module.device),
        "world_size": trainer.world_size,
        "batch_size": trainer.datamodule.batch_size,  # type: ignore[attr-defined]
        "exif": trainer.datamodule.exif or "ignore",  # type: ignore[attr-defined]
        "seed": run_seed(),
        "loader_seed": trainer.datamodule.loader.seed or 0,  # type: ignore[attr-defined]
    }


def of_the_program() -> dict[str, object]:
    """Return the versions behind a results file, and when it was made, as plain data."""
    return {
        "mmood": {"version": __version__, "commit": _commit()},
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def of_set(entry: EvaluationSet) -> dict[str, object]:
    """Return which set was evaluated, as plain data."""
    return {"group": entry.group, "n": entry.count, "index_sha256": entry.index.hash, "source": entry.index.source}


def _as_part(entry: EvaluationSet, protocol: ProtocolSets) -> dict[str, object]:
    view = protocol.views.get(entry.name)
    return of_set(entry) if view is None else {**of_set(entry), "part_of": view.of}


def _corruption(trainer: Trainer, name: str) -> dict[str, object]:
    corruption = trainer.datamodule.corruptions.of(name)  # type: ignore[attr-defined]
    return {} if corruption is None else {"corruption": corruption.identity()}


def _store_of(trainer: Trainer, name: str) -> dict[str, object] | None:
    """Return which feature store stood in the place of a set's images; None if they were read."""
    loaders: object = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
    loader = loaders.get(name) if isinstance(loaders, dict) else None
    if not isinstance(loader, FeatureLoader):
        return None
    manifest = loader.store.manifest
    return {"sha256": manifest.sha256, "dtype": manifest.dtype, "batch_size": manifest.batch_size}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _checkpoint(trainer: Trainer, module: AbstractDetector) -> dict[str, object] | None:
    """Return which checkpoint the weights come from and how they were trained; None if none was loaded."""
    if module.trained_with is None:
        return None
    path = trainer.ckpt_path
    return {"path": None if path is None else str(Path(path).absolute()), **module.trained_with}


@functools.cache
def _commit() -> str | None:
    """Return the commit of a checkout of mmood, with a `+` if files differ from it; None for an installed package."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        # Fixed arguments, and git as the user has it.
        described = subprocess.run(  # noqa: S603  # nosec B603 B607
            ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None
