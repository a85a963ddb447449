"""What `predict` reads: image files, folders, lists of images, or a set."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmood.errors import MmoodError
from mmood.files import is_file, is_folder, user_path, utf8_name
from mmood.sets.finding import find_set
from mmood.sets.places import place_of
from mmood.shards.index import Keys, MissingSetError
from mmood.shards.lists import read_image_list
from mmood.shards.locations import is_local
from mmood.shards.passed_over import PassedOver
from mmood.shards.sources import FileSource, InputFile, SampleSource
from mmood.shards.walk import find_images, is_image

_LISTS = (".txt", ".lst", ".list", ".tsv", ".json")
_ACCEPTED = f"an image, a folder, a pattern such as 'photos/*.jpg', a list of images ({', '.join(_LISTS)})"


@dataclass(frozen=True)
class PredictSet:
    """Images to predict, in order; key i is the image `names[i]`.

    Attributes:
        name: name of the set, or the paths.
        source: reads an image by its key: its bytes, or why they cannot be had.
        names: for each key the image's file, or its name in the shard.
        passed_over: what lies beside the images, as a sentence; "" if nothing does.
    """

    name: str
    source: SampleSource
    names: list[str]
    passed_over: str

    def keys(self) -> Keys:
        """Return all keys, ascending."""
        return np.arange(len(self.names), dtype=np.int64)


def find_predict_set(root: str, what: str | Sequence[str], pipes: bool = False) -> PredictSet:
    """Return the images that `data.predict` names.

    Each entry is an image, a folder (searched in depth, sorted by path), a pattern (`photos/*.jpg`), or a list of
    images (`.txt`, `.lst`, `.tsv`, `.json`; its paths start from the working directory or from the list's folder). One
    entry that is a zip file or none of these is a set: below root, or `zip:PATH` and the like (`place_of`). Any other
    file, and a line of a list, is always an input, whether it can be read or not.

    Raises:
        MmoodError: an entry names nothing, or there is no image.
    """
    entries = [what] if isinstance(what, str) else list(what)
    passed_over = PassedOver()
    found = [input_files(entry, passed_over) for entry in entries]
    if len(entries) == 1 and found[0] is None:
        return _set(root, entries[0], pipes)
    if len(entries) == 1 and is_file(path := user_path(entries[0])) and path.suffix.lower() == ".zip":
        return _set(root, f"zip:{entries[0]}", pipes)
    files: list[InputFile] = []
    for entry, part in zip(entries, found, strict=True):
        if part is None:
            raise MmoodError(
                f"There is no file or folder '{utf8_name(entry)}', which is one of {len(entries)} entries of "
                f"`data.predict`; each is one of: {_ACCEPTED}."
            )
        files += part
    if not files:
        raise MmoodError(
            f"There is no image in `data.predict` ({_said(entries) or 'it names nothing'}). {passed_over}".rstrip()
        )
    return PredictSet(_said(entries), FileSource(files), [file.name for file in files], str(passed_over))


def _set(root: str, name: str, pipes: bool) -> PredictSet:
    nothing = (
        f"There is no file, folder or set '{utf8_name(name)}', which `data.predict` names; it takes {_ACCEPTED}, "
        f"or several of these, or a zip file (.zip), or the name of a set below `data.root` ({root})."
    )
    if "/" in name and place_of(name).kind is None:
        raise MmoodError(nothing)
    try:
        index = find_set(root, name, pipes)
    except MissingSetError as error:
        if is_local(root) and is_folder(user_path(root) / name):
            raise  # it is there, and the error says what it lacks
        raise MmoodError(nothing) from error
    return PredictSet(index.name, index, [row.sample for row in index.rows()], " ".join(index.notes))


def input_files(entry: str, passed_over: PassedOver) -> list[InputFile] | None:
    """Return the files that an entry means (see `find_predict_set`), None if it means none.

    Args:
        entry: an image, a folder, a pattern or a list of images.
        passed_over: what lies beside the images in folders is added to it.

    Raises:
        MmoodError: a list cannot be read, or is empty.
    """
    path = user_path(entry)
    if is_folder(path):
        images = find_images(path)
        passed_over.merge(images.passed_over)
        return [InputFile(path / image.path, utf8_name(image.path), image.reason) for image in images.images]
    if is_file(path):
        is_list = path.suffix.lower() in _LISTS and not is_image(path)
        return _listed(path) if is_list else [InputFile(path, utf8_name(path.name))]
    if glob.has_magic(entry):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - a pattern may begin anywhere
        return [InputFile(Path(match), utf8_name(match)) for match in matches if Path(match).is_file()] or None
    return None


def _listed(file: Path) -> list[InputFile]:
    listed = read_image_list(file)
    if not listed:
        raise MmoodError(f"The list of images {file} is empty.")
    return [listed_file(image.path, file.parent) for image in listed]


def listed_file(name: str, folder: Path) -> InputFile:
    """Return the file that a line of a list means; its path starts from the working directory or from `folder`."""
    path = user_path(name)
    if not is_file(path):
        path = folder / path
    return InputFile(path, name, "" if is_file(path) else "there is no such file")


def _said(entries: Sequence[str]) -> str:
    return utf8_name(", ".join(entries[:3])) + (f" and {len(entries) - 3} more" if len(entries) > 3 else "")
