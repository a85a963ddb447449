"""What do corruptions and smoothing do to five scores? Severities, rows `id+csid`, and certificates, on real images.

The ID images alone are corrupted, as in the full spectrum; the OoD images stay clean. Then the clean and the corrupted
images are pooled (`id+csid`), and two of the scores are smoothed and certified on fewer images. Everything runs through
`mmood test`, as a user would type it; a run that finished is not repeated, so the script can be stopped and started again.

    python tests/benchmarks/table_shift.py --root DATA --model local-dir:MODELS/liteclip --work DIR [--minutes 7]

DATA is the real sets, indexed by `mmood pack --index`. The tables are printed once all runs are there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from table_alignment import copy_samples

from mmood.cli.main import main as mmood

CORRUPTIONS = ("gaussian_noise", "motion_blur", "fog", "jpeg_compression")
SEVERITIES = (1, 2, 3, 4, 5)
SCORES = {
    "mcm": {"class_path": "MCM"},
    "energy": {"class_path": "Energy"},
    "entropy": {"class_path": "Entropy"},
    "gen": {"class_path": "GEN"},
    "margin": {"class_path": "Margin"},
}
SMOOTHED = ("mcm", "energy")
NOISES = (0.03, 0.12)
RADII = (0.25, 0.5, 1.0)
"""In units of the noise: with 60 copies and alpha 0.001, no bound is finite beyond 1.2."""
SETS = ("near-ood", "far-textures")


def main() -> None:
    """Run what has not run yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of the indexed sets")
    parser.add_argument("--model", required=True, help="name of the encoder")
    parser.add_argument("--work", type=Path, required=True, help="folder for shards, features and runs")
    parser.add_argument("--every", type=int, default=5, help="every how manieth ID and near image is used")
    parser.add_argument("--corruptions", nargs="+", default=CORRUPTIONS, help="which of ImageNet-C's")
    parser.add_argument("--noises", nargs="+", type=float, default=NOISES, help="of smoothed scores")
    parser.add_argument("--copies", type=int, default=60, help="noisy copies of an image")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no run after this time")
    experiment = Experiment(parser.parse_args())
    if experiment.ran_all():
        print(experiment.tables())


class Experiment:
    """The runs of the tables.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.work: Path = options.work.resolve()
        self.real: Path = options.root.resolve()
        self.options = options
        self.root = self.work / "data"
        os.environ.setdefault("MMOOD_CACHE", str(self.work / "cache"))

    def ran_all(self) -> bool:
        """Do the runs that are missing, and return whether none is left."""
        self._prepare()
        end = time.monotonic() + 60 * self.options.minutes
        for name, settings in self._runs():
            if (self.work / "runs" / name / "results.json").exists():
                continue
            if time.monotonic() > end:
                return False
            self._test(name, settings)
        return True

    def tables(self) -> str:
        """Return the tables as Markdown."""
        parts = [self._severities(corruption) for corruption in self.options.corruptions]
        return "\n\n".join([*parts, self._pooled(), *(self._certified(noise) for noise in self.options.noises)])

    def _prepare(self) -> None:
        if (self.root / "done").exists():
            return
        for folder, every in (("id-test", self.options.every), ("near-ood", self.options.every)):
            copy_samples(self.real / folder, self.root / folder, lambda number, every=every: number % every == 0)
            copy_samples(self.real / folder, self.root / f"few-{folder}", lambda number: number % 50 == 0)
        (self.root / "far-textures").symlink_to(self.real / "far-textures")
        names = ("id-test", "near-ood", "few-id-test", "few-near-ood")
        assert mmood(["pack", "--index", *(str(self.root / name) for name in names)]) == 0
        for name in ("id-test", "near-ood", "far-textures"):
            assert mmood(["embed", "--config", str(self._config(SCORES)), "--sets", name, "--quiet"]) == 0
        (self.root / "done").touch()

    def _runs(self) -> Iterator[tuple[str, list[str]]]:
        yield "clean", []
        for corruption in self.options.corruptions:
            for severity in SEVERITIES:
                settings = f"{{name: {corruption}, severity: {severity}, groups: [id]}}"
                yield f"{corruption}-{severity}", ["--data.corruption", settings]
        corrupted = ["--data.corruption", "{name: fog, severity: 3, groups: [csid]}"]
        yield "pooled", ["--data.csid", f"[foggy={self.root / 'id-test'}]", *corrupted]
        for noise in self.options.noises:
            radii = [round(noise * share, 4) for share in RADII]
            settings = f"{{copies: {self.options.copies}, noise: {noise}, radii: {radii}}}"
            few = ["--data.id", "few-id-test", "--data.ood", "{near: [few-near-ood]}"]
            yield f"smoothed-{noise}", [*few, "--evaluation.smoothing", settings]

    def _test(self, name: str, settings: list[str]) -> None:
        scores = {of: SCORES[of] for of in SMOOTHED} if name.startswith("smoothed") else SCORES
        run = self.work / "runs" / name
        assert mmood(["test", "--config", str(self._config(scores)), "--run_dir", str(run), *settings]) == 0

    def _config(self, scores: dict[str, dict]) -> Path:
        init = {"encoder": {"name": self.options.model}, "prompts": "a photo of a {}", "scores": scores}
        path = self.work / f"{'-'.join(scores)}.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "model": {"class_path": "ZeroShot", "init_args": init},
                    "data": {
                        "root": str(self.root),
                        "id": "id-test",
                        "ood": {"near": ["near-ood"], "far": ["far-textures"]},
                        "class_names": str(self.real / "id-classes.txt"),
                        "batch_size": 100,
                        "loader": {"workers": 0},
                    },
                    "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
                },
                sort_keys=False,
            )
        )
        return path

    def _severities(self, corruption: str) -> str:
        runs = ["clean", *(f"{corruption}-{severity}" for severity in SEVERITIES)]
        lines = [
            f"| {corruption}, AUROC near / far | clean | {' | '.join(map(str, SEVERITIES))} |",
            "|:--|" + "--:|" * 6,
        ]
        lines += [f"| {score} | {' | '.join(self._cell(run, score) for run in runs)} |" for score in SCORES]
        return "\n".join([*lines, f"| ID accuracy | {' | '.join(self._accuracy(run) for run in runs)} |"])

    def _pooled(self) -> str:
        lines = ["| fog 3, AUROC near / far | id | id+csid |", "|:--|--:|--:|"]
        variant = "fog 3 of csid"
        for score in SCORES:
            cells = [self._cell("pooled", score, of) for of in (variant, f"{variant}, id+csid")]
            lines.append(f"| {score} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def _certified(self, noise: float) -> str:
        rows = self._results(f"smoothed-{noise}")["rows"]
        variants = list(dict.fromkeys(row["variant"] for row in rows))
        heads = ["plain" if variant is None else variant for variant in variants]
        lines = [f"| AUROC near | {' | '.join(heads)} |", "|:--|" + "--:|" * len(heads)]
        for score in SMOOTHED:
            cells = [f"{100 * row['auroc']:.2f}" for row in rows if row["score"] == score]
            lines.append(f"| {score} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def _cell(self, run: str, score: str, variant: str | None = None) -> str:
        rows = [row for row in self._results(run)["rows"] if row["score"] == score]
        own = [row for row in rows if variant is None or row["variant"] == variant]
        return " / ".join(f"{100 * row['auroc']:.1f}" for of in SETS for row in own if row["set"] == of)

    def _accuracy(self, run: str) -> str:
        return f"{100 * self._results(run)['id'][0]['accuracy']:.1f}"

    def _results(self, run: str) -> dict:
        return json.loads((self.work / "runs" / run / "results.json").read_text())


if __name__ == "__main__":
    main()
