"""Scores under bf16-mixed, and of images resized by torch, against float32 and Pillow: `mmood test` on real images."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gpu.clock import DEVICE
from mmood.cli.main import main

SCORES = {
    "mcm": {"class_path": "MCM", "init_args": {"temperature": 1.0}},
    "max_logit": {"class_path": "MaxLogit"},
    "energy": {"class_path": "Energy", "init_args": {"temperature": 0.01}},
    "entropy": {"class_path": "Entropy", "init_args": {"temperature": 0.01}},
    "gen": {"class_path": "GEN", "init_args": {"temperature": 0.01}},
    "neglabel": {"class_path": "NegLabel", "init_args": {"groups": 5}},
}


RUNS = {"full": ("32-true", "pillow"), "bf16": ("bf16-mixed", "pillow"), "torch": ("32-true", "torch")}
"""Precision of the trainer, and what resizes."""


@dataclass(frozen=True)
class Size:
    """Folder with `data/` and `models/` (CONTRIBUTING.md), the model, and how many negative labels."""

    root: str | None = os.environ.get("MMOOD_REAL_DATA")
    model: str = "liteclip"
    negatives: int = 2_000


TINY = Size(root=None)


def vocabulary(count: int) -> list[str]:
    """Return words of CLIP's tokenizer: a list of negative labels that needs no WordNet."""
    import open_clip

    tokens = (token.removesuffix("</w>") for token in open_clip.SimpleTokenizer().encoder if token.endswith("</w>"))
    return [token for token in tokens if token.isascii() and token.isalpha() and len(token) > 4][:count]


def measure(size: Size) -> dict[str, object]:
    """Return AUROC of each score and set in both precisions; nothing without real images."""
    if size.root is None:
        return {}
    data = Path(size.root) / "data"
    with tempfile.TemporaryDirectory() as folder:
        words = Path(folder) / "words.txt"
        words.write_text("\n".join(vocabulary(size.negatives)) + "\n")
        scores = json.loads(json.dumps(SCORES))
        scores["neglabel"]["init_args"]["negatives"] = str(words)
        found = {}
        for name, (precision, resize) in RUNS.items():
            run = Path(folder) / name
            arguments = [
                *("test", "--config", "vitb16_zeroshot.yaml", "--model.scores", json.dumps(scores)),
                *("--model.encoder.name", f"local-dir:{size.root}/models/{size.model}", "--data.root", str(data)),
                *(
                    "--data.benchmark",
                    "null",
                    "--data.id",
                    "id-test",
                    "--data.ood",
                    "{near: [near-ood], far: [far-textures]}",
                ),
                *("--data.class_names", str(data / "id-classes.txt"), "--data.features", "off"),
                *("--trainer.accelerator", "gpu" if DEVICE.type == "cuda" else "cpu", "--trainer.devices", "1"),
                *(
                    "--data.resize",
                    resize,
                    "--trainer.precision",
                    precision,
                    "--trainer.enable_progress_bar",
                    "false",
                    "--run_dir",
                    str(run),
                ),
            ]
            if main(arguments):
                raise RuntimeError(f"`mmood {' '.join(arguments)}` failed.")
            found[name] = json.loads((run / "results.json").read_text())["rows"]
    return {"model": size.model, "rows": found}


def lines(found: dict) -> list[str]:
    """Return the section."""
    title = ["## bf16 against float32, torch's resize against Pillow's", ""]
    if not found:
        return [*title, "Not measured: `MMOOD_REAL_DATA` names no folder with real images (see CONTRIBUTING.md)."]
    full, bf16, resized = (found["rows"][name] for name in RUNS)
    table = [
        f"| {a['score']} | {a['set']} | {a['n_id']:,} + {a['n_ood']:,} | {100 * a['auroc']:.3f} | "
        f"{100 * (b['auroc'] - a['auroc']):+.3f} | {100 * (c['auroc'] - a['auroc']):+.3f} |"
        for a, b, c in zip(full, bf16, resized, strict=True)
    ]
    largest = [
        "{:.3f} points ({}, {})".format(*max(_gaps(full, other), key=lambda gap: gap[0])) for other in (bf16, resized)
    ]
    return [
        *title,
        f"`mmood test` with the model `{found['model']}` on real images, AUROC in per cent. In bf16-mixed only the towers "
        "run in bf16.",
        "",
        "| score | OoD set | images | 32-true, pillow | bf16-mixed | `data.resize: torch` |",
        "|---|---|--:|--:|--:|--:|",
        *table,
        "",
        f"The largest difference is {largest[0]} of bf16, and {largest[1]} of torch's resize.",
    ]


def _gaps(one: list[dict], other: list[dict]) -> list[tuple[float, str, str]]:
    return [(100 * abs(a["auroc"] - b["auroc"]), a["score"], a["set"]) for a, b in zip(one, other, strict=True)]
