"""Does alignment beat plain contrastive fine-tuning here? Zero-shot, FLYP, CMA, FFT and LP-FT on real images.

The weight of the regulariser is chosen without any test set: 20 of the 100 ID classes are held out as validation OoD,
the other 80 train, and the λ with the best mean of the NegLabel and MCM AUROC is kept. Then every method trains on all
100 classes, with several seeds, and is tested. Everything runs through `mmood` as a user would type it; a run that
finished is not repeated, so the script can be stopped and started again.

    MMOOD_REAL_DATA=... python tests/benchmarks/table_alignment.py --work DIR
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

import yaml

HELD_OUT = range(0, 100, 5)
"""Classes that stand for OoD while λ is chosen: every fifth."""
VALIDATION = 20
"""Images of each class (of 200) that validate while λ is chosen, of both kinds of class."""
LAMBDAS = (0.0, 0.0003, 0.001, 0.01, 0.1)
SEEDS = (0, 1, 2)
SETS = ("near-ood", "far-textures")


def main() -> None:
    """Run what has not run yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for shards, runs and the table")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    experiment = Experiment(options.work.resolve(), Path(os.environ["MMOOD_REAL_DATA"]), options.epochs)
    experiment.prepare()
    best = experiment.choose()
    for seed in SEEDS:
        experiment.contrastive("flyp", 0.0, seed)
        experiment.contrastive("cma", best, seed)
    experiment.zero_shot()
    for seed in SEEDS:
        experiment.cross_entropy(seed)
    print(experiment.table(best))


class Experiment:
    """The runs below one folder.

    Args:
        work: where shards and runs go.
        real: the folder that holds the real images and the small CLIP.
        epochs: of every fine-tuning run.
    """

    def __init__(self, work: Path, real: Path, epochs: int) -> None:
        self.work = work
        self.real = real
        self.epochs = epochs
        self.root = work / "data"

    def prepare(self) -> None:
        """Index a copy of the shards and pack the sets on which λ is chosen."""
        if (self.root / "done").exists():
            return
        for name in ("id-train", "id-test", *SETS):
            shutil.copytree(self.real / "data" / name, self.root / name, dirs_exist_ok=True)
        classes = (self.real / "data" / "id-classes.txt").read_text().splitlines()
        (self.root / "all.txt").write_text("\n".join(classes) + "\n")
        kept = [number for number in range(len(classes)) if number not in HELD_OUT]
        (self.root / "kept.txt").write_text("\n".join(classes[number] for number in kept) + "\n")
        images = self.work / "images"
        self._split(images, kept)
        mmood("pack", "--index", *(str(self.root / name) for name in ("id-train", "id-test", *SETS)))
        for name in ("choose-train", "choose-val", "choose-ood"):
            mmood("pack", "--out", str(self.root / name), "--folder", str(images / name))
        shutil.rmtree(images)
        (self.root / "done").touch()

    def choose(self) -> float:
        """Return the λ whose run is best on the held-out classes."""
        sets = {"train": "choose-train", "val": {"id": "choose-val", "ood": {"val": ["choose-ood"]}}}
        data = {"root": str(self.root), "class_names": str(self.root / "kept.txt"), **sets}
        found = {}
        for weight in LAMBDAS:
            run = self._fit(f"choose-{weight}", self._contrastive(weight), data, seed=0)
            results = self._evaluate("validate", run, [])
            found[weight] = {row["score"]: row["auroc"] for row in results["rows"]}
            print(f"λ {weight}: accuracy {results['id'][0]['accuracy']:.4f} {found[weight]}", flush=True)
        (self.work / "lambda.json").write_text(json.dumps(found, indent=1))
        return max((weight for weight in LAMBDAS if weight), key=lambda weight: statistics.mean(found[weight].values()))

    def contrastive(self, name: str, weight: float, seed: int) -> None:
        """Fine-tune both towers and test."""
        run = self._fit(f"{name}-{seed}", self._contrastive(weight), self._data(), seed)
        self._evaluate("test", run, [])

    def cross_entropy(self, seed: int) -> None:
        """Fine-tune the image tower with a random head (FFT), and with a probed one (LP-FT), and test."""
        probe = self._fit(f"probe-{seed}", self._probe(), self._data(), seed, epochs=100)
        for name, start in (("fft", "random"), ("lpft", str(checkpoint(probe)))):
            run = self._fit(f"{name}-{seed}", self._cross_entropy(start), self._data(), seed)
            self._evaluate("test", run, [])

    def zero_shot(self) -> None:
        """Test the model as it is."""
        run = self.work / "runs" / "zeroshot"
        model = {"class_path": "ZeroShot", "init_args": {**self._encoder(), **PROMPTS, "scores": TEXT_SCORES}}
        config = self._config(run, model, self._data(), 0, 1)
        self._evaluate("test", run, ["--config", str(config)])

    def table(self, best: float) -> str:
        """Return the mean and the spread (standard deviation over seeds) of every method as Markdown."""
        lines = ["| method | score | ID accuracy | set | AUROC | FPR95 (ID+) | FPR95 (OoD+) |", "|" + "---|" * 7]
        for method in ("zeroshot", "flyp", "cma", "fft", "lpft"):
            runs = [
                json.loads(path.read_text()) for path in sorted(self.work.glob(f"runs/{method}*/test/results.json"))
            ]
            accuracy = spread(run["id"][0]["accuracy"] for run in runs)
            for rows in zip(*(run["rows"] for run in runs), strict=True):
                values = [spread(row[key] for row in rows) for key in ("auroc", "fpr95_id_pos", "fpr95_ood_pos")]
                cells = [method, rows[0]["score"], accuracy, rows[0]["set"], *values]
                lines.append("| " + " | ".join(cells) + " |")
        text = "\n".join([f"λ = {best}, {self.epochs} epochs", "", *lines])
        (self.work / "table.md").write_text(text + "\n")
        return text

    def _split(self, images: Path, kept: list[int]) -> None:
        met: dict[int, int] = {}
        for shard in sorted((self.real / "data" / "id-train").glob("*.tar")):
            for picture, label in labelled(shard):
                number = met[label] = met.get(label, 0) + 1
                held_out, validates = label not in kept, number <= VALIDATION
                if held_out and not validates:
                    continue
                place = "choose-ood" if held_out else f"choose-{'val' if validates else 'train'}/{kept.index(label):02}"
                (images / place).mkdir(parents=True, exist_ok=True)
                (images / place / f"{label:02}-{number:03}.jpg").write_bytes(picture)

    def _data(self) -> dict[str, object]:
        sets = {"train": "id-train", "id": "id-test", "ood": {"near": ["near-ood"], "far": ["far-textures"]}}
        return {"root": str(self.root), "class_names": str(self.root / "all.txt"), **sets}

    def _encoder(self) -> dict[str, object]:
        return {"encoder": {"name": f"local-dir:{self.real / 'models' / 'miniclip'}"}}

    def _contrastive(self, weight: float) -> dict[str, object]:
        loss = {"alignment": weight, "loss": {"texts": "distinct"}, **OPTIMISER}
        return {
            "class_path": "AlignmentFineTune",
            "init_args": {**self._encoder(), **PROMPTS, **loss, "scores": TEXT_SCORES},
        }

    def _cross_entropy(self, start: str) -> dict[str, object]:
        head = {"head": {"start": start, "reads": "features"}, "trained": {"towers": "image"}, **OPTIMISER}
        return {"class_path": "CrossEntropyFineTune", "init_args": {**self._encoder(), **head, "scores": HEAD_SCORES}}

    def _probe(self) -> dict[str, object]:
        return {"class_path": "LinearProbe", "init_args": {**self._encoder(), "scores": HEAD_SCORES}}

    def _fit(self, name: str, model: dict[str, object], data: dict[str, object], seed: int, epochs: int = 0) -> Path:
        run = self.work / "runs" / name
        if not checkpoint(run).exists():
            shutil.rmtree(run, ignore_errors=True)
            config = self._config(run, model, data, seed, epochs or self.epochs)
            mmood("fit", "--config", str(config), "--run_dir", str(run))
        return run

    def _evaluate(self, stage: str, run: Path, flags: list[str]) -> dict:
        folder = run / stage
        if not (folder / "results.json").exists():
            source = flags or ["--ckpt_path", str(checkpoint(run))]
            mmood(stage, *source, "--run_dir", str(folder))
        return json.loads((folder / "results.json").read_text())

    def _config(self, run: Path, model: dict, data: dict[str, object], seed: int, epochs: int) -> Path:
        trainer = {"accelerator": "cpu", "devices": 1, "max_epochs": epochs, "check_val_every_n_epoch": epochs}
        loader = {"batch_size": 256, "loader": {"workers": 0, "seed": seed}}
        config = {"seed_everything": seed, "model": model, "data": {**data, **loader}, "trainer": trainer}
        path = self.work / "configs" / f"{run.name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(config))
        return path


PROMPTS = {"prompts": "The nice {}"}
OPTIMISER = {
    "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0e-4, "weight_decay": 0.1}},
    "schedule": {"class_path": "WarmupCosine", "init_args": {"warmup": 20}},
}
TEXT_SCORES = {
    "neglabel": {"class_path": "NegLabel", "init_args": {"groups": 1, "temperature": 0.01}},
    "mcm": {"class_path": "MCM", "init_args": {"temperature": 1.0}},
}
HEAD_SCORES = {
    "msp": {"class_path": "MCM", "init_args": {"temperature": 1.0}},
    "energy": {"class_path": "Energy", "init_args": {"temperature": 1.0}},
}


def labelled(shard: Path) -> Iterable[tuple[bytes, int]]:
    """Yield image and class of the samples of a shard."""
    picture = b""
    with tarfile.open(shard) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            if member.name.endswith(".jpg"):
                picture = content.read()
            elif member.name.endswith(".cls"):
                yield picture, int(content.read())


def spread(values: Iterable[float]) -> str:
    """Return mean ± sample standard deviation, in per cent."""
    found = [100 * value for value in values]
    deviation = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.2f}{deviation}"


def checkpoint(run: Path) -> Path:
    """Return where the last weights of a run are."""
    return run / "checkpoints" / "last.ckpt"


def mmood(*arguments: str) -> None:
    """Run a command; its progress goes to this screen."""
    subprocess.run([sys.executable, "-m", "mmood", *arguments], check=True)


if __name__ == "__main__":
    main()
