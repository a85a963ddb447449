"""Docstrings of methods as Markdown: formulas with subscripts, papers as links, settings with their defaults."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, fields, is_dataclass
from html import escape
from typing import Any

from griffe import (
    Docstring,
    DocstringSectionAdmonition,
    DocstringSectionAttributes,
    DocstringSectionParameters,
    DocstringSectionText,
)

_ARXIV = re.compile(r"(?<![\d./])(?P<id>\d{4}\.\d{4,5})(?!\d)")
_CODE = re.compile(r"(`[^`]*`)")
# Formulas of docstrings: `S_ada` (of one letter), `softmax_c`, `max_r,c`, `m_{y_i}`; `x^2`, `S^-1`, `(p)^(1 / T)`
_SUBSCRIPT = re.compile(
    r"(?<=[A-Za-z)\]'])_\{(?P<group>[^}]*)\}"
    r"|(?<=\b[A-Za-z])_(?P<of_letter>[A-Za-z0-9]+)\b"
    r"|(?<=[A-Za-z)\]'])_(?P<short>[A-Za-z0-9]{1,2}(?:,[a-z])*)\b"
)
_SUPERSCRIPT = re.compile(r"(?<=[A-Za-z0-9)\]])\^(?:\((?P<group>[^)]*)\)|(?P<one>-?\w+))")
_LONG = 60


@dataclass(frozen=True)
class Setting:
    """An argument of a constructor.

    Attributes:
        name: of the argument.
        default: as Python writes it; None if the argument must be given.
        meaning: as Markdown.
    """

    name: str
    default: str | None
    meaning: str


@dataclass(frozen=True)
class Description:
    """What a docstring says.

    Attributes:
        text: Markdown of everything but the settings and the warning.
        warning: what is easily done wrong, as Markdown; None where the docstring has no such section.
        settings: of the constructor.
        papers: arXiv identifiers in the order in which they are mentioned.
    """

    text: str
    warning: str | None
    settings: tuple[Setting, ...]
    papers: tuple[str, ...]


def describe(documented: Any) -> Description:
    """Return what the docstring of a class says, or that of a function or module, whose settings are left out."""
    plain = inspect.getdoc(documented) or ""
    texts, warning, meanings = [], None, dict[str, str]()
    for section in Docstring(plain).parse("google", warnings=False):
        match section:
            case DocstringSectionText():
                texts.append(section.value)
            case DocstringSectionAdmonition() if section.title == "Warning":
                warning = typeset(section.value.contents)
            case DocstringSectionParameters() | DocstringSectionAttributes():
                meanings = {one.name: typeset(one.description) for one in section.value}
            case _:
                pass
    papers = tuple(dict.fromkeys(_ARXIV.findall(plain)))
    settings = tuple(_settings(documented, meanings)) if inspect.isclass(documented) else ()
    return Description(typeset("\n\n".join(texts)), warning, settings, papers)


def typeset(text: str) -> str:
    """Return text of a docstring as Markdown: `max_c`, `x^2` with HTML subscripts, and arXiv identifiers as links."""
    parts = _CODE.split(text)
    return "".join(part if part.startswith("`") else _typeset_prose(part) for part in parts)


def _typeset_prose(text: str) -> str:
    text = escape(text, quote=False).replace("*", r"\*") if _has_product(text) else escape(text, quote=False)
    text = _SUBSCRIPT.sub(_subscript, text)
    text = _SUPERSCRIPT.sub(lambda found: f"<sup>{found['group'] or found['one']}</sup>", text)
    return _ARXIV.sub(lambda found: f"[{found['id']}](https://arxiv.org/abs/{found['id']})", text)


def _subscript(found: re.Match[str]) -> str:
    inner = found["group"] or found["of_letter"] or found["short"]
    return f"<sub>{_SUBSCRIPT.sub(_subscript, inner)}</sub>"


def _has_product(text: str) -> bool:
    """Return whether an asterisk is a product, which Markdown would take for emphasis."""
    return " * " in text


def _settings(documented: type, meanings: dict[str, str]) -> list[Setting]:
    if documented.__init__ is object.__init__:  # type: ignore[misc]
        return []
    known = inspect.signature(documented.__init__).parameters  # type: ignore[misc]
    named = [one for one in known.values() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    return [Setting(one.name, _default(one), meanings.get(one.name, "")) for one in named if one.name != "self"]


def _default(parameter: inspect.Parameter) -> str | None:
    return None if parameter.default is parameter.empty else shown(parameter.default)


def shown(value: Any) -> str:
    """Return a default as a reader wants it: dataclasses and functions by name, everything else as Python writes it."""
    if is_dataclass(value) and not isinstance(value, type):
        whole = repr(value)
        return whole if len(whole) <= _LONG else f"{type(value).__name__}(...)"
    return _called(value) if inspect.isfunction(value) else repr(value)


def _called(function: Any) -> str:
    """Return what a default that is a lambda calls, such as `torch.optim.Adam(parameters, lr=1e-3)`."""
    found = re.search(r"lambda [^:]*: (?P<body>.*),$", inspect.getsource(function).strip())
    return found["body"] if found else "..."


def nested(documented: type) -> list[type]:
    """Return the dataclasses among the defaults of a constructor, and those among their own, each once."""
    if documented.__init__ is object.__init__:  # type: ignore[misc]
        return []
    found: dict[type, None] = {}
    for parameter in inspect.signature(documented.__init__).parameters.values():  # type: ignore[misc]
        _collect(parameter.default, found)
    return list(found)


def _collect(value: Any, found: dict[type, None]) -> None:
    if is_dataclass(value) and not isinstance(value, type) and type(value) not in found:
        found[type(value)] = None
        for field in fields(value):
            _collect(getattr(value, field.name), found)
