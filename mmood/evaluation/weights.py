"""Several weights of one module, evaluated one after the other in one run."""

from __future__ import annotations

from lightning.pytorch import Trainer

from mmood.data.datamodule import EvaluationStage, OoDDataModule
from mmood.evaluation.callback import OoDCallback
from mmood.evaluation.variants import Variants
from mmood.modules import AbstractDetector, AlignmentFineTune


def evaluate(
    stage: EvaluationStage, trainer: Trainer, module: AbstractDetector, data: OoDDataModule, checkpoint: str | None
) -> None:
    """Evaluate the sets of a stage: once, or once for each of several values of `model.weight_interpolation`.

    Every pass loads the checkpoint again, so banks, stores and mined lists always belong to the weights of that moment.
    `OoDCallback` writes what has come so far after every pass, rows and arrays named by their variant.

    Args:
        stage: which sets.
        trainer: with an OoDCallback.
        module: what is evaluated.
        data: the sets.
        checkpoint: to load, a path or what Lightning takes for one.
    """
    run = trainer.test if stage == "test" else trainer.validate
    if not isinstance(module, AlignmentFineTune) or len(module.alphas) < 2:
        run(module, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True)
        return
    (evaluation,) = [callback for callback in trainer.callbacks if isinstance(callback, OoDCallback)]  # type: ignore[attr-defined]
    evaluation.variants = Variants([f"wise-ft {alpha:g}" for alpha in module.alphas])
    for alpha in module.alphas:
        module.load_at(alpha)
        evaluation.variants.begin(f"wise-ft {alpha:g}")
        run(module, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True)
    evaluation.variants = Variants()
