"""The checks of single settings: counts, numbers, choices. A truth value is no number, and neither is NaN."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real

from mmood.errors import MmoodError


def check_count(key: str, value: object, least: int = 1, most: int | None = None, null: str | None = None) -> None:
    """Raise MmoodError unless a setting is a whole number in [least, most].

    Args:
        key: of the setting, as messages call it.
        value: what it is.
        least: the smallest that is allowed.
        most: the largest; None for no bound.
        null: what None stands for, where it is allowed.

    >>> check_count("KNN.shots", None, null="all images")
    >>> check_count("KNN.shots", -1, null="all images")
    Traceback (most recent call last):
    ...
    mmood.errors.MmoodError: KNN.shots is -1; it must be a whole number of at least 1, or null for all images.
    """
    if value is None and null is not None:
        return
    whole = None if isinstance(value, bool) or not isinstance(value, Integral) else int(value)
    if whole is None or whole < least or (most is not None and whole > most):
        wanted = f"a whole number of at least {least}" if most is None else f"a whole number in [{least}, {most}]"
        raise _wrong(key, value, wanted, null)


def check_number(
    key: str,
    value: object,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    null: str | None = None,
) -> None:
    """Raise MmoodError unless a setting is a finite number within its bounds.

    Args:
        key: of the setting, as messages call it.
        value: what it is.
        least: the smallest that is allowed.
        most: the largest that is allowed.
        above: it must be greater than this.
        below: it must be smaller than this.
        null: what None stands for, where it is allowed.

    >>> check_number("MCM.temperature", True, above=0)
    Traceback (most recent call last):
    ...
    mmood.errors.MmoodError: MCM.temperature is true; it must be a finite number greater than 0.
    """
    if value is None and null is not None:
        return
    number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    within = math.isfinite(number) and not (
        (least is not None and number < least)
        or (most is not None and number > most)
        or (above is not None and number <= above)
        or (below is not None and number >= below)
    )
    if not within:
        raise _wrong(key, value, f"a finite number{_range(least, most, above, below)}", null)


def check_choice(key: str, value: object, known: Iterable[str]) -> None:
    """Raise MmoodError unless a setting is one of the known words.

    >>> check_choice("ASH.variant", "x", ("s", "b", "p"))
    Traceback (most recent call last):
    ...
    mmood.errors.MmoodError: ASH.variant is 'x'; it must be one of s, b, p.
    """
    words = tuple(known)
    if value not in words:
        raise MmoodError(f"{key} is '{value!s:.80}'; it must be one of {', '.join(words)}.")


def _range(least: float | None, most: float | None, above: float | None, below: float | None) -> str:
    low = f"({above:g}" if above is not None else f"[{least:g}" if least is not None else None
    high = f"{below:g})" if below is not None else f"{most:g}]" if most is not None else None
    if low and high:
        return f" in {low}, {high}"
    bounds = ((" greater than", above), (" of at least", least), (" smaller than", below), (" of at most", most))
    return next((f"{words} {bound:g}" for words, bound in bounds if bound is not None), "")


def _wrong(key: str, value: object, wanted: str, null: str | None) -> MmoodError:
    shown = str(value).lower() if isinstance(value, bool) else "null" if value is None else value
    return MmoodError(f"{key} is {shown!s:.80}; it must be {wanted}{f', or null for {null}' if null else ''}.")
