"""What are names out of WordNet worth as outliers? EOE and MM-OOD's form beside MCM and NegLabel, near and far.

ID are 100 classes of Tiny ImageNet, near OoD its other 100 classes, far OoD 300 textures. The names know nothing of the
test images. Three lists are drawn with three seeds, and each score has a row: mean and sample standard deviation.

    python tests/benchmarks/table_names.py --root DATA --models local-dir:MODELS/liteclip ... --work DIR

DATA is a writable copy of the real sets, indexed by `mmood pack --index`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path

import yaml

from mmood.cli.main import main as mmood

SEEDS = (0, 1, 2)
KINDS = {"eoe, near names": "near", "eoe, far names": "far", "eoe, both (mm-ood's form)": "both"}
GROUPS = {"near": "near-ood", "far": "far-textures"}


def main() -> None:
    """Propose, test every model once, and print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of the indexed sets")
    parser.add_argument("--models", nargs="+", required=True, help="names of encoders")
    parser.add_argument("--work", type=Path, required=True, help="folder for names, features and runs")
    options = parser.parse_args()
    os.environ.setdefault("MMOOD_CACHE", str(options.work / "cache"))
    scores = _scores(options.root / "id-classes.txt", options.work)
    for model in options.models:
        run = options.work / model.rpartition("/")[2]
        if not (run / "results.json").exists():
            _test(model, options.root, scores, run)
        print(table(model, run))


def _scores(classes: Path, work: Path) -> dict[str, object]:
    """Return the scores of a run; their names files are made where they are missing."""
    scores: dict[str, object] = {"mcm": {"class_path": "MCM"}, "neglabel": {"class_path": "NegLabel"}}
    for title, kind in KINDS.items():
        for seed in SEEDS:
            names = work / f"names-{kind}-{seed}.json"
            if not names.exists():
                asked = ["--class_names", str(classes), "--method", "wordnet", "--kind", kind, "--seed", str(seed)]
                assert mmood(["propose", *asked, "--out", str(names)]) == 0
            scores[_key(title, seed)] = {"class_path": "EOE", "init_args": {"outliers": str(names)}}
            if kind == "both":
                settings = {"negatives": str(names), "groups": 1}
                scores[_key("neglabel", seed)] = {"class_path": "NegLabel", "init_args": settings}
    return scores


def _test(model: str, root: Path, scores: dict[str, object], run: Path) -> None:
    base = run.parent / f"{run.name}.yaml"
    base.write_text(
        yaml.safe_dump(
            {
                "model": {
                    "class_path": "ZeroShot",
                    "init_args": {"encoder": {"name": model}, "prompts": "a photo of a {}", "scores": scores},
                },
                "data": {
                    "root": str(root),
                    "id": "id-test",
                    "ood": {group: [name] for group, name in GROUPS.items()},
                    "class_names": str(root / "id-classes.txt"),
                    "loader": {"workers": 0},
                },
                "trainer": {"accelerator": "cpu", "enable_progress_bar": False},
            },
            sort_keys=False,
        )
    )
    assert mmood(["embed", "--config", str(base), "--quiet"]) == 0
    assert mmood(["test", "--config", str(base), "--run_dir", str(run)]) == 0


def table(model: str, run: Path) -> str:
    """Return the rows of a run as Markdown."""
    rows = json.loads((run / "results.json").read_text())["rows"]
    found = {(row["score"], row["group"]): row for row in rows}
    lines = [
        f"{model}, per cent:",
        "",
        "| score | near AUROC | FPR95 ID-pos | far AUROC | FPR95 ID-pos |",
        "|---|---|---|---|---|",
    ]
    titles = {"mcm": ["mcm"], "neglabel, mined": ["neglabel"]}
    titles |= {title: [_key(title, seed) for seed in SEEDS] for title in KINDS}
    titles |= {"neglabel, both": [_key("neglabel", seed) for seed in SEEDS]}
    for title, keys in titles.items():
        cells = [
            _cell([100 * found[key, group][metric] for key in keys])
            for group in GROUPS
            for metric in ("auroc", "fpr95_id_pos")
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _cell(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _key(title: str, seed: int) -> str:
    return f"{''.join(c if c.isalnum() else '_' for c in title)}_{seed}"


if __name__ == "__main__":
    main()
