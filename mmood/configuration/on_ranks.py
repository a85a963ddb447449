"""Work of a command on the processes and devices of a config's trainer, where no set is tested."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from mmood.configuration.lightning import DetectorCLI
from mmood.runs.ending_callback import EndAtSignals

Work = Callable[[Trainer], None]


def run_on_ranks(cli: DetectorCLI, modules: list[nn.Module], work: Work) -> None:
    """Call `work` once in each process of the trainer, without gradients, the modules in eval mode on its device.

    Args:
        cli: whose settings of the trainer count.
        modules: what the work uses.
        work: takes the trainer; it may enable gradients.
    """
    config = cli.config.trainer
    trainer = Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=config.strategy,
        precision=config.precision,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        # What is made in inference mode can never be differentiated.
        inference_mode=False,
        callbacks=[EndAtSignals()],
    )
    trainer.predict(_AtStart(modules, work))


@final
class _AtStart(LightningModule):
    """Works at the start of `Trainer.predict`: so every strategy of the trainer brings its processes and devices."""

    def __init__(self, modules: list[nn.Module], work: Work) -> None:
        super().__init__()
        self.used = nn.ModuleList(modules)
        self.work = work

    def on_predict_start(self) -> None:
        """Do the work."""
        self.work(self.trainer)

    def predict_dataloader(self) -> DataLoader[int]:
        """Return one thing to predict: without any, the loop would not start."""
        return DataLoader([0])  # type: ignore[arg-type]

    def predict_step(self, batch: object, batch_idx: int) -> int:
        """Return anything: the work is done."""
        return 0
