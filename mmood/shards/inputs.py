"""What `mmood pack` packs: a folder of images, or an image list."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mmood.classes.matching import Classes, join
from mmood.errors import MmoodError
from mmood.files import is_folder, utf8_name
from mmood.shards.lists import read_image_list
from mmood.shards.passed_over import PassedOver
from mmood.shards.walk import find_images


@dataclass(frozen=True, slots=True)
class InputSample:
    """An image to pack: its bytes, and what is known of it (see `SampleRow`)."""

    image: bytes
    label: int | None
    name: str
    file: str


class PackInput(Protocol):
    """An ordered input; the same input has the same fingerprint and gives the same samples."""

    class_names: Sequence[str]
    class_folders: Sequence[str]
    fingerprint: str

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, position: int) -> InputSample:
        """Return a sample, read from its place now."""


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    label: int | None
    name: str


class FileInput:
    """Image files below a folder, packed byte for byte.

    Args:
        folder: what the paths are relative to.
        files: relative path, label and class name of each image.
        classes: folders and names in the order of the labels; None if unlabelled.
        class_names: names in the order of the labels, where they come from no folders.
        passed_over: what lies beside the images.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[_File],
        classes: Classes | None = None,
        class_names: Sequence[str] = (),
        passed_over: PassedOver | None = None,
    ) -> None:
        self.passed_over = passed_over or PassedOver()
        if not files:
            raise MmoodError(f"There is no image to pack in {folder}. {self.passed_over}".rstrip())
        self.folder = folder
        self.files = files
        self.classes = classes
        self.class_names = class_names if classes is None else classes.names
        self.class_folders: Sequence[str] = () if classes is None else classes.folders
        self.fingerprint = fingerprint(
            f"{utf8_name(file.path)}\t{file.label}\t{file.name}\t{self._size(file.path)}" for file in files
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> InputSample:
        file = self.files[position]
        try:
            content = (self.folder / file.path).read_bytes()
        except OSError as error:
            raise self._unreadable(file.path, error) from error
        return InputSample(content, file.label, file.name, utf8_name(file.path))

    def _size(self, path: str) -> int:
        try:
            return (self.folder / path).stat().st_size
        except (OSError, ValueError) as error:
            raise self._unreadable(path, error) from error

    def _unreadable(self, path: str, error: OSError | ValueError) -> MmoodError:
        reason = error.strerror if isinstance(error, OSError) else error  # ValueError: a NUL in the path
        return MmoodError(f"The image {utf8_name(str(self.folder / path))} cannot be read: {reason}.")


def from_folder(folder: Path, class_names: Sequence[str] = ()) -> FileInput:
    """Return the images of a folder: one subfolder per class, or all in one folder without labels.

    Args:
        folder: its subfolders that hold images are the classes, labelled as `mmood.classes.matching.join` says.
        class_names: names of the classes in the order of the labels; by default the folders' names.

    Raises:
        MmoodError: no image, images both in the folder and in subfolders, or names that do not fit the folders.
    """
    if not is_folder(folder):
        raise MmoodError(f"There is no folder {folder}.")
    found = find_images(folder)
    for image in found.images:
        if image.reason:
            found.passed_over.add("images in unsupported formats (such as HEIC)", image.path)
    paths = [image.path for image in found.images if not image.reason]
    of_class = [utf8_name(path.partition("/")[0]) if "/" in path else None for path in paths]
    folders = {name for name in of_class if name is not None}
    if not folders:
        return FileInput(folder, [_File(path, None, "") for path in paths], passed_over=found.passed_over)
    flat = next((path for path, name in zip(paths, of_class, strict=True) if name is None), None)
    if flat is not None:
        raise MmoodError(
            f"{folder} holds images itself ({utf8_name(flat)}) and in subfolders; subfolders are classes, so move it "
            "into one."
        )
    for name in found.folders:
        if utf8_name(name) not in folders:
            found.passed_over.add("folders without images, which are not classes", name)
    classes = join(folders, class_names, str(folder))
    labels = {name: label for label, name in enumerate(classes.folders)}
    known = ((path, labels[name]) for path, name in zip(paths, of_class, strict=True) if name is not None)
    files = [_File(path, label, classes.names[label]) for path, label in known]
    return FileInput(folder, files, classes, passed_over=found.passed_over)


def from_list(list_file: Path, images: Path, class_names: Sequence[str] = ()) -> FileInput:
    """Return the images of a list, with a label each (-1 for OoD) or without; see `read_image_list`.

    Raises:
        MmoodError: the list cannot be read, a path leaves the folder of the images, only some labels are -1, or a label
            is beyond the class names.
    """
    files = []
    for where, path, label in read_image_list(list_file):
        below = _below(path, images, where)
        if label is not None and label < 0:
            label = None
        name = Path(below).parent.name
        if label is not None and class_names:
            if label >= len(class_names):
                raise MmoodError(f"{where}: label {label} is beyond the {len(class_names)} class names.")
            name = class_names[label]
        files.append(_File(below, label, name))
    if len({file.label is None for file in files}) > 1:
        raise MmoodError(f"{list_file} has labels for some images and -1 for others; label all images or none.")
    return FileInput(images, files, class_names=class_names)


def fingerprint(lines: Iterable[str]) -> str:
    """Return the sha256 (hex) of the lines that say what an input is."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _below(path: str, images: Path, where: str) -> str:
    """Return the path of an image relative to the folder of the images."""
    below = path
    if path.startswith("/"):
        # The folder as it was named, and as the list may know it.
        folders = (images.absolute(), images.resolve())
        below = next((os.path.relpath(path, folder) for folder in folders if Path(path).is_relative_to(folder)), "..")
    if ".." in [*below.split("/"), *path.split("/")]:
        raise MmoodError(f"{where}: {path!r:.80} leaves the folder of the images, {images.absolute()} (`--images`).")
    return below
