"""Markup that is safe by construction: a plain text becomes text, and only `element` makes markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mmood.output.escaping import for_html

NOTHING = "\u2013"  # stands where there is no value
_VOID = frozenset({"meta", "img", "br", "input"})


class Html(str):
    """Text that is markup already. Whatever else is put into an element is escaped."""

    __slots__ = ()


def element(name: str, children: str | Iterable[str] = (), attributes: Mapping[str, str] | None = None) -> Html:
    """Return an element; children and attribute values that are not `Html` are escaped.

    >>> element("b", "<x>", {"title": '"'})
    '<b title="&quot;">&lt;x&gt;</b>'
    """
    written = "".join(f' {key}="{for_html(value)}"' for key, value in (attributes or {}).items())
    content = join([children] if isinstance(children, str) else children)
    return Html(f"<{name}{written}>" if name in _VOID else f"<{name}{written}>{content}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """Return the parts after one another, each escaped unless it is markup."""
    return Html("".join(part if isinstance(part, Html) else for_html(part) for part in parts))


def div(css: str, children: str | Iterable[str]) -> Html:
    """Return a `div` of a class."""
    return element("div", children, {"class": css})


def paragraph(children: str | Iterable[str], css: str = "") -> Html:
    """Return a paragraph."""
    return element("p", children, {"class": css} if css else None)


def details(summary: str, children: str | Iterable[str], opened: bool = False) -> Html:
    """Return a part that is folded away unless `opened`."""
    content = [element("summary", summary), *([children] if isinstance(children, str) else children)]
    return element("details", content, {"open": ""} if opened else None)


def section(identifier: str, title: str, children: Iterable[str]) -> Html:
    """Return a section that a link can point to."""
    return element("section", [element("h2", title), *children], {"id": identifier})


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        content: text or markup.
        value: what a number is sorted by; None for a text.
        css: classes.
    """

    content: str
    value: float | None = None
    css: str = ""


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]], sortable: bool = True) -> Html:
    """Return a table in a box that scrolls by itself; a click on a head sorts by it.

    Args:
        caption: what the table shows.
        heads: of the columns, texts or markup.
        rows: cells; the first of a row is its head.
        sortable: whether the order of the rows means nothing by itself.
    """
    shown = [element("button", head, {"type": "button"}) if sortable else head for head in heads]
    parts = [
        element("caption", caption),
        element("thead", element("tr", [element("th", head, {"scope": "col"}) for head in shown])),
        element("tbody", [element("tr", [_cell(cell, i == 0) for i, cell in enumerate(row)]) for row in rows]),
    ]
    css = {"class": "sortable"} if sortable else None
    return element("div", element("table", parts, css), {"class": "scroll", "tabindex": "0"})


def _cell(cell: Cell, first: bool) -> Html:
    number = cell.value is not None
    css = " ".join(filter(None, ["n" if number else "", cell.css]))
    attributes = {"class": css} if css else {}
    attributes |= {"data-v": f"{cell.value:.6g}"} if number else {}
    return element("th" if first else "td", cell.content, attributes | ({"scope": "row"} if first else {}))
