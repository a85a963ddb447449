"""From what the settings call a set to its index: of shards, or of files, which are indexed on first use."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmood.errors import MmoodError
from mmood.files import is_file, is_folder, user_path, utf8_name
from mmood.files.cache import cache_folder
from mmood.output.console import progress_bar
from mmood.output.printing import complain
from mmood.runs.locks import wait_for_lock
from mmood.sets.contents import Contents, Paths, hashed, known_rows, read_contents, write_contents
from mmood.sets.file_index import FileIndex
from mmood.sets.places import Kind, place_of
from mmood.sets.remote import is_shard_list, remote_shards
from mmood.sets.storage import Folder, Storage
from mmood.sets.zips import zip_at
from mmood.shards.index import MissingSetError, SetIndex
from mmood.shards.inputs import LabelledFiles, labelled_by_folder, labelled_by_list
from mmood.shards.lists import ListedImage, read_image_list
from mmood.shards.locations import is_local
from mmood.shards.shard_index import INDEX_FILE, load_index, shard_files

_LISTS = (".txt", ".lst", ".list", ".tsv", ".json")


class Classing(NamedTuple):
    """How the images of a folder are labelled.

    Attributes:
        names: the ID classes in the order of the labels, by which class folders are labelled; none for their own names.
        needed: whether the set must have labels.
    """

    names: Sequence[str] = ()
    needed: bool = False


_OWN = Classing()


def find_set(root: str, setting: str, pipes: bool = False, classing: Classing = _OWN) -> SetIndex:
    """Return the index of the set that a setting names (see `place_of`).

    A name is a folder of shards or of images below root. A path is a folder of shards or images, a zip file, an image
    list, or a URL of shards. What has no index is indexed in the cache; a change since then is noticed and said.

    Args:
        root: folder, http(s) prefix or command that holds the sets.
        setting: what names the set.
        pipes: whether an index may name commands.
        classing: labels of images in folders.

    Raises:
        MissingSetError: there is no such set below the root.
        MmoodError: there is nothing at the path, or it cannot be used.
    """
    place = place_of(setting)
    if not place.path:
        return _below_root(root, place.name, pipes, classing)
    if place.kind == "shards" or (place.kind is None and is_shard_list(place.path)):
        return remote_shards(place.name, place.path, tuple(classing.names))
    path = user_path(place.path).absolute()
    kind = place.kind or _kind_of(path, setting)
    if kind == "folder" and place.kind is None and (is_file(path / INDEX_FILE) or shard_files(path)):
        return load_index(str(path.parent), path.name, pipes)
    return _indexed(place.name, path, kind, root, classing)


def is_known(setting: str) -> bool:
    """Return whether a set is below a root, has an index of its own, or was indexed in the cache on this machine."""
    place = place_of(setting)
    path = user_path(place.path).absolute()
    return not place.path or is_file(path / INDEX_FILE) or is_file(_cache_file(place.name, path))


def _below_root(root: str, name: str, pipes: bool, classing: Classing) -> SetIndex:
    try:
        return load_index(root, name, pipes)
    except MissingSetError as error:
        folder = user_path(root) / name if is_local(root) else None
        if folder is None or not is_folder(folder) or shard_files(folder):
            if Path(name).exists():
                raise MissingSetError(f"{error} For '{name}' in this folder write ./{name}.") from error
            raise
        return _indexed(name, folder.absolute(), "folder", root, classing)


def _kind_of(path: Path, setting: str) -> Kind:
    if is_folder(path):
        return "folder"
    if not is_file(path):
        raise MmoodError(f"The set '{utf8_name(setting)}' names neither a folder nor a file.")
    if path.suffix.lower() == ".zip":
        return "zip"
    if path.suffix.lower() in _LISTS:
        return "list"
    raise MmoodError(
        f"The set '{utf8_name(setting)}' names a file that is neither a zip file (.zip) nor an image list "
        f"({', '.join(_LISTS)}); write zip:PATH or list:PATH if it is one, or name the folder of the images."
    )


def _indexed(name: str, path: Path, kind: Kind, root: str, classing: Classing) -> FileIndex:
    storage, found = _files(path, kind, root, classing)
    contents = _contents(name, path, storage, [file.path for file in found.files])
    labels = [file.label for file in found.files if file.label is not None]
    classes = found.classes
    count = len(classes.names) if classes is not None else max(labels, default=-1) + 1
    skipped = str(found.passed_over)
    return FileIndex(
        name,
        storage,
        contents.paths,
        contents.sha256,
        np.array(labels, dtype=np.int64) if labels else None,
        int(contents.size.sum()),
        str(path),
        (f"{name}: {skipped}",) if skipped else (),
        classes=count or None,
        class_names=() if classes is None else classes.names,
        class_folders=() if classes is None else classes.folders,
    )


def _files(path: Path, kind: Kind, root: str, classing: Classing) -> tuple[Storage, LabelledFiles]:
    if kind == "list":
        listed = read_image_list(path)
        folder = _folder_of_list(path, listed, root)
        return Folder(folder), labelled_by_list(listed, path, folder)
    storage: Storage = zip_at(path) if kind == "zip" else Folder(path)
    where = utf8_name(str(path))
    return storage, labelled_by_folder(storage.find(), where, classing.names, mixed=not classing.needed)


def _folder_of_list(file: Path, listed: Sequence[ListedImage], root: str) -> Path:
    """Return what the paths of a list are relative to: the first folder in which its first image is."""
    if not listed:
        raise MmoodError(f"The image list {file} is empty.")
    first = listed[0].path
    if first.startswith("/"):
        return Path("/")
    folders = [file.parent, Path.cwd(), *([user_path(root).absolute()] if is_local(root) else [])]
    for folder in folders:
        if is_file(folder / first):
            return folder
    tried = ", ".join(dict.fromkeys(map(str, folders)))
    raise MmoodError(f"{listed[0].where}: there is no image {first!r:.120} below {tried}.")


def _contents(name: str, path: Path, storage: Storage, paths: Sequence[str]) -> Contents:
    """Return the contents of files, from the cache as far as they have not changed."""
    size, stamp = storage.states(paths)
    listed = Contents(Paths.of(paths), size, stamp, np.zeros((len(paths), 32), np.uint8))
    file = _cache_file(name, path)
    kept = _kept(file)
    if kept is not None and kept.same_files(listed):
        return kept
    with wait_for_lock(file.with_name(f".{file.name}.lock"), f"indexes {path}"):
        kept = _kept(file)
        if kept is None or not kept.same_files(listed):
            kept = _indexed_now(name, path, storage, listed, kept)
            write_contents(file, kept)
    return kept


def _indexed_now(name: str, path: Path, storage: Storage, listed: Contents, kept: Contents | None) -> Contents:
    rows, sha256 = np.full(len(listed.paths), -1, dtype=np.int64), listed.sha256
    if kept is not None:
        rows, change = known_rows(listed, kept)
        if change:
            complain(f"{utf8_name(str(path))} has changed since it was indexed: {change}; indexed again.")
        sha256[rows >= 0] = kept.sha256[rows[rows >= 0]]
    new = np.flatnonzero(rows < 0)
    with progress_bar(f"indexing {name}", len(new), transient=True) as bar:
        sha256[new] = hashed(storage, [listed.paths[row] for row in new.tolist()], bar.advance)
    return listed


def _kept(file: Path) -> Contents | None:
    try:
        return read_contents(file) if is_file(file) else None
    except MmoodError as error:
        complain(f"{str(error).rstrip('.')}; indexed again.")
        return None


def _cache_file(name: str, path: Path) -> Path:
    of_path = hashlib.sha256(os.fsencode(path)).hexdigest()
    return cache_folder("sets") / f"{name}.{of_path[:16]}.safetensors"
