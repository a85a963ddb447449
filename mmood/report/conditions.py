"""What a row was measured under: clean, shifted, attacked, smoothed or certified, as its variant says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from mmood.images.corruption import NAMES
from mmood.results.model import POOLED

Kind = Literal["clean", "shift", "smoothed", "attack", "certificate"]
KINDS: tuple[Kind, ...] = ("clean", "shift", "attack", "smoothed", "certificate")
"""In the order of a page."""

# Of several in one row the last one is what the row is of: a certificate on shifted images is a certificate.
_PRECEDENCE: tuple[Kind, ...] = ("clean", "smoothed", "shift", "attack", "certificate")
_SIDE = "ood-as-id|id-as-ood|both"
_FORMS: tuple[tuple[Kind, str], ...] = (
    ("clean", "clean"),
    ("shift", re.escape(POOLED)),
    ("shift", rf"(?P<family>{'|'.join(NAMES)}) (?P<strength>[1-5])(?P<rest> of .+)?"),
    ("smoothed", r"smoothed \S+"),
    ("certificate", rf"(?P<family>certified l2) (?P<strength>[0-9.e+-]+)(?P<rest> (?:{_SIDE}))"),
    ("attack", "manipulation"),
    ("attack", rf"(?P<family>\w+ (?:linf|l2)) (?P<strength>[0-9.]+(?:/[0-9]+)?)(?P<rest> (?:{_SIDE}))"),
)


@dataclass(frozen=True)
class Condition:
    """What a row was measured under.

    Attributes:
        kind: what sort of change.
        family: what was done, without how much of it; "" for nothing.
        strength: how much: severity, radius; 0 where there is no more or less of it.
        shown: the strength as it was written; "" without one.
    """

    kind: Kind = "clean"
    family: str = ""
    strength: float = 0.0
    shown: str = ""


def split_variant(variant: str | None) -> tuple[str | None, Condition]:
    """Return what of a variant belongs to the detector (such as its weights), and what to the condition.

    >>> split_variant("wise-ft 0.5, fog 3 of id")
    ('wise-ft 0.5', Condition(kind='shift', family='fog of id', strength=3.0, shown='3'))
    >>> split_variant("apgd linf 4/255 ood-as-id")[1].shown
    '4/255'
    """
    of_detector: list[str] = []
    found: list[Condition] = []
    for part in (variant or "").split(", "):
        condition = _condition(part)
        if condition is not None:
            found.append(condition)
        elif part:
            of_detector.append(part)
    if not any(one.family == POOLED for one in found):
        # The row has no image of the csid sets.
        found = [one for one in found if not one.family.endswith(" of csid")]
    kinds: list[Kind] = ["clean", *(one.kind for one in found)]
    kind = max(kinds, key=_PRECEDENCE.index)
    measured = next((one for one in reversed(found) if one.shown), Condition())
    family = ", ".join(one.family for one in found if one.family)
    return ", ".join(of_detector) or None, Condition(kind, family, measured.strength, measured.shown)


def _condition(part: str) -> Condition | None:
    for kind, form in _FORMS:
        match = re.fullmatch(form, part)
        if match is None:
            continue
        named = match.groupdict()
        if "strength" not in named:
            return Condition(kind, "" if kind == "clean" else part)
        family = f"{named['family']}{named['rest'] or ''}"
        return Condition(kind, family, _number(named["strength"]), named["strength"])
    return None


def _number(text: str) -> float:
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        return 0.0
