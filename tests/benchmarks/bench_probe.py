"""How much of a bare training loop's speed a probe keeps on stored features; at least 0.70 is wanted.

Both train a linear head on half-precision features, batch 8192: the probe through Lightning from a memory-mapped file
with shuffling and standardisation, the bare loop with the same matrix products and optimiser steps over slices of a
tensor in memory. They take turns; without a GPU, CPU time counts.

    python tests/benchmarks/bench_probe.py [IMAGES] [CLASSES] [DEVICE]     (1281167 1000 cuda is ImageNet on a GPU)
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import open_clip
import torch
from lightning.pytorch import Callback, Trainer
from safetensors import safe_open
from safetensors.torch import save_file, save_model
from torch.nn import functional

from mmood.encoders import EncoderSettings
from mmood.features.loader import FeatureTrainLoader, TrainingRows
from mmood.modules import LinearProbe
from mmood.modules.probes.training import ProbeSettings, training_rows
from mmood.scores.logits import MCM

WIDTH, BATCH, ROUNDS = 512, 8192, 3
CLIP = {
    "embed_dim": WIDTH,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": WIDTH, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}


class Clock(Callback):
    """Measures every epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, module: LinearProbe) -> None:
        self.start = now(module.device)

    def on_train_epoch_end(self, trainer: Trainer, module: LinearProbe) -> None:
        self.seconds.append(now(module.device) - self.start)


def now(device: torch.device) -> float:
    """Return seconds on the clock: of the processor, unless a GPU works."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def probe_of(folder: Path, classes: int) -> LinearProbe:
    """A probe whose encoder is as wide as the features, and never used."""
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}}))
    save_model(open_clip.CLIP(**CLIP), str(folder / "open_clip_model.safetensors"))
    names = [f"class {number}" for number in range(classes)]
    return LinearProbe(EncoderSettings(f"local-dir:{folder}"), names, {"msp": MCM()}, training=ProbeSettings(BATCH))


def probe_epoch(probe: LinearProbe, rows: TrainingRows, device: torch.device) -> float:
    """Seconds of the second epoch: the first one warms up."""
    clock = Clock()
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(accelerator=accelerator, devices=1, max_epochs=2, logger=False, callbacks=[clock], **quiet)
    trainer.fit(probe, FeatureTrainLoader(rows, seed=0))
    return clock.seconds[1]


def bare_epoch(features: torch.Tensor, targets: torch.Tensor, classes: int, device: torch.device) -> float:
    """Seconds of the second epoch."""
    head = torch.nn.Linear(WIDTH, classes).to(device)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3, weight_decay=1e-3)
    for _ in range(2):
        start = now(device)
        for inputs, labels in zip(features.split(BATCH), targets.split(BATCH), strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(head(inputs.to(device).float()), labels.to(device)).backward()
            optimizer.step()
    return now(device) - start


def main() -> int:
    """Print the rates and their ratio."""
    given = [*sys.argv[1:], *("160000", "1000", "cpu")[len(sys.argv) - 1 :]]
    images, classes, device = int(given[0]), int(given[1]), torch.device(given[2])
    ram = torch.randn(images, WIDTH).half()
    targets = torch.randint(classes, (images,))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_file({"features": ram}, folder / "features.safetensors")
        with safe_open(folder / "features.safetensors", framework="pt") as file:
            mapped = file.get_tensor("features")
        probe = probe_of(folder, classes)
        names = [f"class {number}" for number in range(classes)]
        keys = torch.arange(images)
        rows = training_rows(probe.probe, {"features": mapped}, keys, targets, ProbeSettings(BATCH), names)
        ratios = []
        for number in range(ROUNDS):
            bare, probed = bare_epoch(ram, targets, classes, device), probe_epoch(probe, rows, device)
            ratios.append(bare / probed)
            print(f"round {number}: probe {images / probed:9.0f} images/s, bare loop {images / bare:9.0f}")
    print(
        f"probe / bare loop: {statistics.median(ratios):.3f} "
        f"(median of {ROUNDS}; {images} x {WIDTH}, {classes} classes, {device})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
