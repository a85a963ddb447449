"""The settings of the runs side by side, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from mmood.report.page.html import NOTHING, Cell, Html, details, paragraph, section, table
from mmood.report.runs import Run
from mmood.report.seeds import flat

_ABSENT = object()


def settings_section(runs: Sequence[Run]) -> Html:
    """Return what differs between the runs, then all of their settings."""
    names = [run.name for run in runs]
    configs = [dict(flat(run.config)) for run in runs]
    differing, same = _side_by_side(configs)
    parts = []
    if missing := [run.name for run in runs if not run.config]:
        parts.append(paragraph(f"These runs saved no settings: {', '.join(missing)}.", "note"))
    if len(runs) > 1:
        heads = ["Setting", *names]
        shown = (
            table(f"{len(differing)} settings differ", heads, differing)
            if differing
            else paragraph("No setting differs.")
        )
        parts.append(shown)
    if same:
        heads = ["Setting", "Value in every run" if len(runs) > 1 else "Value"]
        parts.append(details(f"{len(same)} settings are the same", table("Identical in all runs", heads, same)))
    return section("settings", "Settings", parts)


def provenance_section(runs: Sequence[Run]) -> Html:
    """Return the record of each run: versions, weights, hashes, devices."""
    records = [dict(flat(run.results.provenance)) | {"run folder": str(run.folder)} for run in runs]
    for record in records:
        # What became of each stream has a section of its own.
        record.pop("streams.runs", None)
    differing, same = _side_by_side(records)
    both = [table("What differs", ["Record", *(run.name for run in runs)], differing)] if differing else []
    rest = (
        details(f"{len(same)} records are the same", table("Identical in all runs", ["Record", "Value"], same))
        if same
        else ""
    )
    skipped = [
        paragraph(f"{run.name} left out {len(run.results.skipped):,} images that could not be read.", "note warn")
        for run in runs
        if run.results.skipped
    ]
    return section("provenance", "Provenance", [*skipped, *both, rest])


def _side_by_side(records: Sequence[Mapping[str, Any]]) -> tuple[list[list[Cell]], list[list[Cell]]]:
    """Return the rows that differ between the records, values marked, and the rows that do not."""
    differing, same = [], []
    for name in dict.fromkeys(name for record in records for name in record):
        values = [_shown(record.get(name, _ABSENT)) for record in records]
        if len(set(values)) > 1:
            common = max(set(values), key=values.count)
            alone = values.count(common) == 1
            cells = [Cell(value, css="long" if value == common and not alone else "long differs") for value in values]
            differing.append([Cell(name), *cells])
        else:
            same.append([Cell(name), Cell(values[0], css="long")])
    return differing, same


def _shown(value: object) -> str:
    if value is _ABSENT:
        return NOTHING
    if isinstance(value, str):
        return value
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("...\n").strip()
    )
