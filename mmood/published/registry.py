"""The published tables that come with mmood."""

from __future__ import annotations

import functools
from importlib import resources

from mmood.errors import unknown
from mmood.published.model import PublishedTable, Registry
from mmood.published.reading import parse_paper, parse_protocols


@functools.cache
def registry() -> Registry:
    """Return all tables, runs and models."""
    folder = resources.files("mmood.published")
    models, runs, protocols = parse_protocols((folder / "protocols.yaml").read_text("utf-8"))
    files = sorted((folder / "papers").iterdir(), key=lambda file: file.name)
    tables = [
        table
        for file in files
        for table in parse_paper(file.read_text("utf-8"), file.name.removesuffix(".yaml"), protocols)
    ]
    return Registry({table.id: table for table in tables}, runs, models)


def find_tables(name: str) -> list[PublishedTable]:
    """Return the tables that `PAPER` or `PAPER:TABLE` names; MmoodError with the nearest name if there are none."""
    known = registry()
    if name in known.tables:
        return [known.tables[name]]
    paper, colon, _ = name.partition(":")
    tables = known.of_paper(paper)
    if not tables:
        raise unknown("paper", paper, known.papers(), limit=50)
    if colon:
        raise unknown("table", name, [table.id for table in tables], limit=50)
    return tables
