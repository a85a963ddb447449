"""Do local adversarial attacks help an observer here? Scores of pixels on CamVid with two classes held out as OoD.

A SegNet learns nine classes; pedestrians and bicyclists are never trained on. Then observers learn where it is wrong, with
local attacks and without, several seeds of each, and everything is tested. Patches of a small CLIP are tested too, where
there is one. Everything runs through `mmood` as a user would type it, several runs at a time; a run that finished is not
repeated, so the script can be stopped and started again.

    MMOOD_REAL_DATA=... python tests/benchmarks/table_dense.py --work DIR [--page docs/dense_results.md]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SETS = ("camvid-train", "camvid-val", "camvid-test")
SEEDS = (0, 1, 2)
VARIANTS = {
    "attacks": [],
    "no-attacks": ["--model.attack.step", "0", "--model.attack.noise", "0"],
}
STATIC = ("msp", "max_logit", "energy", "entropy", "standardised_max_logit")
COLUMNS = (("auroc", "AUROC"), ("aupr_ood", "AP"), ("fpr95_ood_pos", "FPR95 OoD-pos"), ("fpr95_id_pos", "FPR95 ID-pos"))


def main() -> None:
    """Run what has not run yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for shards and runs")
    parser.add_argument("--page", type=Path, help="file that gets the table")
    parser.add_argument("--size", default="[180, 240]", help="height and width of the input")
    parser.add_argument("--epochs", type=int, default=120, help="of the segmenter")
    parser.add_argument("--observer_epochs", type=int, default=51)
    parser.add_argument("--width", type=float, default=1.0, help="of SegNet")
    parser.add_argument("--precision", default="32-true", help="of training")
    parser.add_argument("--only", choices=("segmenter", *(f"seed-{seed}" for seed in SEEDS), "clip"), help="one step")
    parser.add_argument("--at_a_time", type=int, default=1, help="observers that train at the same time")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--clip", action="store_true", help="also test the patches of the small CLIPs")
    options = parser.parse_args()
    experiment = Experiment(options)
    if options.only in (None, "segmenter"):
        experiment.segmenter()
    experiment.observers([seed for seed in SEEDS if options.only in (None, f"seed-{seed}")])
    if options.clip or options.only == "clip":
        experiment.clip()
    if not experiment.complete():
        return
    page = experiment.page()
    print(page)
    if options.page:
        options.page.write_text(page)


class Experiment:
    """The runs below one folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.real = Path(os.environ["MMOOD_REAL_DATA"])
        self.work: Path = options.work.resolve()
        self.root = self.work / "data"
        self.shared = [
            *("--data.root", str(self.root), "--data.image_size", options.size),
            *("--data.loader.workers", str(options.workers), "--trainer.enable_progress_bar", "false"),
        ]
        for name in SETS:
            if not (self.root / name / "index.json").exists():
                shutil.copytree(self.real / "data" / name, self.root / name, dirs_exist_ok=True)
            if not (self.root / name / "index.json").exists():
                self._mmood(["pack", "--index", str(self.root / name), "--quiet"], self.work / f"{name}.log")

    def segmenter(self) -> None:
        """Train the segmenter, or go on with it, and test it."""
        begun, epochs = Path(self._checkpoint("segmenter")), ["--trainer.max_epochs", str(self.options.epochs)]
        new = ["--config", "camvid_segnet.yaml", *self._training()]
        self._run("segmenter", ["fit", *(["--ckpt_path", str(begun)] if begun.exists() else new), *epochs])
        self._test("segmenter")

    def observers(self, seeds: Sequence[int]) -> None:
        """Train the observers of these seeds and test them."""
        epochs = self.options.observer_epochs

        def run(variant: str, seed: int) -> None:
            name = f"observer-{variant}-{seed}"
            fit = ["fit", "--config", "camvid_obsnet.yaml", *self._training(), *VARIANTS[variant]]
            fit += ["--model.segmenter", self._checkpoint("segmenter"), "--seed_everything", str(seed)]
            watched = ["--trainer.check_val_every_n_epoch", str(max(1, epochs // 10))]
            self._run(name, [*fit, "--trainer.max_epochs", str(epochs), *watched])
            self._test(name)

        with ThreadPoolExecutor(self.options.at_a_time) as pool:
            list(pool.map(lambda one: run(*one), [(variant, seed) for seed in seeds for variant in VARIANTS]))

    def clip(self) -> None:
        """Test the patches of the small CLIPs."""
        for model in ("liteclip", "miniclip"):
            encoder = ["--model.encoder.name", f"local-dir:{self.real / 'models' / model}"]
            self._run(f"clip-{model}", ["test", "--config", "camvid_clip.yaml", *self.shared, *encoder])

    def complete(self) -> bool:
        """Return whether the segmenter and every observer were tested."""
        runs = ["segmenter", *(f"observer-{variant}-{seed}" for variant in VARIANTS for seed in SEEDS)]
        return all((self.work / f"{run}-test/done").exists() for run in runs)

    def page(self) -> str:
        """Return the table as Markdown."""
        lines = [
            "| score | " + " | ".join(f"{kind}: {head}" for kind in ("pixels", "errors") for _, head in COLUMNS) + " |",
            "|---|" + "--:|" * (2 * len(COLUMNS)),
        ]
        lines += [self._line(f"segmenter, `{score}`", ["segmenter"], score) for score in STATIC]
        for variant, meaning in (("attacks", "with local attacks"), ("no-attacks", "without attacks")):
            runs = [f"observer-{variant}-{seed}" for seed in SEEDS]
            lines.append(self._line(f"observer {meaning}", runs, "observer"))
        for run in sorted(path.name for path in self.work.glob("clip-*") if path.is_dir()):
            scores = dict.fromkeys(row["score"] for row in self._rows(run))
            lines += [
                self._line(f"patches of {run.removeprefix('clip-')}, `{score}`", [run], score) for score in scores
            ]
        details = json.loads((self.work / "segmenter-test/dense.json").read_text())["sets"]["camvid-test"]
        accuracy = json.loads((self.work / "segmenter-test/results.json").read_text())["id"][0]["accuracy"]
        said = f"SegNet: {100 * accuracy:.2f} % of the ID pixels right, mean IoU {100 * details['mean_iou']:.2f} %."
        return "\n".join([said, "", *lines]) + "\n"

    def _line(self, name: str, runs: list[str], score: str) -> str:
        cells = []
        for kind in ("pixels", "errors"):
            for key, _ in COLUMNS:
                values = [100 * row[key] for run in runs for row in self._rows(run) if _is(row, score, kind)]
                spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.2f}{spread}")
        return f"| {name} | " + " | ".join(cells) + " |"

    def _rows(self, run: str) -> list[dict[str, object]]:
        folder = self.work / f"{run}-test" if (self.work / f"{run}-test").exists() else self.work / run
        return json.loads((folder / "results.json").read_text())["rows"]

    def _training(self) -> list[str]:
        width, precision = str(self.options.width), self.options.precision
        return [*self.shared, "--model.network.width", width, "--trainer.precision", precision]

    def _checkpoint(self, run: str) -> str:
        return str(self.work / run / "checkpoints/last.ckpt")

    def _test(self, run: str) -> None:
        maps = ["--evaluation.save_maps", "6"] if run.endswith(("segmenter", "0")) else []
        self._run(f"{run}-test", ["test", "--ckpt_path", self._checkpoint(run), *self.shared, *maps])

    def _run(self, name: str, arguments: list[str]) -> None:
        folder = self.work / name
        if (folder / "done").exists():
            return
        started = time.perf_counter()
        self._mmood([*arguments, "--run_dir", str(folder), "--overwrite", "true"], self.work / f"{name}.log")
        (folder / "done").touch()
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)

    def _mmood(self, arguments: list[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            code = subprocess.run(
                [sys.executable, "-m", "mmood", *arguments], stdout=output, stderr=subprocess.STDOUT, check=False
            ).returncode
        if code:
            raise SystemExit(f"`mmood {' '.join(arguments)}` ended with {code}:\n{log.read_text()[-2000:]}")


def _is(row: dict[str, object], score: str, kind: str) -> bool:
    return row["score"] == score and str(row["set"]).endswith(f": {kind}")


if __name__ == "__main__":
    main()
