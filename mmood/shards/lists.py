"""Image lists: a path a line, with a label or without; OpenOOD's form, tables with tabs, and JSON."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from mmood.errors import MmoodError
from mmood.files import parse_json, read_limited, read_text

# The label stands last, after a tab, a comma or a blank.
_LABELLED = re.compile(r"(.*[^\s,])\s*[\t, ]\s*(-?[0-9]{1,9})")
_JSON_FORMS = (
    "a list of paths, a list of [path, label] or of objects with `file_name` (or `path`) and `label`, or an object "
    "with such a list as `images`"
)


class ListedImage(NamedTuple):
    """An image of a list.

    Attributes:
        where: file and line, for an error.
        path: as it stands in the list.
        label: class index, -1 for OoD; None in a list without labels.
    """

    where: str
    path: str
    label: int | None


def read_image_list(file: Path) -> list[ListedImage]:
    """Return the images of a list, in its order.

    Lines are `path label` (OpenOOD), `path<tab>label`, `path,label`, or paths alone, then all of them. Blank lines are
    passed over. A `.json` file is a list of paths, of
    [path, label] or of objects with `file_name` (or `path`) and `label`, or an object that holds one as `images`.

    Raises:
        MmoodError: the file cannot be read, or some lines only have a label.
    """
    if file.suffix.lower() == ".json":
        return _json_list(file)
    lines = enumerate(read_text(file, f"The image list {file}").splitlines(), 1)
    listed = [_line(f"{file}, line {number}", line) for number, line in lines if line.strip()]
    bare = next((image for image in listed if image.label is None), None)
    labelled = next((image for image in listed if image.label is not None), None)
    if bare is not None and labelled is not None:
        raise MmoodError(
            f"{bare.where}, has no label ({bare.path!r:.80}), and {labelled.where}, has one; either all lines must be "
            "`path label` (separated by a space, a tab or a comma), or all must be paths alone."
        )
    return listed


def _line(where: str, line: str) -> ListedImage:
    if found := _LABELLED.fullmatch(line.strip()):
        return ListedImage(where, found[1], int(found[2]))
    if "\t" in line.strip():
        raise MmoodError(f"{where}, is not `path<tab>label`: {line!r:.80}.")
    return ListedImage(where, line.strip(), None)


def _json_list(file: Path) -> list[ListedImage]:
    what = f"The image list {file}"
    document = parse_json(read_limited(file, what), what)
    entries = document.get("images") if isinstance(document, dict) else document
    if not isinstance(entries, list):
        raise MmoodError(f"{what} must be {_JSON_FORMS}.")
    listed = [_entry(f"{file}, entry {number}", entry) for number, entry in enumerate(entries)]
    if len({image.label is None for image in listed}) > 1:
        raise MmoodError(f"{what} has labels for only some images; give all of them a label, or none.")
    return listed


def _entry(where: str, entry: Any) -> ListedImage:
    if isinstance(entry, dict):
        entry = [entry.get("file_name", entry.get("path")), entry.get("label")]
    path, label = entry if isinstance(entry, list) and len(entry) == 2 else (entry, None)
    if not isinstance(path, str) or not (label is None or (isinstance(label, int) and not isinstance(label, bool))):
        raise MmoodError(f"{where}, is {entry!r:.80}; a list in JSON is {_JSON_FORMS}.")
    return ListedImage(where, path, label)
