"""What a score of a run was given, in the words that readers filter by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mmood.report.runs import Run
from mmood.results.model import ResultRow

Kind = Literal["zero-shot", "few-shot", "training images", "fine-tuned", "test-time", "other"]
KINDS: dict[Kind, str] = {
    "zero-shot": "class names alone",
    "few-shot": "a few labelled ID images of each class",
    "training images": "many ID training images, towers frozen",
    "fine-tuned": "towers trained on ID images",
    "test-time": "learns from the unlabelled test images",
    "other": "a module of its own",
}
"""Kind -> what was given."""

_FINE_TUNED = ("AlignmentFineTune", "CrossEntropyFineTune")
_PROBES = ("LinearProbe", "PseudoLabelProbe")
# What the record of a score has that reads ID training images.
_OF_IMAGES = ("shots", "labels", "reads", "covariance")


def kind_of(run: Run, row: ResultRow) -> Kind:
    """Return what a score of a run was given."""
    if row.protocol == "test_time":
        return "test-time"
    record: Mapping[str, Any] = run.results.provenance
    module, settings = record.get("module"), record.get("settings", {})
    if module in _FINE_TUNED:
        return "training images" if _inside(settings, "trained", "towers") == "none" else "fine-tuned"
    score = record.get("scores", {}).get(row.score, {})
    if module == "PromptLearning" or _inside(settings, "training", "shots") or _shots(score) is not None:
        return "few-shot"
    if module in _PROBES or any(name in score for name in _OF_IMAGES):
        return "training images"
    return "zero-shot" if module == "ZeroShot" else "other"


def _shots(score: Mapping[str, Any]) -> object:
    return score.get("shots") or _inside(score, "images", "shots")


def _inside(record: object, *names: str) -> object:
    for name in names:
        record = record.get(name) if isinstance(record, dict) else None
    return record
