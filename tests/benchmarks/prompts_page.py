"""The tables of docs/prompts.md from the results of table_prompts.py."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path

METHODS = ("ZeroShot", "MMP", "COOkeD", "TINS", "CoOp", "LoCoOp", "SCT", "Local-Prompt", "NegPrompt", "SUPREME")
OWN_ONLY = ("MMP", "COOkeD", "NegPrompt")
"""Of these the shared scores are those of ZeroShot, and of CoOp, whose prompts NegPrompt takes."""
SHARED = ("MCM", "GL-MCM", "NegLabel", "NegLabel, learned negatives")
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
PAGE = Path(__file__).parents[2] / "docs" / "prompts.md"


def write_page(work: Path) -> None:
    """Write the tables into `tables.md` and, where docs/prompts.md has a place for them, there."""
    results = [json.loads(path.read_text()) for path in sorted((work / "results").glob("*.json"))]
    models = sorted({result["model"] for result in results})
    text = "\n\n".join(_tables(model, [one for one in results if one["model"] == model]) for model in models)
    (work / "tables.md").write_text(text + "\n")
    (work / "tables.json").write_text(json.dumps(results, indent=1))
    page = PAGE.read_text() if PAGE.exists() else ""
    if BEGIN in page and results:
        before, rest = page.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def _tables(model: str, results: list[dict]) -> str:
    lines = [f"### {model}", "", "| method | shots | score | ID accuracy | near | far |", "|---|--:|---|--:|--:|--:|"]
    for method in METHODS:
        for shots in sorted({one["shots"] for one in results if one["method"] == method}):
            runs = [one for one in results if one["method"] == method and one["shots"] == shots]
            lines += _rows(method, shots, runs)
    return "\n".join(lines)


def _rows(method: str, shots: int, runs: list[dict]) -> Iterable[str]:
    names = [name for name in runs[0]["scores"] if method not in OWN_ONLY or name not in SHARED]
    first = True
    for name in sorted(names, key=lambda name: SHARED.index(name) if name in SHARED else len(SHARED)):
        cells = [
            " / ".join(_spread(run["scores"][name][group][key] for run in runs) for key in ("auroc", "id_pos"))
            for group in ("near", "far")
        ]
        classifies = first and method not in ("TINS", *OWN_ONLY)
        accuracy = _spread(run["accuracy"] for run in runs) if classifies else ""
        yield f"| {method if first else ''} | {shots if first and shots else ''} | {name} | {accuracy} | {cells[0]} | {cells[1]} |"
        first = False


def _spread(values: Iterable[float]) -> str:
    """Return mean ± sample standard deviation in per cent."""
    found = [100 * value for value in values]
    deviation = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.1f}{deviation}"
