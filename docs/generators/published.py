"""What papers report of a method: the rows of the registry of published tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from generators.uses import names_of
from mmood.published.model import GRADES, PublishedRow, PublishedTable
from mmood.published.registry import registry

_CONVENTIONS = {"id_pos": "ID-pos", "ood_pos": "OoD-pos", "unknown": "not known which"}

Found = tuple[PublishedTable, PublishedRow]


def published(method: type, model: bool) -> str:
    """Return the rows of papers for a method, folded; empty where there are none.

    Args:
        method: the class.
        model: it is a model or a prompt learner, not a score.
    """
    found = _rows_of(method, model)
    blocks: dict[tuple[str, str], list[Found]] = {}
    for table, row in found:
        blocks.setdefault((table.benchmark or table.title or table.id, table.model), []).append((table, row))
    text = "\n\n".join(_block(title, of, rows) for (title, of), rows in blocks.items())
    return f'??? info "Published rows ({len(found)})"\n\n{textwrap.indent(text, "    ")}' if found else ""


def _rows_of(method: type, model: bool) -> list[Found]:
    pairs = [(table, row) for table in registry().tables.values() for row in table.rows if row.protocol]
    if model:
        # A zero-shot model is in the rows of its scores.
        mine = {method.__name__} - {"ZeroShot", "PromptLearning"}
        return [(table, row) for table, row in pairs if _module(row) in mine or _begins(row.method, method.__name__)]
    names = set(names_of(method))
    fitting = [(table, row) for table, row in pairs if row.protocol and names & set(row.protocol.scores)]
    return [(table, row) for table, row in fitting if _module(row) == "ZeroShot"] or fitting


def _module(row: PublishedRow) -> str:
    return row.protocol.module if row.protocol else ""


def _begins(title: str, name: str) -> bool:
    return title.lower().replace("-", "").startswith(name.lower())


def _block(title: str, model: str, found: Iterable[Found]) -> str:
    rows = list(found)
    columns = list(dict.fromkeys(name for _, row in rows for name in (*row.sets, *_means(row))))
    head = f"| method | {' | '.join(columns)} | FPR95 | source |\n|---|{'--:|' * len(columns)}---|---|"
    lines = [
        f"| {row.method} | {_cells(row, columns)} | {_CONVENTIONS[row.fpr95]} | {_source(of)} |" for of, row in rows
    ]
    return "\n".join([f"`{title}`, {model}: AUROC / FPR95, per cent.", "", head, *lines])


def _cells(row: PublishedRow, columns: Iterable[str]) -> str:
    return " | ".join(_rates(row, name) for name in columns)


def _means(row: PublishedRow) -> dict[str, dict[str, float]]:
    return {f"mean {group}": dict(values) for group, values in row.means.items()}


def _rates(row: PublishedRow, name: str) -> str:
    rates = {**row.sets, **_means(row)}.get(name, {})
    found = (rates.get("auroc"), next((value for metric, value in rates.items() if metric.startswith("fpr95")), None))
    return " / ".join("-" if rate is None else f"{100 * rate:.2f}" for rate in found) if rates else ""


def _source(table: PublishedTable) -> str:
    return f"{table.source}; {GRADES[table.grade]}" + (f" ({table.read_in})" if table.read_in else "")
