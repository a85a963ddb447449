"""How the weights of a checkpoint were trained, as it says itself: what a later test repeats in its results."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from mmood.settings import plain


def training_record(module: LightningModule) -> dict[str, object]:
    """Return, as plain data, what besides the module's own settings decides the weights of a training."""
    trainer = module.trainer
    return {
        "seed": run_seed(),
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "gradient_clip_val": trainer.gradient_clip_val,
        "precision": str(trainer.precision),
        "world_size": trainer.world_size,
        "optimizers": _optimizers(trainer),
    }


def checkpoint_record(checkpoint: Mapping[str, Any]) -> dict[str, object]:
    """Return, as plain data, how the weights of a checkpoint were trained and how far.

    Raises:
        MmoodError: the checkpoint holds something else there.
    """
    trained = plain(checkpoint.get("mmood_training", {}), "The training in the checkpoint")
    reached = {name: plain(checkpoint.get(name), f"{name} in the checkpoint") for name in ("epoch", "global_step")}
    return {**reached, **(trained if isinstance(trained, dict) else {})}


def run_seed() -> int | None:
    """Return the seed that Lightning gave to the global generators; None if nobody did."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    return None if seed is None else int(seed)


def _optimizers(trainer: Trainer) -> list[object]:
    """Return class and settings of each optimiser, before any schedule."""
    return [
        {"class_path": f"{type(one).__module__}.{type(one).__qualname__}", **_defaults(one.defaults)}
        for one in trainer.optimizers
    ]


def _defaults(defaults: Mapping[str, Any]) -> dict[str, object]:
    return {name: plain(value, f"{name} of the optimiser") for name, value in defaults.items()}
