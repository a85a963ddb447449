"""Do several scales help, and does ALPA? k-NN, cross-scale k-NN and MODE's fine-tuning on CLIPs, on real images.

The ID training images are an eighth of id-train (about 25 of each of 100 classes), for the bank and for training; every fifth
image of id-test and near-ood is tested, and all of far-textures. Every score takes the 10th neighbour. Training is that of
MODE-F: ALPA alone, SGD at 0.1 with a cosine, batches of 64 images in two views. Nothing is chosen by a result.

* `head`: the tower is frozen and ALPA's heads are trained on the maps of two views, which are encoded once; the score reads
  the values of each position.
* `tower`: `MultiScale` trains the image tower (miniclip only: liteclip's would take hours).

What is done is kept in the work folder, so the script can be stopped and started again.

    MMOOD_REAL_DATA=... python tests/benchmarks/table_mode.py --work DIR --model miniclip --tower
    MMOOD_REAL_DATA=... python tests/benchmarks/table_mode.py --work DIR --model liteclip
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmood.data.datamodule import OoDDataModule
from mmood.data.settings import ValSettings
from mmood.encoders import EncoderSettings
from mmood.encoders.base import AbstractEncoder, ImageTransform
from mmood.encoders.transforms import contrastive_transform
from mmood.features.encoding import SeededByImage
from mmood.features.views import Crops
from mmood.loading.few_shot import epoch_order
from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.settings import LoaderSettings
from mmood.losses import alpa_loss
from mmood.metrics.functional import ood_metrics
from mmood.modules import MultiScale
from mmood.modules.fine_tuning.multi_scale import MultiScaleLoss
from mmood.modules.fine_tuning.projectors import Projectors
from mmood.modules.fine_tuning.trained import TrainedTowers
from mmood.modules.optimisation import WarmupCosine
from mmood.modules.reference import ModelReference
from mmood.scores import CSD, KNN, CrossScaleKNN
from mmood.scores.base import AbstractScore, Bank, Embedded
from mmood.scores.descriptors import LocalDescriptors, LocalHead

SEEDS = (0, 1, 2)
HELD_OUT, EVERY, BATCH, RATE, K = 0.875, 5, 64, 0.1, 10
HEAD_EPOCHS, TOWER_EPOCHS = 5, 2
SETS = {"id-test": EVERY, "near-ood": EVERY, "far-textures": 1}
LOADER = LoaderSettings(workers=0, seed=0)


@dataclass(frozen=True)
class Encoded:
    """Images as scores read them."""

    features: Tensor
    patches: Tensor
    feature_map: Tensor
    label: Tensor

    def embedded(self) -> Embedded:
        return Embedded(self.features, self.features[:, :1], None, self.patches, self.feature_map)


class Training:
    """Gives the training images to a reference."""

    def __init__(self, images: Encoded) -> None:
        self.images = images

    def bank(self, shots: object, transform: object, labels: object, descriptors: LocalDescriptors | None) -> Bank:
        images, made = self.images, None
        if descriptors is not None:
            made = descriptors.of(images.patches if descriptors.reads == "patches" else images.feature_map)
        keys = torch.arange(len(images.label))
        return Bank(images.features, images.label, keys, None, {"set": "id-train"}, made)


class Experiment:
    """Everything about one model."""

    def __init__(self, work: Path, real: Path, name: str) -> None:
        self.work, self.name = work / name, name
        self.work.mkdir(parents=True, exist_ok=True)
        self.classes = str(real / "data" / "id-classes.txt")
        self.model = EncoderSettings(f"local-dir:{real / 'models' / name}", crop=(0.2, 1.0))
        self.data = OoDDataModule(
            str(real / "data"),
            id="id-test",
            ood={"near": ["near-ood"], "far": ["far-textures"]},
            train="id-train",
            val=ValSettings(id=HELD_OUT),
            class_names=self.classes,
            batch_size=BATCH,
            loader=LOADER,
            features="off",
        )

    def module(self, seed: int, towers: str = "image") -> MultiScale:
        torch.manual_seed(seed)
        return MultiScale(
            self.model,
            self.classes,
            {"csd": CSD(K)},
            loss=MultiScaleLoss(contrastive=0),
            trained=TrainedTowers(towers=towers, batch_norm=False),  # type: ignore[arg-type]
            optimizer=lambda parameters: torch.optim.SGD(parameters, lr=RATE, momentum=0.9, weight_decay=1e-4),
        )

    def encode(self, encoder: AbstractEncoder, name: str, transform: ImageTransform | None = None) -> Encoded:
        """Return a set, or its views one behind the other."""
        index = self.data.catalog.index(name)
        keys = self.data.train_keys() if name == "id-train" else index.keys()[:: SETS[name]]
        decoder = Decoder(transform or encoder.transform(), index.classes, "ignore")
        found: list[tuple[Tensor, ...]] = []
        with torch.inference_mode():
            for batch in EvalLoader(index, keys, decoder, BATCH, LOADER):
                images = batch["image"] if transform is None else batch["image"].flatten(0, 1)
                one = encoder.encode_image(images, patches=True, feature_map=True)
                assert one.patches is not None and one.feature_map is not None  # noqa: PT018
                found.append((one.features, one.patches, one.feature_map.half(), batch["label"].clone()))
        columns = [torch.cat(column) for column in zip(*found, strict=True)]
        return Encoded(columns[0], columns[1], columns[2], columns[3])

    def kept(self, name: str, make: Callable[[], Encoded]) -> Encoded:
        path = self.work / f"{name}.pt"
        if not path.exists():
            torch.save(vars(make()), path)
        stored = torch.load(path, weights_only=True)
        return Encoded(**{**stored, "feature_map": stored["feature_map"].float()})

    def rows(self, encoder: AbstractEncoder, name: str, heads: dict[str, LocalHead | None]) -> dict[str, list[float]]:
        """Return AUROC and FPR95 (ID positive) of both OoD sets for each score."""
        sets = {of: self.kept(f"{name}.{of}", lambda of=of: self.encode(encoder, of)) for of in ("id-train", *SETS)}
        found = {}
        scores: dict[str, tuple[AbstractScore, LocalHead | None]] = {
            "k-NN": (KNN(K), None),
            "cross-scale k-NN": (CrossScaleKNN(K), None),
            **{row: (CSD(K), head) for row, head in heads.items()},
        }
        for row, (score, head) in scores.items():
            provider = Training(sets["id-train"])
            score.fit(ModelReference(encoder, ["-"] * 100, (), provider=provider, local_head=head))  # type: ignore[arg-type]
            values = {of: score(sets[of].embedded()).numpy() for of in SETS}
            metrics = [ood_metrics(values["id-test"], values[of]) for of in ("near-ood", "far-textures")]
            found[row] = [100 * value for metric in metrics for value in (metric.auroc, metric.fpr95_id_pos)]
        return found

    def head(self, encoder: AbstractEncoder, seed: int) -> LocalHead:
        """Return ALPA's value head, trained on the maps of two views."""
        views = SeededByImage(Crops(contrastive_transform(encoder.preprocessing, (0.2, 1.0)), 2), 0)
        images = self.kept("views", lambda: self.encode(encoder, "id-train", views))
        maps = images.feature_map.unflatten(0, (-1, 2))
        projectors, steps = self.module(seed, "none").projectors, HEAD_EPOCHS * (len(maps) // BATCH)
        assert isinstance(projectors, Projectors)
        optimizer = torch.optim.SGD(projectors.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)
        schedule = WarmupCosine(optimizer, steps, warmup=0, floor=1e-3)
        for epoch in range(HEAD_EPOCHS):
            for chosen in epoch_order(len(maps), seed, epoch).split(BATCH)[: len(maps) // BATCH]:
                labels = images.label[chosen].repeat_interleave(2)
                loss = alpa_loss(*projectors(maps[chosen].flatten(0, 1)), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            print(f"{self.name} head, seed {seed}, epoch {epoch}: loss {loss.item():.3f}", flush=True)
        value = projectors.value
        return LocalHead(value.first.weight.detach(), value.second.weight.detach())

    def tower(self, seed: int) -> AbstractEncoder:
        """Return the encoder after MODE-F."""
        from lightning.pytorch import Trainer

        module, path = self.module(seed), self.work / f"tower.{seed}.pt"
        if not path.exists():
            self.data.loader = LoaderSettings(workers=0, seed=seed)
            quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
            trainer = Trainer(
                accelerator="cpu",
                max_epochs=TOWER_EPOCHS,
                limit_val_batches=0,
                num_sanity_val_steps=0,
                default_root_dir=self.work,
                **quiet,
            )
            trainer.fit(module, datamodule=self.data)
            torch.save(module.encoder.state_dict(), path)
        module.encoder.load_state_dict(torch.load(path, weights_only=True))
        return module.encoder.eval()

    def run(self, name: str, make: Callable[[], dict[str, list[float]]]) -> dict[str, list[float]]:
        """Return rows of an earlier start, or make them."""
        path = self.work / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(make()))
        found: dict[str, list[float]] = json.loads(path.read_text())
        return found


def main() -> None:
    """Run what has not run yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for what is done")
    parser.add_argument("--model", default="miniclip", help="folder below models/")
    parser.add_argument("--tower", action="store_true", help="fine-tune the tower, too")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    experiment = Experiment(options.work, Path(os.environ["MMOOD_REAL_DATA"]), options.model)
    encoder = experiment.module(0, "none").encoder.eval()
    table = {row: [values] for row, values in experiment.run("plain", lambda: plain(experiment, encoder)).items()}
    for seed in SEEDS:
        row = experiment.run(f"head.{seed}", lambda seed=seed: headed(experiment, encoder, seed))
        table.setdefault("ALPA heads: CSD", []).append(row["CSD"])
    for seed in SEEDS if options.tower else ():
        for row, values in experiment.run(f"tower.{seed}", lambda seed=seed: towered(experiment, seed)).items():
            table.setdefault(f"ALPA tower: {row}", []).append(values)
    print_table(options.model, table)


def plain(experiment: Experiment, encoder: AbstractEncoder) -> dict[str, list[float]]:
    return experiment.rows(encoder, "plain", {"CSD": None})


def headed(experiment: Experiment, encoder: AbstractEncoder, seed: int) -> dict[str, list[float]]:
    return experiment.rows(encoder, "plain", {"CSD": experiment.head(encoder, seed)})


def towered(experiment: Experiment, seed: int) -> dict[str, list[float]]:
    return experiment.rows(experiment.tower(seed), f"tower.{seed}", {"CSD": None})


def print_table(model: str, table: dict[str, list[list[float]]]) -> None:
    print(f"| {model} | near AUROC | near FPR95 | far AUROC | far FPR95 |\n|---|--:|--:|--:|--:|")
    for row, runs in table.items():
        cells = []
        for column in zip(*runs, strict=True):
            spread = f" ± {statistics.stdev(column):.1f}" if len(column) > 1 else ""
            cells.append(f"{statistics.fmean(column):.1f}{spread}")
        print(f"| {row} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
