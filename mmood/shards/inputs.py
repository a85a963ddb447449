"""What `mmood pack` packs: a folder of images, an image list, a torchvision set."""

from __future__ import annotations

import hashlib
import inspect
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mmood.errors import MmoodError, unknown
from mmood.files import read_text
from mmood.shards.reading import IMAGE_EXTENSIONS

_LABEL = re.compile(r"-?[0-9]{1,9}")
_EXTENSIONS = {"jpeg": "jpg", "tiff": "tif"}


@dataclass(frozen=True, slots=True)
class InputSample:
    """An image to pack: its bytes and extension, and what is known of it (see `SampleRow`)."""

    image: bytes
    extension: str
    label: int | None
    name: str
    file: str


class PackInput(Protocol):
    """An ordered input; the same input has the same fingerprint and gives the same samples."""

    class_names: Sequence[str]
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
        class_names: names in the order of the labels; empty if unlabelled or unknown.
    """

    def __init__(self, folder: Path, files: Sequence[_File], class_names: Sequence[str]) -> None:
        if not files:
            raise MmoodError(f"There is no image to pack in {folder}.")
        self.folder = folder
        self.files = files
        self.class_names = class_names
        self.fingerprint = _fingerprint(
            f"{file.path}\t{file.label}\t{file.name}\t{self._size(file.path)}" for file in files
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> InputSample:
        file = self.files[position]
        path = self.folder / file.path
        extension = path.suffix.lower().lstrip(".")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise MmoodError(f"The image {path} cannot be read: {error.strerror}.") from error
        return InputSample(content, _EXTENSIONS.get(extension, extension), file.label, file.name, file.path)

    def _size(self, path: str) -> int:
        try:
            return (self.folder / path).stat().st_size
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = error.strerror if isinstance(error, OSError) else error
            raise MmoodError(f"The image {self.folder / path} cannot be read: {reason}.") from error


def image_files(folder: Path) -> list[str]:
    """Return the images below a folder, as sorted relative POSIX paths."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower().lstrip(".") in IMAGE_EXTENSIONS and path.is_file()
    )


def from_folder(folder: Path, class_names: Sequence[str] = ()) -> FileInput:
    """Return the images of a folder: one subfolder per class, sorted, or all in one folder without labels.

    Args:
        folder: its subfolders that hold images are the classes, labelled in the order of their sorted names.
        class_names: readable names of the classes in that order; by default the folders' names.

    Raises:
        MmoodError: no image, images both in the folder and in subfolders, or another number of names than folders.
    """
    if not folder.is_dir():
        raise MmoodError(f"There is no folder {folder}.")
    paths = image_files(folder)
    folders = sorted({path.partition("/")[0] for path in paths if "/" in path})
    if not folders:
        return FileInput(folder, [_File(path, None, "") for path in paths], ())
    flat = next((path for path in paths if "/" not in path), None)
    if flat is not None:
        raise MmoodError(
            f"{folder} holds images itself ({flat}) and in subfolders; subfolders are classes, so move it."
        )
    names = list(class_names) or folders
    if len(names) != len(folders):
        raise MmoodError(f"{folder} has {len(folders)} class folders, and the class file has {len(names)} names.")
    labels = {name: label for label, name in enumerate(folders)}
    files = [_File(path, labels[path.partition("/")[0]], names[labels[path.partition("/")[0]]]) for path in paths]
    return FileInput(folder, files, names)


def from_list(list_file: Path, images: Path, class_names: Sequence[str] = ()) -> FileInput:
    """Return the images of an OpenOOD-style list: lines `path label`, label -1 for OoD.

    Raises:
        MmoodError: a line is not `path label`, only some labels are -1, or a label is beyond the class names.
    """
    files = []
    lines = read_text(list_file, f"The image list {list_file}").splitlines()
    for number, line in enumerate(lines, 1):
        path, _, label = line.strip().rpartition(" ")
        if not line.strip():
            continue
        if not path or not _LABEL.fullmatch(label):
            raise MmoodError(f"{list_file}, line {number}, is not `path label`: {line!r:.80}.")
        if path.startswith("/") or ".." in path.split("/"):
            raise MmoodError(f"{list_file}, line {number}: {path!r:.80} leaves the folder of the images.")
        if class_names and int(label) >= len(class_names):
            raise MmoodError(f"{list_file}, line {number}: label {label} is beyond the {len(class_names)} class names.")
        name = class_names[int(label)] if class_names and int(label) >= 0 else Path(path).parent.name
        files.append(_File(path.strip(), int(label) if int(label) >= 0 else None, name))
    if len({file.label is None for file in files}) > 1:
        raise MmoodError(f"{list_file} has labels for some images and -1 for others; a set is labelled or not.")
    return FileInput(images, files, class_names)


class TorchvisionInput:
    """A torchvision set, stored as PNG as torchvision decodes it."""

    def __init__(self, dataset: Any, identity: str) -> None:
        self.dataset = dataset
        names = getattr(dataset, "classes", ())
        self.class_names: Sequence[str] = [str(name) for name in names] if isinstance(names, list) else []
        self.fingerprint = _fingerprint([identity, str(len(dataset))])

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> InputSample:
        image, label = self.dataset[position]
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        name = self.class_names[label] if self.class_names else ""
        return InputSample(buffer.getvalue(), "png", int(label), name, "")


def from_torchvision(name: str, split: str, folder: Path, download: bool = False) -> TorchvisionInput:
    """Return a torchvision set by the name of its class.

    Args:
        name: a class of `torchvision.datasets` whose samples are (image, class index), such as CIFAR10 or SVHN.
        split: passed as `split`; for classes with a `train` flag, `train` or `test`.
        folder: where its files are.
        download: fetch them first.

    Raises:
        MmoodError: there is no such class, it has no such split, or its files are missing.
    """
    from torchvision import datasets

    if name not in datasets.__all__:
        raise unknown("torchvision set", name, datasets.__all__)
    kind = getattr(datasets, name)
    accepted = inspect.signature(kind).parameters
    options: dict[str, Any] = {"download": True} if download and "download" in accepted else {}
    if "split" in accepted:
        options["split"] = split
    elif "train" in accepted and split in ("train", "test"):
        options["train"] = split == "train"
    else:
        raise MmoodError(f"The torchvision set {name} has no split '{split}'.")
    try:
        return TorchvisionInput(kind(str(folder), **options), f"{name}/{split}")
    except (RuntimeError, ValueError, OSError) as error:
        raise MmoodError(f"The torchvision set {name} cannot be read from {folder}: {error}.") from error


def _fingerprint(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
