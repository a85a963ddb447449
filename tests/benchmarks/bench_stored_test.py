"""How much less a second `mmood test` costs, on stored features: from first batch to results, at least 20 x is wanted.

The same sets and scores, once from images and then twice from the store that `mmood embed` made; start-up, the loading
of the model and the fitting of scores are not. By CPU time, with loading in the same process.

    MMOOD_REAL_DATA=FOLDER python tests/benchmarks/bench_stored_test.py     (FOLDER holds data/ and models/miniclip)
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mmood.cli.main import main as mmood
from mmood.configuration.lightning import built

SETS = ("id-test", "near-ood", "far-textures")


class Clock(Callback):
    """Measures from the first batch to the results."""

    start: float | None = None
    seconds = 0.0

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.start is None:
            self.start = time.process_time()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.process_time() - (self.start or 0)


def indexed(source: Path, root: Path) -> None:
    for name in SETS:
        (root / name).mkdir(parents=True)
        for shard in (source / name).glob("*.tar"):
            (root / name / shard.name).symlink_to(shard)
    mmood(["pack", "--index", *(str(root / name) for name in SETS), "--quiet"])


def seconds_of_test(flags: list[str], folder: Path) -> float:
    cli = built([*flags, "--run_dir", str(folder)])
    clock = Clock()
    cli.trainer.callbacks.append(clock)
    cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
    return clock.seconds


def main() -> int:
    """Print the times and their ratio."""
    real = os.environ.get("MMOOD_REAL_DATA")
    if real is None:
        print("MMOOD_REAL_DATA is not set; it names the folder that holds data/ and models/.")
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        indexed(Path(real) / "data", folder / "root")
        flags = [
            *("--config", "vitb16_zeroshot.yaml", "--model.encoder.name", f"local-dir:{real}/models/miniclip"),
            *("--data.root", str(folder / "root"), "--data.benchmark", "null", "--data.id", "id-test"),
            *("--data.ood.near", "[near-ood]", "--data.ood.far", "[far-textures]", "--data.loader.workers", "0"),
            *("--data.class_names", f"{real}/data/id-classes.txt", "--trainer.enable_progress_bar", "false"),
        ]
        images = seconds_of_test([*flags, "--data.features", "off"], folder / "images")
        flags += ["--data.features", str(folder / "stores")]
        mmood(["embed", *flags, "--quiet"])
        stored = [seconds_of_test(flags, folder / f"stored-{number}") for number in range(2)]
    print(f"from images {images:.2f} s, from stored features {stored[0]:.2f} s and {stored[1]:.2f} s")
    print(f"images / stored features: {images / min(stored):.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
