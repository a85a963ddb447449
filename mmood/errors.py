"""The one exception that speaks to the user, and the sentences that need more than a format string."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MmoodError(Exception):
    """Input or surroundings that mmood cannot work with.

    The message is one full sentence for the user: it names the key or file, the value found, and what would be right.
    The command line prints it without a traceback and ends with exit code 2.
    """


class ImageError(MmoodError):
    """An image that cannot be used: the message begins with "the image" or "the mask", without place and full stop."""


def unknown(what: str, value: str, known: Iterable[str], limit: int = 12) -> MmoodError:
    """Return the error for a `value` that is none of the `known` names, with the nearest of them.

    >>> str(unknown("set", "textrues", ["textures", "sun"]))
    "There is no set 'textrues'; did you mean 'textures'? Known: sun, textures."
    """
    names = sorted(known)
    near = nearest(value, names)
    hint = f"; did you mean '{near}'?" if near is not None else "."
    shown = ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
    return MmoodError(f"There is no {what} '{value:.80}'{hint} Known: {shown or 'none'}.")


def nearest(value: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that is most like a value, whatever the case of its letters; None if none is.

    >>> nearest("McM", ["MMP", "MCM"])
    'MCM'
    """
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(value.lower(), names, n=1, cutoff=cutoff)
    return names[found[0]] if found else None
