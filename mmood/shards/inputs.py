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
from mmood.shards.lists import ListedImage, read_image_list
from mmood.shards.masks import MaskFolder, MaskLabelList
from mmood.shards.passed_over import PassedOver
from mmood.shards.walk import FoundImages, find_images


@dataclass(frozen=True, slots=True)
class InputSample:
    """An image to pack: its bytes, what is known of it (see `SampleRow`), and the bytes of its mask if it has one."""

    image: bytes
    label: int | None
    name: str
    file: str
    mask: bytes | None = None


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
class LabelledFile:
    """An image file: its path below a folder, its label (None without one), and the name of its class or folder."""

    path: str
    label: int | None
    name: str


@dataclass(frozen=True)
class LabelledFiles:
    """The image files of a folder or a list, in order.

    Attributes:
        files: at least one.
        classes: folders and names in the order of the labels; None if unlabelled, or labelled by a list.
        class_names: names in the order of the labels, where they come from no folders.
        passed_over: what lies beside the images.
    """

    files: Sequence[LabelledFile]
    classes: Classes | None
    class_names: Sequence[str]
    passed_over: PassedOver


class FileInput:
    """Image files below a folder, packed byte for byte.

    Args:
        folder: what the paths are relative to.
        found: the files.
        masks: their masks; None for images without.
    """

    def __init__(self, folder: Path, found: LabelledFiles, masks: MaskFolder | None = None) -> None:
        self.folder = folder
        self.masks = masks
        self.files = found.files
        self.classes = found.classes
        self.passed_over = found.passed_over
        if masks is not None:
            self.passed_over.merge(masks.passed_over)
        self.class_names = found.class_names if found.classes is None else found.classes.names
        self.class_folders: Sequence[str] = () if found.classes is None else found.classes.folders
        self.fingerprint = fingerprint(
            f"{utf8_name(file.path)}\t{file.label}\t{file.name}\t{self._sizes(file.path)}" for file in found.files
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> InputSample:
        file = self.files[position]
        try:
            content = (self.folder / file.path).read_bytes()
        except OSError as error:
            raise self._unreadable(file.path, error) from error
        mask = None if self.masks is None else self.masks.of(file.path, content)
        return InputSample(content, file.label, file.name, utf8_name(file.path), mask)

    def _sizes(self, path: str) -> str:
        """Return the bytes of an image, and of its mask behind a tab if it has one."""
        try:
            size = str((self.folder / path).stat().st_size)
            return size if self.masks is None else f"{size}\t{self.masks.size_of(path)}"
        except (OSError, ValueError) as error:
            raise self._unreadable(path, error) from error

    def _unreadable(self, path: str, error: OSError | ValueError) -> MmoodError:
        reason = error.strerror if isinstance(error, OSError) else error  # ValueError: a NUL in the path
        return MmoodError(f"The image {utf8_name(str(self.folder / path))} cannot be read: {reason}.")


def from_folder(folder: Path, class_names: Sequence[str] = (), mixed: bool = False) -> FileInput:
    """Return the images of a folder as input of `mmood pack`; see `labelled_by_folder`."""
    if not is_folder(folder):
        raise MmoodError(f"There is no folder {folder}.")
    return FileInput(folder, labelled_by_folder(find_images(folder), str(folder), class_names, mixed))


def from_list(list_file: Path, images: Path, class_names: Sequence[str] = ()) -> FileInput:
    """Return the images of a list as input of `mmood pack`; see `labelled_by_list`."""
    return FileInput(images, labelled_by_list(read_image_list(list_file), list_file, images, class_names))


def with_masks(images: FileInput, folder: Path, labels: MaskLabelList) -> FileInput:
    """Return the same images, each with its mask and without a label: what is to be seen in it, its pixels say."""
    files = [LabelledFile(file.path, None, "") for file in images.files]
    masks = MaskFolder(folder, [file.path for file in files], labels)
    return FileInput(images.folder, LabelledFiles(files, None, (), images.passed_over), masks)


def labelled_by_folder(
    found: FoundImages, where: str, class_names: Sequence[str] = (), mixed: bool = False
) -> LabelledFiles:
    """Return the images of a folder: one subfolder per class, or all in one folder without labels.

    Args:
        found: subfolders that hold images are the classes, labelled as `mmood.classes.matching.join` says.
        where: what was walked, for messages.
        class_names: names of the classes in the order of the labels; by default the folders' names.
        mixed: take images both in the folder and in subfolders as images without labels.

    Raises:
        MmoodError: no image, images both in the folder and in subfolders, or names that do not fit the folders.
    """
    passed_over = found.passed_over
    for image in found.images:
        if image.reason:
            passed_over.add("images in unsupported formats (such as HEIC)", image.path)
    paths = [image.path for image in found.images if not image.reason]
    if not paths:
        raise _no_image(where, passed_over)
    of_class = [utf8_name(path.partition("/")[0]) if "/" in path else None for path in paths]
    folders = {name for name in of_class if name is not None}
    flat = next((path for path, name in zip(paths, of_class, strict=True) if name is None), None)
    if not folders or (mixed and flat is not None):
        files = [LabelledFile(path, None, name or "") for path, name in zip(paths, of_class, strict=True)]
        return LabelledFiles(files, None, (), passed_over)
    if flat is not None:
        raise MmoodError(
            f"{where} holds images itself ({utf8_name(flat)}) and in subfolders; subfolders are classes, so move it "
            "into one."
        )
    for name in found.folders:
        if utf8_name(name) not in folders:
            passed_over.add("folders without images, which are not classes", name)
    classes = join(folders, class_names, where)
    labels = {name: label for label, name in enumerate(classes.folders)}
    known = ((path, labels[name]) for path, name in zip(paths, of_class, strict=True) if name is not None)
    files = [LabelledFile(path, label, classes.names[label]) for path, label in known]
    return LabelledFiles(files, classes, (), passed_over)


def labelled_by_list(
    listed: Sequence[ListedImage], list_file: Path, images: Path, class_names: Sequence[str] = ()
) -> LabelledFiles:
    """Return the images of a list, with a label each (-1 for OoD) or without.

    Args:
        listed: its images.
        list_file: the list, for messages.
        images: the folder that its paths are relative to.
        class_names: names in the order of the labels.

    Raises:
        MmoodError: there is no image, a path leaves the folder of the images, only some labels are -1, or a label is
            beyond the class names.
    """
    files = []
    for where, path, label in listed:
        below = _below(path, images, where)
        if label is not None and label < 0:
            label = None
        name = Path(below).parent.name
        if label is not None and class_names:
            if label >= len(class_names):
                raise MmoodError(f"{where}: label {label} is beyond the {len(class_names)} class names.")
            name = class_names[label]
        files.append(LabelledFile(below, label, name))
    if not files:
        raise _no_image(str(images), PassedOver())
    if len({file.label is None for file in files}) > 1:
        raise MmoodError(f"{list_file} has labels for some images and -1 for others; label all images or none.")
    return LabelledFiles(files, None, class_names, PassedOver())


def _no_image(where: str, passed_over: PassedOver) -> MmoodError:
    return MmoodError(f"There is no image in {where}. {passed_over}".rstrip())


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
