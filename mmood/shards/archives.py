"""Archives of images as they are published: zip and tar files, and folders, read where they lie.

Nothing is unpacked: a member's name is only ever compared with other names and never becomes a path on this machine, so
no archive can write anywhere. Members that leave the archive's folder, links, encrypted or oversized members and
archives that expand without measure are refused or passed over.
"""

from __future__ import annotations

import contextlib
import gzip
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, final

from mmood.errors import MmoodError
from mmood.files import utf8_name, whole_file
from mmood.shards.passed_over import PassedOver
from mmood.shards.tar import MAX_CONTENT_BYTES, TarStream
from mmood.shards.walk import find_images, is_hidden

MAX_MEMBERS = 2**22
"""Members of an archive, at most."""
MAX_RATIO = 200
"""How many times a member, or a compressed tar file, may grow when it is decompressed; images hardly do."""
ROOM = 2**24
"""Bytes to which anything may grow, whatever it was before: lists of images do shrink well."""

LINKS = "links and devices"
TOO_LARGE = "files larger than any image"

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2")


class ArchiveError(MmoodError):
    """An archive is damaged, of an unknown form, or cannot be trusted."""


class Member(NamedTuple):
    """A file in an archive.

    Attributes:
        path: its path there, with `/` between folders.
        size: bytes.
        place: where its content begins; what that means is the archive's affair.
    """

    path: str
    size: int
    place: int


class AbstractArchive(ABC):
    """The files of an archive.

    Attributes:
        name: what it is called in messages.
        members: in the order of the archive.
        passed_over: what was left out.
        only_images: whether the members are images, whatever they are called.
    """

    only_images = False

    def __init__(self, name: str, members: Sequence[Member], passed_over: PassedOver) -> None:
        self.name = name
        self.members = members
        self.passed_over = passed_over

    @abstractmethod
    def read(self, member: Member) -> bytes:
        """Return the content of a member; ArchiveError if it is damaged."""

    @abstractmethod
    def close(self) -> None:
        """Close the file behind it."""


def is_archive(path: Path) -> bool:
    """Return whether a file is called like an archive that can be read."""
    return path.name.lower().endswith((".zip", *_TARS))


def is_compressed_tar(path: Path) -> bool:
    """Return whether a file begins like a compressed tar file, which must be decompressed before it can be read."""
    with path.open("rb") as file:
        return file.read(3) in (b"\x1f\x8b\x08", b"BZh")


def open_archive(path: Path) -> AbstractArchive:
    """Return the files of a folder, a zip file or an uncompressed tar file.

    Raises:
        ArchiveError: it is none of these, is damaged, or cannot be trusted.
    """
    if path.is_dir():
        return FolderArchive(path)
    try:
        if is_compressed_tar(path):
            raise tarfile.ReadError("it is compressed")
        archive = ZipArchive(path) if zipfile.is_zipfile(path) and not _is_tar(path) else TarArchive(path)
        if not archive.members and not archive.passed_over:
            archive.close()
            raise tarfile.ReadError("it holds no file")
        return archive
    except (OSError, tarfile.TarError, zipfile.BadZipFile, NotImplementedError, ValueError, zlib.error) as error:
        raise ArchiveError(f"{path} cannot be read as an archive: {error}.") from error


@final
class ZipArchive(AbstractArchive):
    """The files of a zip file."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        passed_over = PassedOver()
        infos = self._zip.infolist()
        if len(infos) > MAX_MEMBERS:
            raise ArchiveError(f"{path} has {len(infos):,} members; an archive of images has at most {MAX_MEMBERS:,}.")
        self._infos = infos
        members = []
        for place, info in enumerate(infos):
            if info.is_dir():
                continue
            name = safe_path(info.filename, path)
            if stat.S_ISLNK(info.external_attr >> 16):
                passed_over.add(LINKS, name)
            elif info.flag_bits & 1:
                raise ArchiveError(f"{path} is encrypted; decrypt it first.")
            elif info.file_size > max(ROOM, MAX_RATIO * info.compress_size):
                raise ArchiveError(
                    f"{path} cannot be trusted: '{name:.80}' grows from {info.compress_size:,} to {info.file_size:,} "
                    "bytes."
                )
            elif info.file_size > MAX_CONTENT_BYTES:
                passed_over.add(TOO_LARGE, name)
            else:
                members.append(Member(name, info.file_size, place))
        super().__init__(path.name, members, passed_over)

    def read(self, member: Member) -> bytes:
        """See AbstractArchive."""
        try:
            with self._zip.open(self._infos[member.place]) as file:
                content = file.read(member.size + 1)
        except (OSError, zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError) as error:
            raise ArchiveError(f"{self.name} is damaged: '{member.path:.80}' cannot be read ({error}).") from error
        if len(content) != member.size:
            raise ArchiveError(f"{self.name} is damaged: '{member.path:.80}' is not as large as it says.")
        return content

    def close(self) -> None:
        """See AbstractArchive."""
        self._zip.close()


@final
class TarArchive(AbstractArchive):
    """The files of an uncompressed tar file, and those of tar files in it, as in the training set of ImageNet."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        passed_over = PassedOver()
        try:
            members = list(self._listed(path, passed_over))
        except BaseException:
            self._file.close()
            raise
        super().__init__(path.name, members, passed_over)

    def _listed(self, path: Path, passed_over: PassedOver) -> Iterator[Member]:
        nested: list[Member] = []
        found = 0
        for member in _tar_members(self._file, path):
            if (found := found + 1) > MAX_MEMBERS:
                raise ArchiveError(f"{path} has more than {MAX_MEMBERS:,} members; an archive of images has not.")
            if member.path.lower().endswith(".tar"):
                nested.append(member)
            elif member.size > MAX_CONTENT_BYTES:
                passed_over.add(TOO_LARGE, member.path)
            else:
                yield member
        for outer in nested:
            self._file.seek(outer.place)
            folder = outer.path[: -len(".tar")]
            for inner in _tar_members(self._file, path):
                if (found := found + 1) > MAX_MEMBERS:
                    raise ArchiveError(f"{path} has more than {MAX_MEMBERS:,} members; an archive of images has not.")
                if inner.place + inner.size > outer.place + outer.size:
                    raise ArchiveError(f"{path} is damaged: '{outer.path:.80}' is cut off.")
                yield Member(f"{folder}/{inner.path}", inner.size, inner.place)

    def read(self, member: Member) -> bytes:
        """See AbstractArchive."""
        self._file.seek(member.place)
        content = self._file.read(member.size)
        if len(content) != member.size:
            raise ArchiveError(f"{self.name} is damaged: it ends within '{member.path:.80}'.")
        return content

    def close(self) -> None:
        """See AbstractArchive."""
        self._file.close()


@final
class FolderArchive(AbstractArchive):
    """The images below a folder."""

    only_images = True

    def __init__(self, path: Path) -> None:
        self._folder = path
        found = find_images(path)
        self._paths = [image.path for image in found.images if not image.reason]
        members = [Member(utf8_name(name), 0, place) for place, name in enumerate(self._paths)]
        super().__init__(str(path), members, found.passed_over)

    def read(self, member: Member) -> bytes:
        """See AbstractArchive."""
        file = self._folder / self._paths[member.place]
        try:
            return file.read_bytes()
        except OSError as error:
            raise ArchiveError(f"The image {file} cannot be read: {error.strerror}.") from error

    def close(self) -> None:
        """See AbstractArchive."""


def decompress(path: Path, target: Path) -> None:
    """Write the tar file within a compressed one, whole or not at all.

    Raises:
        ArchiveError: it is damaged, or grows without measure.
        MmoodError: the target cannot be written.
    """
    limit = max(ROOM, MAX_RATIO * path.stat().st_size)
    written = 0
    with path.open("rb") as packed, _decompressed(packed) as plain, whole_file(target) as out:
        try:
            while piece := plain.read(2**20):
                if (written := written + len(piece)) > limit:
                    raise ArchiveError(f"{path} cannot be trusted: it grows to more than {limit:,} bytes.")
                out.write(piece)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ArchiveError(f"{path} is damaged: {error}.") from error


@contextlib.contextmanager
def _decompressed(packed: BinaryIO) -> Iterator[BinaryIO]:
    import bz2

    begin = packed.read(2)
    packed.seek(0)
    with gzip.GzipFile(fileobj=packed) if begin == b"\x1f\x8b" else bz2.BZ2File(packed) as plain:
        yield plain  # type: ignore[misc]  # both are readers of bytes


def safe_path(name: str, archive: Path) -> str:
    """Return a member's path as it is compared with others; ArchiveError if it leads out of the archive's folder."""
    path = name.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or (parts and parts[0][1:2] == ":"):
        raise ArchiveError(f"{archive} cannot be trusted: its member {name!r:.80} leads out of its folder.")
    return utf8_name("/".join(parts))


def is_hidden_path(path: str) -> bool:
    """Return whether a file belongs to a system and not to the set, such as `__MACOSX/._x.jpg`."""
    return any(map(is_hidden, path.split("/")))


def _tar_members(file: BinaryIO, path: Path) -> Iterator[Member]:
    tar = TarStream(file)
    for name in tar:
        yield Member(safe_path(name, path), tar.size, file.tell())


def _is_tar(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(262)[257:262] == b"ustar"
