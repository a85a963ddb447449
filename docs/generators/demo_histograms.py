"""Writes `demo_histograms.json`, the pictures of the methods pages, from tests on the demo world.

`make method-pictures` runs `mmood demo` first; by itself: `python docs/generators/demo_histograms.py demo-world`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mmood import ood_metrics
from mmood.cli.main import main
from mmood.report.curves import histograms

OUT = Path(__file__).parent / "demo_histograms.json"
_WORDS: dict[str, Any] = {
    "groups": 1,
    "temperature": 0.05,
    "mining": {"templates": {"id": ["a photo of a {}"], "noun": ["a photo of a {}"]}},
}
_ZERO_SHOT: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("MCM", "MaxLogit", "Entropy", "SoftmaxVariance", "GEN", "Margin", "L1Norm", "KLMatching")},
    **{name: {} for name in ("GLMCM", "LMCM", "MMP", "KNN", "NNGuide", "Mahalanobis", "RelativeMahalanobis", "SHE")},
    "Energy": {"temperature": 0.05},
    "NegLabel": _WORDS,
    "CSP": _WORDS,
    "EOE": {"outliers": "demo-wordnet"},
}
_OF_HEAD: dict[str, dict[str, Any]] = {name: {} for name in ("ReAct", "ASH", "SCALE", "ViM", "Residual")}
"""Scores of a trained head on the features, tested with the demo's linear probe."""


def write(world: Path) -> None:
    """Test every score above on a demo world, and keep the histograms."""
    scores = {name: {"class_path": name, "init_args": dict(settings)} for name, settings in _ZERO_SHOT.items()}
    for name in ("NegLabel", "CSP"):
        scores[name]["init_args"]["negatives"] = f"{world}/data/words.txt"
    of_head = {name: {"class_path": name, "init_args": settings} for name, settings in _OF_HEAD.items()}
    found = _tested(world, "zero-shot", ["--config", "demo_zeroshot.yaml", *_places(world)], scores)
    checkpoint = f"{world}/runs/linear-fit/checkpoints/last.ckpt"
    found |= _tested(world, "head", ["--ckpt_path", checkpoint], of_head)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found))
    OUT.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def _places(world: Path) -> list[str]:
    data = ["--data.root", f"{world}/data", "--data.class_names", f"{world}/data/classes.txt"]
    return [*data, "--model.encoder.name", f"local-dir:{world}/clip"]


def _tested(world: Path, name: str, flags: list[str], scores: dict[str, Any]) -> dict[str, Any]:
    run = world / "runs" / f"pictures-{name}"
    given = ["--model.scores", yaml.safe_dump(scores, default_flow_style=True, width=10**9).strip()]
    if code := main(["test", *flags, *given, "--run_dir", str(run), "--overwrite", "true"]):
        raise SystemExit(code)
    arrays = {group: dict(np.load(run / "scores" / f"demo-{group}.npz")) for group in ("test", "near", "far")}
    return {
        score: {group: _shares(arrays["test"][score], arrays[group][score]) for group in ("near", "far")}
        for score in scores
    }


def _shares(inside: np.ndarray, outside: np.ndarray) -> dict[str, Any]:
    shares = histograms(np.sort(inside), np.sort(outside))
    return {
        "auroc": round(ood_metrics(inside, outside).auroc, 4),
        "id": [round(value, 3) for value in shares.id.tolist()],
        "ood": [round(value, 3) for value in shares.ood.tolist()],
        "low": float(f"{shares.low:.4g}"),
        "high": float(f"{shares.high:.4g}"),
        "threshold": round(shares.threshold, 3),
    }


if __name__ == "__main__":
    write(Path(sys.argv[1]))
