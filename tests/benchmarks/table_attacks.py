"""What do attacks leave of detectors on real images? Six detectors on two small towers, with transfer between them.

MCM, NegLabel, 1-NN and relative Mahalanobis on the tower as it is, a linear probe, and NegLabel after a short alignment
tuning (CMA); APGD with L-infinity radii of 1/255 to 8/255, and PLP's manipulation, smooth and patchy; and the images that were attacked for MCM under a smoothed MCM. OoD images are attacked to look ID;
half of the ID test images set the threshold. Everything runs through `mmood` as a user would type it. What is done is not done
again, and `--piece` does one part, so the script can be stopped and started again.

    MMOOD_REAL_DATA=... python tests/benchmarks/table_attacks.py --work DIR
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import yaml
from table_alignment import copy_samples

from mmood.results.attack import AttackRow, read_attack

TOWERS = {"miniclip": (50, 50), "liteclip": (16, 8)}
"""Tower -> attacked images of each OoD set by APGD, and by the manipulation, whose 250 steps cost more."""
STEPS = 10
TUNING = 60
"""Optimiser steps of the alignment tuning."""
EPS = ("1/255", "2/255", "4/255", "8/255")
STATIC = {
    "mcm": {"class_path": "MCM"},
    "neglabel": {"class_path": "NegLabel"},
    "knn": {"class_path": "KNN"},
    "rmd": {"class_path": "RelativeMahalanobis"},
}
KINDS = ("static", "probe", "cma", "manipulation", "patchy", "smoothed")
SMOOTHNESS = {"manipulation": "5000", "patchy": "0"}
"""Of the manipulation: the paper's two values."""
SMOOTHING = "{copies: 32, noise: 0.06, radii: []}"


def main() -> None:
    """Run what has not run yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and tables")
    parser.add_argument("--data", type=Path, help="indexed sets, where those of MMOOD_REAL_DATA are not")
    parser.add_argument("--piece", nargs=2, metavar=("TOWER", "KIND"), help=f"one part: a tower and {', '.join(KINDS)}")
    options = parser.parse_args()
    real = Path(os.environ["MMOOD_REAL_DATA"])
    experiment = Experiment(options.work.resolve(), real / "models", options.data or real / "data")
    pieces = [options.piece] if options.piece else [[tower, kind] for tower in TOWERS for kind in KINDS]
    for tower, kind in pieces:
        experiment.attack(tower, kind)
    print(experiment.tables())


class Experiment:
    """The runs below one folder.

    Args:
        work: where they go.
        models: folder of the towers.
        data: folder of the sets.
    """

    def __init__(self, work: Path, models: Path, data: Path) -> None:
        self.work, self.models, self.data = work, models, data

    def attack(self, tower: str, kind: str) -> None:
        """Attack the detectors of a kind on a tower."""
        if kind == "smoothed":
            self._smooth(tower)
            return
        run = self.work / tower / kind
        if (run / "attack.json").exists():
            return
        self._embed(tower)
        images, manipulated = TOWERS[tower]
        led = ["--attack", "manipulation", "--limit", str(manipulated)]
        bounded = ["--attack", "apgd", "--steps", str(STEPS), "--eps", *EPS, "--limit", str(images)]
        flags = {
            "static": [*bounded, "--transfer_to", *(str(self._static(each)) for each in TOWERS if each != tower)],
            "probe": bounded,
            "cma": bounded,
            **{kind: [*led, "--smoothness", smoothness] for kind, smoothness in SMOOTHNESS.items()},
        }[kind]
        source: dict[str, Callable[[], list[str]]] = {
            "probe": lambda: ["--ckpt_path", str(self._probe(tower))],
            "cma": lambda: ["--ckpt_path", str(self._aligned(tower))],
        }
        named = source.get(kind, lambda: ["--config", str(self._static(tower))])()
        mmood("attack", *named, *flags, "--run_dir", str(run))

    def tables(self) -> str:
        """Return the means over the OoD sets of what has run so far, as Markdown."""
        lines = []
        for tower in TOWERS:
            lines += ["", f"{tower}, APGD of {STEPS} steps", "", "| score | images for | clean |" + _joined(EPS)]
            lines.append("|" + "---|" * (3 + len(EPS)))
            for kind in ("static", "probe", "cma"):
                lines += self._bounded(tower, kind)
            heads = [f"smoothness {smoothness}" for smoothness in SMOOTHNESS.values()]
            lines += ["", f"{tower}, manipulation", "", f"| score | clean | {_joined(heads)}", "|" + "---|" * 4]
            lines += self._manipulated(tower)
            lines += ["", f"{tower}, images attacked for MCM", "", f"| MCM | {_joined(EPS)}", "|" + "---|" * 5]
            lines += self._smoothed(tower)
        text = "\n".join(["AUROC / OoD accepted at the clean threshold, per cent.", *lines])
        (self.work / "table.md").write_text(text + "\n")
        return text

    def _smooth(self, tower: str) -> None:
        """Test MCM, smoothed and as it is, on what was attacked without knowing of the smoothing."""
        attacked = self.work / tower / "static" / "attacked" / "mcm"
        for eps in EPS:
            run, sets = (
                self.work / tower / f"smoothed-{eps.replace('/', 'of')}",
                attacked / f"linf-{eps.replace('/', 'of')}",
            )
            if not (run / "results.json").exists():
                ood = f"{{near: [{sets / 'near-ood'}], far: [{sets / 'far-textures'}]}}"
                data = ["--data.id", str(self._few()), "--data.ood", ood]
                model = ["--model.scores", "{mcm: MCM}", "--evaluation.smoothing", SMOOTHING]
                mmood("test", "--config", str(self._static(tower)), *data, *model, "--run_dir", str(run))

    def _few(self) -> Path:
        """Return a set of every 25th ID test image: each is encoded many times."""
        folder = self.work / "data" / "few-id-test"
        if not (folder / "index.json").exists():
            copy_samples(self._root() / "id-test", folder, lambda number: number % 25 == 0)
            mmood("pack", "--index", str(folder), "--classes", str(self.data / "id-classes.txt"))
        return folder

    def _smoothed(self, tower: str) -> list[str]:
        """Return the AUROC of MCM as it is and smoothed, one row each."""
        found = []
        for eps in EPS:
            path = self.work / tower / f"smoothed-{eps.replace('/', 'of')}" / "results.json"
            found.append(json.loads(path.read_text())["rows"] if path.exists() else [])
        return [
            f"| {name} | "
            + _joined(
                [
                    f"{100 * fmean(row['auroc'] for row in rows if bool(row['variant']) is smoothed):.1f}"
                    if rows
                    else ""
                    for rows in found
                ]
            )
            for name, smoothed in (("as it is", False), ("smoothed", True))
        ]

    def _bounded(self, tower: str, kind: str) -> list[str]:
        found = self._rows(tower, kind)
        lines = []
        for detector, score, attacked in dict.fromkeys((row.detector, row.score, row.attacked) for row in found):
            if attacked is None:
                continue
            clean = [row for row in found if (row.detector, row.score, row.side) == (detector, score, "clean")]
            made = [row for row in found if (row.detector, row.score, row.attacked) == (detector, score, attacked)]
            cells = [_cell(clean), *(_cell([row for row in made if row.eps == eps]) for eps in EPS)]
            name = f"{score} ({kind})" if kind != "static" else score
            lines.append(f"| {name}{f', {detector}' if detector else ''} | {attacked} | {_joined(cells)}")
        return lines

    def _manipulated(self, tower: str) -> list[str]:
        found = {kind: self._rows(tower, kind) for kind in SMOOTHNESS}
        lines = []
        for score in dict.fromkeys(row.score for rows in found.values() for row in rows):
            of = [[row for row in rows if row.score == score] for rows in found.values()]
            clean = [row for row in of[0] if row.side == "clean"]
            cells = [_cell(clean), *(_cell([row for row in rows if row.side != "clean"]) for rows in of)]
            lines.append(f"| {score} | {_joined(cells)}")
        return lines

    def _rows(self, tower: str, kind: str) -> tuple[AttackRow, ...]:
        run = self.work / tower / kind
        return read_attack(run).rows if (run / "attack.json").exists() else ()

    def _embed(self, tower: str) -> None:
        done = self.work / "embedded" / tower
        if not done.exists():
            mmood("embed", "--config", str(self._static(tower)), "--sets", "id-train")
            done.parent.mkdir(exist_ok=True)
            done.touch()

    def _static(self, tower: str) -> Path:
        model = {"class_path": "ZeroShot", "init_args": {**self._encoder(tower), "scores": STATIC}}
        return self._config(f"{tower}-static", model, {})

    def _probe(self, tower: str) -> Path:
        scores = {"msp": {"class_path": "MCM"}}
        model = {"class_path": "LinearProbe", "init_args": {**self._encoder(tower), "scores": scores}}
        return self._trained(f"{tower}-probe", model, {"max_epochs": 100})

    def _aligned(self, tower: str) -> Path:
        scores = {"neglabel": {"class_path": "NegLabel", "init_args": {"groups": 1}}}
        loss = {"alignment": 0.01, "loss": {"texts": "distinct"}}
        optimiser = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-4, "weight_decay": 0.1}}
        settings = {**self._encoder(tower), **loss, "optimizer": optimiser, "scores": scores}
        schedule = {"class_path": "ShareWarmupCosine", "init_args": {"share": 0.1}}
        model = {"class_path": "AlignmentFineTune", "init_args": {**settings, "schedule": schedule}}
        return self._trained(f"{tower}-cma", model, {"max_steps": TUNING, "max_epochs": -1})

    def _encoder(self, tower: str) -> dict[str, object]:
        return {"encoder": {"name": f"local-dir:{self.models / tower}", "crop": [1.0, 1.0]}}

    def _root(self) -> Path:
        """Return a root with the OoD sets, 5,000 ID training and 2,500 ID test images: the first shards, shuffled."""
        root = self.work / "data"
        for name, shards in (("id-train", 2), ("id-test", 1), ("near-ood", None), ("far-textures", None)):
            folder = root / name
            if (folder / "index.json").exists():
                continue
            folder.mkdir(parents=True, exist_ok=True)
            for shard in sorted((self.data / name).glob("*.tar"))[:shards]:
                (folder / shard.name).symlink_to(shard.resolve())
            named = ["--classes", str(self.data / "id-classes.txt")] if name.startswith("id") else []
            mmood("pack", "--index", str(folder), *named)
        return root

    def _trained(self, name: str, model: dict[str, object], trainer: dict[str, object]) -> Path:
        run = self.work / "trained" / name
        checkpoint = run / "checkpoints" / "last.ckpt"
        if not checkpoint.exists():
            mmood("fit", "--config", str(self._config(name, model, trainer)), "--run_dir", str(run))
        return checkpoint

    def _config(self, name: str, model: dict[str, object], trainer: dict[str, object]) -> Path:
        sets = {"train": "id-train", "id": "id-test", "ood": {"near": ["near-ood"], "far": ["far-textures"]}}
        classes = str(self.data / "id-classes.txt")
        data = {"root": str(self._root()), **sets, "class_names": classes, "batch_size": 50, "loader": {"workers": 0}}
        config = {"model": model, "data": data, "trainer": {"accelerator": "cpu", "devices": 1, **trainer}}
        path = self.work / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(config))
        return path


def _cell(rows: list[AttackRow]) -> str:
    if not rows:
        return ""
    return f"{100 * fmean(row.auroc for row in rows):.1f} / {100 * fmean(row.ood_accepted for row in rows):.0f}"


def _joined(cells: list[str] | tuple[str, ...]) -> str:
    return f"{' | '.join(cells)} |"


def mmood(*arguments: str) -> None:
    """Run a command; its progress goes to this screen."""
    subprocess.run([sys.executable, "-m", "mmood", *arguments], check=True)


if __name__ == "__main__":
    main()
