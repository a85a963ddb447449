"""Writes `demo_histograms.json`, the pictures of the methods pages, from runs on the demo world.

`make method-pictures` runs `mmood demo` first; by itself: `python docs/generators/demo_histograms.py demo-world`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mmood import ood_metrics
from mmood.cli.main import main
from mmood.dense.labels import OOD
from mmood.report.curves import histograms

OUT = Path(__file__).parent / "demo_histograms.json"
Scores = tuple[np.ndarray, np.ndarray]
"""Of ID and of OoD images or pixels."""

_WORDS = "{at}/data/words.txt"
_MINING = {"templates": {"id": ["a photo of a {}"], "noun": ["a photo of a {}"]}}
_OF_TEXTS: dict[str, Any] = {"temperature": 0.05, "negatives": _WORDS, "mining": _MINING}
_GROUPED = {**_OF_TEXTS, "groups": 1}
_ZERO_SHOT: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("MCM", "MaxLogit", "Entropy", "SoftmaxVariance", "GEN", "Margin", "L1Norm", "KLMatching")},
    **{name: {} for name in ("GLMCM", "LMCM", "MMP", "KNN", "NNGuide", "Mahalanobis", "RelativeMahalanobis", "SHE")},
    "Energy": {"temperature": 0.05},
    "NegLabel": _GROUPED,
    "CSP": _GROUPED,
    "EOE": {"outliers": "demo-wordnet"},
}
_STREAMS = {"AdaNeg": _GROUPED, "InterNeg": _GROUPED, "TINS": _GROUPED, "TANL": _OF_TEXTS}
_OF_HEAD = ("ReAct", "ASH", "SCALE", "ViM", "Residual")
"""Scores of a trained head on the features, tested with the demo's linear probe."""
_OF_PIXELS = ("PixelMSP", "PixelMaxLogit", "PixelStandardisedMaxLogit", "PixelEnergy", "PixelEntropy")

_DEMO_SETS = (
    *("--data.benchmark", "null", "--data.id", "demo-test", "--data.ood", "{near: [demo-near], far: [demo-far]}"),
    *("--data.train", "demo-train", "--data.val", "{id: demo-val, ood: {far: [demo-val-ood]}}"),
    *("--data.batch_size", "256", "--data.loader.workers", "0"),
)
_LINEAR = ("--ckpt_path", "{at}/runs/linear-fit/checkpoints/last.ckpt")
_SEGNET = ("--ckpt_path", "{at}/runs/segnet-fit/checkpoints/last.ckpt")
_ZERO = ("--config", "demo_zeroshot.yaml")


@dataclass(frozen=True)
class Trial:
    """A command of mmood on the demo world, and the pictures that come of its scores.

    Attributes:
        name: of its run folder.
        command: what stands after `mmood`, `{at}` for the demo's folder; empty for a run that `mmood demo` has made.
        scores: that are tested, class and settings; none for those of the config.
        pictures: name of a picture -> the array of scores in the run's files; none for one of each score.
        near, far: what the OoD images are called.
        located: add the flags that say where data and model lie; a checkpoint knows them.
    """

    name: str
    command: tuple[str, ...] = ()
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    near: str = "near OoD"
    far: str = "far OoD"
    located: bool = True

    def arguments(self, world: Path) -> list[str]:
        """Return the whole command."""
        words = list(self.command)
        if self.located:
            words += ["--data.root", "{at}/data", "--data.class_names", "{at}/data/classes.txt"]
            words += ["--model.encoder.name", "local-dir:{at}/clip"]
        if self.scores:
            given = {name: {"class_path": name, "init_args": dict(settings)} for name, settings in self.scores.items()}
            words += ["--model.scores", yaml.safe_dump(given, default_flow_style=True, width=10**9).strip()]
        words += ["--run_dir", f"{{at}}/runs/{self.name}", "--overwrite", "true"]
        return [word.replace("{at}", str(world)) for word in words]


def _attack(picture: str, method: str, score: str, *flags: str) -> Trial:
    """Return an attack on one score: the picture has what the attacked images get."""
    change = method if method == "manipulation" else f"{method} linf 4/255 ood-as-id"
    command = ("attack", *_ZERO, "--attack", method, *flags, "--quiet")
    called = ("attacked near OoD", "attacked far OoD")
    return Trial(f"pictures-{method}", command, {score: {}}, {picture: f"{score} [{change}]"}, *called)


_SMOOTHING = "{copies: 30, noise: 0.1, radii: [0.05]}"
TRIALS = (
    Trial("pictures-zero-shot", ("test", *_ZERO), _ZERO_SHOT),
    Trial("pictures-head", ("test", *_LINEAR), {name: {} for name in _OF_HEAD}, located=False),
    Trial("pictures-streams", ("test", *_ZERO, *_DEMO_SETS), _STREAMS),
    Trial("linear", pictures={"LinearProbe": "msp"}),
    Trial("plp", pictures={"PseudoLabelProbe": "msp"}),
    Trial("align", pictures={"AlignmentFineTune": "mcm"}),
    Trial(
        "pictures-coop-fit",
        (
            "fit",
            "--config",
            "vitb16_coop.yaml",
            *_DEMO_SETS,
            "--model.method.context.tokens",
            "2",
            "--trainer.max_epochs",
            "5",
            "--model.scores",
            "{mcm: MCM}",
        ),
    ),
    Trial(
        "pictures-coop",
        ("test", "--ckpt_path", "{at}/runs/pictures-coop-fit/checkpoints/last.ckpt"),
        {"MCM": {}},
        {"CoOp": "MCM"},
        located=False,
    ),
    _attack("APGD", "apgd", "MCM", "--eps", "4/255", "--steps", "20", "--limit", "300"),
    _attack("PGD", "pgd", "MCM", "--eps", "4/255", "--steps", "20", "--limit", "300"),
    _attack("FGSM", "fgsm", "MCM", "--eps", "4/255", "--limit", "300"),
    _attack("Manipulation", "manipulation", "KNN", "--data.train", "demo-train", "--smoothness", "0", "--limit", "100"),
    Trial(
        "pictures-smoothing",
        ("test", *_ZERO, "--evaluation.smoothing", _SMOOTHING),
        {"MCM": {}},
        {"Smoothing": "MCM [smoothed 0.1]", "Certificate": "MCM [smoothed 0.1, certified l2 0.05 ood-as-id]"},
    ),
    Trial(
        "pictures-fog",
        ("test", *_ZERO, "--data.corruption", "{name: fog, severity: 2, groups: [id]}"),
        {"MCM": {}},
        {"Corruption": "MCM [fog 2 of id]"},
    ),
    Trial(
        "pictures-pixels",
        ("test", *_SEGNET, "--evaluation.save_maps", "200"),
        {name: {} for name in _OF_PIXELS},
        located=False,
    ),
)


def write(world: Path) -> None:
    """Run every trial on a demo world, and keep the histograms."""
    found: dict[str, Any] = {}
    for trial in TRIALS:
        if trial.command and (code := main(trial.arguments(world))):
            raise SystemExit(code)
        found |= _pictures(trial, world / "runs" / trial.name)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found))
    OUT.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def _pictures(trial: Trial, run: Path) -> dict[str, Any]:
    columns = trial.pictures or {name: name for name in trial.scores}
    return {
        picture: {called: _shares(*scores) for called, scores in _scores(trial, run, column)}
        for picture, column in columns.items()
    }


def _scores(trial: Trial, run: Path, column: str) -> Iterator[tuple[str, Scores]]:
    """Yield what OoD images are called, and the scores of ID and of OoD images or pixels, for each group of them."""
    if maps := sorted((run / "maps").glob("*/*.npz")):
        yield "the pixels of stars", _of_pixels(maps, column)
        return
    for group, called in (("near", trial.near), ("far", trial.far)):
        stream = run / "scores" / "streams" / column / f"demo-{group}.0.npz"
        yield called, _of_stream(stream) if stream.exists() else _of_images(run / "scores", group, column)


def _of_images(folder: Path, group: str, column: str) -> Scores:
    inside, outside = (dict(np.load(folder / f"demo-{name}.npz")) for name in ("test", group))
    return inside[column], outside[column]


def _of_stream(file: Path) -> Scores:
    arrays = dict(np.load(file))
    return arrays["score"][arrays["label"] >= 0], arrays["score"][arrays["label"] < 0]


def _of_pixels(maps: list[Path], column: str) -> Scores:
    arrays = [dict(np.load(file)) for file in maps]
    scores, targets = (np.concatenate([each[name].ravel() for each in arrays]) for name in (column, "targets"))
    return scores[targets >= 0], scores[targets == OOD]


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
