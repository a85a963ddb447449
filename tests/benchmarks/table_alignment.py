"""Does alignment beat plain contrastive fine-tuning here? Zero-shot, FLYP, CMA, FFT and LP-FT on real images.

Nothing is chosen on a test set: 20 of the 100 ID classes are held out as validation OoD, the other 80 train. The
learning rate and the number of epochs are those with the best ID accuracy without the regulariser; its weight λ the one
with the best mean of the NegLabel and MCM AUROC at that rate. Then every method trains on all 100 classes, with several
seeds, and is tested. Everything runs through `mmood` as a user would type it; a run that finished is not repeated, so
the script can be stopped and started again.

    MMOOD_REAL_DATA=... python tests/benchmarks/table_alignment.py --work DIR
    MMOOD_REAL_DATA=... python tests/benchmarks/table_alignment.py --work DIR --per_class 50 --every 2    a reduced form
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml

from mmood.cli.main import main as command

HELD_OUT = range(0, 100, 5)
"""Classes that stand for OoD while λ is chosen: every fifth."""
VALIDATION = 20
"""Images of each class (of 200) that validate while λ is chosen, of both kinds of class."""
LAMBDAS = (0.001, 0.01, 0.1)
RATES = (3.0e-5, 1.0e-4)
BATCH = 50
"""Half an image of each class, as 512 of 1,000 classes: the loss takes other images of a class for negatives."""
SEEDS = (0, 1, 2)
SETS = ("near-ood", "far-textures")


def main() -> None:
    """Run what has not run yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for shards, runs and the table")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2], help="numbers of epochs to choose from")
    parser.add_argument("--per_class", type=int, default=200, help="training images of each class")
    parser.add_argument("--every", type=int, default=1, help="every how manieth test image is used")
    options = parser.parse_args()
    real = Path(os.environ["MMOOD_REAL_DATA"])
    os.environ.setdefault("MMOOD_CACHE", str(options.work.resolve() / "cache"))
    experiment = Experiment(options.work.resolve(), real, options.per_class, options.every)
    experiment.prepare()
    rate, epochs, weight = experiment.choose(options.epochs)
    experiment.zero_shot()
    for seed in SEEDS:
        experiment.contrastive("flyp", 0.0, rate, epochs, seed)
        experiment.contrastive("cma", weight, rate, epochs, seed)
    for seed in SEEDS:
        experiment.cross_entropy(rate, epochs, seed)
    print(experiment.table(rate, epochs, weight))


class Experiment:
    """The runs below one folder.

    Args:
        work: where shards and runs go.
        real: the folder that holds the real images and the small CLIP.
        per_class: training images of each class.
        every: every how manieth test image is used.
    """

    def __init__(self, work: Path, real: Path, per_class: int = 200, every: int = 1) -> None:
        self.work = work
        self.real = real
        self.per_class = per_class
        self.every = every
        self.root = work / "data"

    def prepare(self) -> None:
        """Index a copy of the shards and pack the sets on which λ is chosen."""
        if (self.root / "done").exists():
            return
        copy_samples(self.real / "data" / "id-train", self.root / "id-train", lambda number: number < self.per_class)
        for name in ("id-test", "near-ood"):
            copy_samples(self.real / "data" / name, self.root / name, lambda number: number % self.every == 0)
        copy_samples(self.real / "data" / "far-textures", self.root / "far-textures", lambda number: True)
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

    def choose(self, epochs: list[int]) -> tuple[float, int, float]:
        """Return the learning rate, the number of epochs and the λ whose runs are best on the validation sets."""
        accuracy = {
            (rate, number): self._choice(0.0, rate, number)["id"][0]["accuracy"] for rate in RATES for number in epochs
        }
        rate, number = max(accuracy, key=lambda one: accuracy[one])
        auroc = {
            weight: {row["score"]: row["auroc"] for row in self._choice(weight, rate, number)["rows"]}
            for weight in (0.0, *LAMBDAS)
        }
        weight = max(LAMBDAS, key=lambda one: statistics.mean(auroc[one].values()))
        tried = {f"rate {rate}, epochs {number}": value for (rate, number), value in accuracy.items()}
        chosen = {"accuracy": tried, "rate": rate, "epochs": number, "auroc": auroc, "lambda": weight}
        (self.work / "chosen.json").write_text(json.dumps(chosen, indent=1))
        return rate, number, weight

    def _choice(self, weight: float, rate: float, epochs: int) -> dict:
        sets = {"train": "choose-train", "val": {"id": "choose-val", "ood": {"val": ["choose-ood"]}}}
        data = {"root": str(self.root), "class_names": str(self.root / "kept.txt"), **sets}
        run = self._fit(f"choose-{weight}-{rate}-{epochs}", self._contrastive(weight, rate), data, 0, epochs)
        return self._evaluate("validate", run, [])

    def contrastive(self, name: str, weight: float, rate: float, epochs: int, seed: int) -> None:
        """Fine-tune both towers and test."""
        run = self._fit(f"{name}-{seed}", self._contrastive(weight, rate), self._data(), seed, epochs)
        self._evaluate("test", run, [])

    def cross_entropy(self, rate: float, epochs: int, seed: int) -> None:
        """Probe, fine-tune the image tower with a random head (FFT) and with the probed one (LP-FT), and test all."""
        probe = self._fit(f"probe-{seed}", self._probe(), self._data(), seed, epochs=100)
        self._evaluate("test", probe, [])
        for name, start in (("fft", "random"), ("lpft", str(checkpoint(probe)))):
            run = self._fit(f"{name}-{seed}", self._cross_entropy(start, rate), self._data(), seed, epochs)
            self._evaluate("test", run, [])

    def zero_shot(self) -> None:
        """Test the model as it is."""
        run = self.work / "runs" / "zeroshot"
        model = {"class_path": "ZeroShot", "init_args": {**self._encoder(), **PROMPTS, "scores": TEXT_SCORES}}
        config = self._config(run, model, self._data(), 0, 1)
        self._evaluate("test", run, ["--config", str(config)])

    def table(self, rate: float, epochs: int, weight: float) -> str:
        """Return the mean and the spread (standard deviation over seeds) of every method as Markdown."""
        lines = ["| method | score | ID accuracy | set | AUROC | FPR95 (ID+) | FPR95 (OoD+) |", "|" + "---|" * 7]
        for method in ("zeroshot", "flyp", "cma", "probe", "fft", "lpft"):
            runs = [
                json.loads(path.read_text()) for path in sorted(self.work.glob(f"runs/{method}*/test/results.json"))
            ]
            accuracy = spread(run["id"][0]["accuracy"] for run in runs)
            for rows in zip(*(run["rows"] for run in runs), strict=True):
                values = [spread(row[key] for row in rows) for key in ("auroc", "fpr95_id_pos", "fpr95_ood_pos")]
                cells = [method, rows[0]["score"], accuracy, rows[0]["set"], *values]
                lines.append("| " + " | ".join(cells) + " |")
        text = "\n".join([f"λ = {weight}, learning rate {rate}, epochs: {epochs}", "", *lines])
        (self.work / "table.md").write_text(text + "\n")
        return text

    def _split(self, images: Path, kept: list[int]) -> None:
        met: dict[int, int] = {}
        for shard in sorted((self.real / "data" / "id-train").glob("*.tar")):
            for picture, label in labelled(shard):
                number = met[label] = met.get(label, 0) + 1
                held_out, validates = label not in kept, number <= VALIDATION
                if (held_out and not validates) or number > VALIDATION + self.per_class:
                    continue
                place = "choose-ood" if held_out else f"choose-{'val' if validates else 'train'}/{kept.index(label):02}"
                (images / place).mkdir(parents=True, exist_ok=True)
                (images / place / f"{label:02}-{number:03}.jpg").write_bytes(picture)

    def _data(self) -> dict[str, object]:
        sets = {"train": "id-train", "id": "id-test", "ood": {"near": ["near-ood"], "far": ["far-textures"]}}
        return {"root": str(self.root), "class_names": str(self.root / "all.txt"), **sets}

    def _encoder(self) -> dict[str, object]:
        # The pictures are as small as the model's input: any crop would blur them (zero-shot accuracy falls by 4 points).
        return {"encoder": {"name": f"local-dir:{self.real / 'models' / 'miniclip'}", "crop": [1.0, 1.0]}}

    def _contrastive(self, weight: float, rate: float) -> dict[str, object]:
        loss = {"alignment": weight, "loss": {"texts": "distinct"}, **optimiser(rate)}
        return {
            "class_path": "AlignmentFineTune",
            "init_args": {**self._encoder(), **PROMPTS, **loss, "scores": TEXT_SCORES},
        }

    def _cross_entropy(self, start: str, rate: float) -> dict[str, object]:
        head = {"head": {"start": start, "reads": "features"}, "trained": {"towers": "image"}, **optimiser(rate)}
        return {"class_path": "CrossEntropyFineTune", "init_args": {**self._encoder(), **head, "scores": HEAD_SCORES}}

    def _probe(self) -> dict[str, object]:
        return {"class_path": "LinearProbe", "init_args": {**self._encoder(), "scores": HEAD_SCORES}}

    def _fit(self, name: str, model: dict[str, object], data: dict[str, object], seed: int, epochs: int) -> Path:
        run = self.work / "runs" / name
        if not checkpoint(run).exists():
            shutil.rmtree(run, ignore_errors=True)
            config = self._config(run, model, data, seed, epochs)
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
        loader = {"batch_size": BATCH, "loader": {"workers": 0, "seed": seed}}
        config = {"seed_everything": seed, "model": model, "data": {**data, **loader}, "trainer": trainer}
        path = self.work / "configs" / f"{run.name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(config))
        return path


PROMPTS = {"prompts": "The nice {}"}
TEXT_SCORES = {
    "neglabel": {"class_path": "NegLabel", "init_args": {"groups": 1, "temperature": 0.01}},
    "mcm": {"class_path": "MCM", "init_args": {"temperature": 1.0}},
}
HEAD_SCORES = {
    "msp": {"class_path": "MCM", "init_args": {"temperature": 1.0}},
    "energy": {"class_path": "Energy", "init_args": {"temperature": 1.0}},
}


def optimiser(rate: float) -> dict[str, object]:
    """Return optimiser and schedule of all fine-tuning runs, as in the paper but for the rate and the warm-up."""
    return {
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": rate, "weight_decay": 0.1}},
        "schedule": {"class_path": "ShareWarmupCosine", "init_args": {"share": 0.1}},
    }


def copy_samples(source: Path, target: Path, keep: Callable[[int], bool]) -> None:
    """Copy the shards of a set with those samples whose number in their class (or in the set) is to be kept."""
    met: dict[bytes, int] = {}
    target.mkdir(parents=True, exist_ok=True)
    for shard in sorted(source.glob("*.tar")):
        with tarfile.open(shard) as tar, tarfile.open(target / shard.name, "w") as out:
            samples: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {}
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                samples.setdefault(member.name.partition(".")[0], []).append((member, content.read()))
            for members in samples.values():
                label = next((content for member, content in members if member.name.endswith(".cls")), b"")
                number = met[label] = met.get(label, -1) + 1
                for member, content in members if keep(number) else ():
                    out.addfile(member, io.BytesIO(content))


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
    """Run a command in this process."""
    assert command(arguments) == 0, arguments


if __name__ == "__main__":
    main()
