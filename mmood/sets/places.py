"""What the settings call a set: the name of one below `data.root`, or a path to images anywhere."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, cast

from mmood.errors import MmoodError
from mmood.shards.locations import check_set_name

Kind = Literal["folder", "zip", "list", "shards"]
KINDS: tuple[Kind, ...] = ("folder", "zip", "list", "shards")

_PATH = re.compile(rf"(?:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)=)?(?:(?P<kind>{'|'.join(KINDS)}):)?(?P<path>.+)")
_ENDINGS = re.compile(r"(\.(zip|txt|lst|list|tsv|json|tar|tgz)|\.tar\.(gz|bz2))$", re.IGNORECASE)
_BRACES = re.compile(r"\{[^{}]*\}")


class Place(NamedTuple):
    """A set as it is named in the settings.

    Attributes:
        name: what results call it.
        path: of the images or of the set's folder; "" for a set below `data.root`.
        kind: what is at the path; None if that must be looked up.
    """

    name: str
    path: str = ""
    kind: Kind | None = None


def place_of(setting: str) -> Place:
    """Return the set that a setting names.

    A set is `NAME` (below `data.root`), a path with a slash, or `folder:PATH`, `zip:PATH`, `list:PATH`, `shards:URL`;
    `NAME=` before a path names it in the results, which else use the last part of the path.

    Raises:
        MmoodError: it names nothing.

    >>> place_of("sun"), place_of("folder:photos/pets"), place_of("mine=/data/test.zip")
    (Place(name='sun', path='', kind=None), Place(name='pets', path='photos/pets', kind='folder'), Place(name='mine', \
path='/data/test.zip', kind=None))
    """
    found = _PATH.fullmatch(setting)
    if found is None or not (found["kind"] or "/" in found["path"]):
        return Place(check_set_name(setting))
    return Place(found["name"] or _called(found["path"]), found["path"], cast("Kind | None", found["kind"]))


def set_name(setting: str) -> str:
    """Return what results call the set that a setting names."""
    return place_of(setting).name


def _called(path: str) -> str:
    last = _BRACES.sub("", _ENDINGS.sub("", path.rstrip("/").rpartition("/")[2]))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._")
    if not name:
        raise MmoodError(f"The path {path!r:.80} gives the set no name; put one before it, as in NAME={path:.80}.")
    return name
