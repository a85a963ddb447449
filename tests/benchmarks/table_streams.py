"""What do scores that learn from the test stream gain here, and on what does it depend? Tables on real images.

Static scores beside AdaNeg, InterNeg, CoEvo, TANL and TINS with the settings of their papers (nothing is chosen on a test set),
near and far, several seeds of the order; then one property of the stream at a time is changed. Everything runs through
`mmood test` as a user would type it; the sets are encoded once; a run that finished is not repeated.

    MMOOD_REAL_DATA=... python tests/benchmarks/table_streams.py --work DIR [--only main batch ...]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from mmood.metrics.functional import OoDMetrics, ood_metrics

SETS = {"near": "near-ood", "far": "far-textures"}
TEXT = {"templates": {"id": ["The nice {}."], "noun": ["The nice {}."], "adjective": ["This is a {} photo."]}}
TEN_THOUSAND = {"count": 10_000, **TEXT}
STATIC = {
    "mcm": {"class_path": "MCM", "init_args": {"temperature": 1.0}},
    "neglabel": {"class_path": "NegLabel", "init_args": {"groups": 5, "mining": TEN_THOUSAND}},
}
# CSP is static too; it stands by itself because its pool, four hundred thousand prompts, takes minutes to encode.
ALONE = {
    "csp": {"class_path": "CSP"},
    "adaneg": {"class_path": "AdaNeg"},
    "tanl": {"class_path": "TANL"},
    "tanl-released": {"class_path": "TANL", "init_args": {"reference_behaviour": True}},
    "coevo": {"class_path": "CoEvo"},
    "interneg": {"class_path": "InterNeg"},
    "tins": {"class_path": "TINS"},
}
STREAMS = ("adaneg", "tanl", "coevo", "interneg", "tins")


@dataclass(frozen=True)
class Setup:
    """One run: which scores see which stream.

    Attributes:
        table: of which table it is a column.
        name: of the column.
        stream: settings that differ from the default.
        scores: that run by themselves.
        groups: of OoD sets.
        arguments: of every score.
    """

    table: str
    name: str
    stream: dict[str, object]
    scores: Sequence[str] = STREAMS
    groups: Sequence[str] = ("near", "far")
    arguments: dict[str, object] | None = None


DEFAULT = Setup("main", "default", {}, tuple(ALONE))


def changed() -> list[Setup]:
    """Return the runs that change one property of the default stream each."""
    found = [Setup("batch", f"batch {size}", {"batch_size": size}) for size in (16, 1)]
    found += [Setup("order", order, {"order": order}) for order in ("id-first", "ood-first")]
    ratios = ((1, 100), (1, 10), (1, 1), (10, 1), (100, 1))
    found += [Setup("ratio", f"{a}:{b}", {"ratio": [a, b]}, groups=("near",)) for a, b in ratios]
    found += [Setup("update", "update after", {}, arguments={"update": "after"})]
    found += [Setup("carry", "carried", {"carry": True})]
    return found


def main() -> None:
    """Run what has not run yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for shards, runs and tables")
    parser.add_argument("--only", nargs="*", help="tables to run: main, batch, order, ratio, update, carry")
    parser.add_argument("--model", default="miniclip", help="folder below models/")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument(
        "--scores", nargs="*", help="of those that run by themselves (csp and the stream scores), which"
    )
    options = parser.parse_args()
    real = Path(os.environ["MMOOD_REAL_DATA"])
    tables = Tables(options.work.resolve(), real, options.model, options.seeds, options.scores)
    tables.prepare()
    chosen = [setup for setup in (DEFAULT, *changed()) if not options.only or setup.table in options.only]
    for setup in chosen:
        tables.run(setup)
    for table in dict.fromkeys(setup.table for setup in chosen):
        own = [setup for setup in changed() if setup.table == table]
        print(tables.table(table, [DEFAULT, *own]), flush=True)


class Tables:
    """The runs below one folder.

    Args:
        work: where shards, runs and tables go.
        real: the folder that holds the real images and the small CLIPs.
        model: the small CLIP.
        seeds: of the streams.
        scores: that run by themselves; None for those of the setup.
    """

    def __init__(self, work: Path, real: Path, model: str, seeds: list[int], scores: list[str] | None) -> None:
        self.work = work
        self.real = real
        self.small_clip = model
        self.seeds = seeds
        self.scores = scores
        self.root = work / "data"
        os.environ.setdefault("MMOOD_CACHE", str(work / "cache"))

    def prepare(self) -> None:
        """Index a copy of the shards."""
        if (self.root / "done").exists():
            return
        names = ("id-train", "id-test", *SETS.values())
        for name in names:
            shutil.copytree(self.real / "data" / name, self.root / name, dirs_exist_ok=True)
        shutil.copy(self.real / "data" / "id-classes.txt", self.root / "classes.txt")
        mmood("pack", "--index", *(str(self.root / name) for name in names))
        (self.root / "done").touch()

    def run(self, setup: Setup) -> None:
        """Run a score at a time, so that a run that is stopped loses little."""
        for score in [None, *self._of(setup)] if setup.table == "main" else self._of(setup):
            folder = self._folder(setup, score)
            if (folder / "results.json").exists():
                continue
            path = self.work / "configs" / f"{folder.parent.name}-{folder.name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(self._config(setup, score), sort_keys=False))
            mmood("test", "--config", str(path), "--run_dir", str(folder))

    def table(self, name: str, columns: list[Setup]) -> str:
        """Return mean ± spread over seeds as Markdown: a line for each score and set, AUROC and both FPR95.

        What has not run (the default stream is that of the table `main`) is left out.
        """
        lines = ["| score | set | stream | AUROC | FPR95 ID-pos | FPR95 OoD-pos | memory |", "|" + "---|" * 7]
        for setup in columns:
            for score in [None, *self._of(setup)] if name == "main" else self._of(setup):
                path = self._folder(setup, score) / "results.json"
                lines += _lines(json.loads(path.read_text()), setup.name) if path.exists() else []
            lines += self._static_lines(setup) if "ratio" in setup.stream else []
        text = "\n".join([f"## {name}", "", *lines, ""])
        (self.work / f"{name}.md").write_text(text)
        return text

    def _static_lines(self, setup: Setup) -> Iterable[str]:
        """Yield a line for each static score on the images that the streams of a ratio have, seed by seed."""
        folder = self._folder(DEFAULT, None) / "scores"
        if not (folder / "id-test.npz").exists():
            return
        for of in (SETS[group] for group in setup.groups):
            streams = self.work.glob(f"runs/{self._folder(setup, None).parent.name}/*/scores/streams/*/{of}.*.npz")
            # One stream of each seed: all scores see the same images.
            seeds = {path.suffixes[-2]: np.load(path) for path in streams}
            sides = [np.load(folder / f"{name}.npz") for name in ("id-test", of)]
            for score in STATIC if seeds else ():
                found = [_on_images(stream, score, *sides) for _, stream in sorted(seeds.items())]
                names = ("auroc", "fpr95_id_pos", "fpr95_ood_pos")
                values = [spread(getattr(metrics, name) for metrics in found) for name in names]
                yield "| " + " | ".join([score, of, setup.name, *values, ""]) + " |"

    def _of(self, setup: Setup) -> list[str]:
        return [score for score in setup.scores if self.scores is None or score in self.scores]

    def _folder(self, setup: Setup, score: str | None) -> Path:
        return (
            self.work / "runs" / f"{setup.table}-{setup.name.replace(':', '-').replace(' ', '-')}" / (score or "static")
        )

    def _config(self, setup: Setup, score: str | None) -> dict[str, object]:
        scores = STATIC
        if score is not None:
            arguments = {**ALONE[score].get("init_args", {}), **(setup.arguments or {})}
            scores = {score: {**ALONE[score], "init_args": arguments}}
        model = {"encoder": {"name": f"local-dir:{self.real / 'models' / self.small_clip}"}, "prompts": "The nice {}."}
        sets = {"train": "id-train", "id": "id-test", "ood": {group: [SETS[group]] for group in setup.groups}}
        return {
            "model": {"class_path": "ZeroShot", "init_args": {**model, "scores": scores}},
            "data": {
                **{"root": str(self.root), "class_names": str(self.root / "classes.txt"), **sets},
                "loader": {"workers": 0},
            },
            "evaluation": {"stream": {**setup.stream, "seeds": self.seeds}, "show": False},
            "trainer": {"accelerator": "auto", "devices": 1},
        }


def _lines(results: dict, stream: str) -> Iterable[str]:
    rows: dict[tuple[str, str], list[dict]] = {}
    for row in results["rows"]:
        rows.setdefault((row["score"], row["set"]), []).append(row)
    for (score, of), own in rows.items():
        values = [spread(row[key] for row in own) for key in ("auroc", "fpr95_id_pos", "fpr95_ood_pos")]
        yield "| " + " | ".join([score, of, stream, *values, _memory(results, score, of)]) + " |"


def _on_images(stream: Mapping, score: str, id_: Mapping, ood: Mapping) -> OoDMetrics:
    """Return the metrics of a static score on the images of a stream."""
    is_ood = stream["label"] < 0
    parts = []
    for side, inside in ((id_, ~is_ood), (ood, is_ood)):
        place = {key: number for number, key in enumerate(side["key"].tolist())}
        parts.append(side[score][[place[key] for key in stream["key"][inside].tolist()]])
    return ood_metrics(*parts)


def _memory(results: dict, score: str, of: str) -> str:
    runs = [
        run
        for run in results["provenance"].get("streams", {}).get("runs", [])
        if (run["score"], run["set"]) == (score, of)
    ]
    sides = []
    for side in ("id", "ood"):
        kept = [run["purity"][side]["kept"] for run in runs]
        pure = [run["purity"][side]["pure"] for run in runs if run["purity"][side]["pure"] is not None]
        if pure:
            sides.append(f"{statistics.mean(kept):,.0f} as {side}, {100 * statistics.mean(pure):.1f} % true")
    return "; ".join(sides)


def spread(values: Iterable[float]) -> str:
    """Return mean ± sample standard deviation, in per cent."""
    found = [100 * value for value in values]
    deviation = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.2f}{deviation}"


def mmood(*arguments: str) -> None:
    """Run a command; its progress goes to this screen."""
    subprocess.run([sys.executable, "-m", "mmood", *arguments], check=True)


if __name__ == "__main__":
    main()
