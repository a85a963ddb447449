"""Pictures of what a score does on the demo world: histograms of ID against OoD images or pixels."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mmood.report.curves import Histograms
from mmood.report.page.charts import histogram_chart

STORED = Path(__file__).parent / "demo_histograms.json"
"""Written by `make method-pictures`."""


@cache
def _stored() -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}
    return stored


def picture(name: str) -> str:
    """Return the histograms of a method as HTML; empty where none were made."""
    groups = _stored().get(name)
    if groups is None:
        return ""
    figures = "".join(_figure(called, **values) for called, values in groups.items())
    return f'<div class="histograms">{figures}</div>'


def _figure(
    called: str, auroc: float, id: list[float], ood: list[float], low: float, high: float, threshold: float
) -> str:
    caption = f"ID (filled) against {called} (outline): AUROC {100 * auroc:.1f}\u00a0%"
    chart = histogram_chart(caption, caption, Histograms(np.array(id), np.array(ood), low, high, threshold))
    return f"<figure>{chart}<figcaption>{caption}</figcaption></figure>"
