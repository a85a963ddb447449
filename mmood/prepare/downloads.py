"""The files that a preparation fetched: each checked by its hash before it is used, and none fetched twice.

A hash that the recipe does not state is recorded when the set is complete, and is binding from then on ("trust on first
use"): a publisher that changes a file is noticed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mmood.errors import MmoodError
from mmood.files import parse_json, read_limited, write_atomically
from mmood.output.console import Bar, progress_bar
from mmood.output.printing import complain, say
from mmood.prepare.transfer import NoRoomError, check_room, forget, part_of, transfer
from mmood.recipes.recipe import Need, SourceFile
from mmood.shards.archives import decompress, is_compressed_tar
from mmood.shards.locations import web_address

FOLDER = ".prepare"
"""Folder below the root for downloads and hashes."""
_HASHES = "hashes.json"


@dataclass(frozen=True)
class Fetched:
    """A file that is there and has the hash it must have.

    Attributes:
        file: what it is.
        path: where it is.
        sha256: its hash in hex.
        own: whether it was fetched by a preparation, and may be deleted by one.
    """

    file: SourceFile
    path: Path
    sha256: str
    own: bool


@final
class Downloads:
    """The downloads below a root.

    Args:
        root: folder of the sets.
        quiet: show no progress.
        hub_client: fetch `hf://` files with the huggingface_hub library.
        offline: fetch nothing.
    """

    def __init__(self, root: Path, quiet: bool, hub_client: bool, offline: bool) -> None:
        self.folder = root / FOLDER
        self.offline = offline
        self._quiet = quiet
        self._hub_client = hub_client
        self._checked: dict[Path, str] = {}

    def path(self, file: SourceFile) -> Path:
        """Return where a file goes: files of the same name from different places keep apart."""
        place = hashlib.sha256((file.urls[0] if file.urls else file.name).encode()).hexdigest()[:8]
        return self.folder / place / file.name

    def there(self, need: Need) -> SourceFile | None:
        """Return the file of a need that is already there as a whole."""
        return next((file for file in need.files if self.path(file).is_file()), None)

    def begun(self, file: SourceFile) -> int:
        """Return how many bytes of an unfinished file are there."""
        part = part_of(self.path(file))
        return part.stat().st_size if part.is_file() else 0

    def fetch(self, need: Need) -> Fetched:
        """Return a file of a need, fetched unless it is there: the first that one of its addresses gives intact.

        Raises:
            MmoodError: none does; says why of each address.
        """
        there = self.there(need)
        reasons: list[str] = []
        if there is not None:
            path = self.path(there)
            try:
                return Fetched(there, path, self.check(there, path), True)
            except _HashError as error:
                if self.offline:
                    raise
                forget(path)
                complain(f"{error}; it is fetched anew.")
        for file in need.files:
            for url in file.urls:
                try:
                    return self._fetched(file, url)
                except NoRoomError:
                    raise
                except (OSError, MmoodError) as error:
                    reasons.append(f"{web_address(url)}: {str(error).rstrip('.')}.")
        raise MmoodError(f"{need.best.name} could not be fetched. {' '.join(reasons)}")

    def _fetched(self, file: SourceFile, url: str) -> Fetched:
        path = self.path(file)
        try:
            self._bring(file, url, path)
        except OSError as error:
            if error.errno is None:  # the server's words
                raise
            raise NoRoomError(
                f"{path} cannot be written: {error.strerror}. What came is kept; run the same command again to resume."
            ) from error
        try:
            return Fetched(file, path, self.check(file, path), True)
        except _HashError:
            forget(path)
            raise

    def check(self, file: SourceFile, path: Path) -> str:
        """Return the sha256 of a file; MmoodError if it is not the one that is pinned, or was recorded before."""
        if path in self._checked:
            return self._checked[path]
        if file.bytes is not None and path.stat().st_size != file.bytes:
            raise _HashError(f"{file.name} has {path.stat().st_size:,} bytes and should have {file.bytes:,}")
        found = self._hashes(path, file.name, with_md5=file.md5 is not None)
        for kind, wanted in (("sha256", file.sha256), ("md5", file.md5)):
            if wanted is not None and found[kind] != wanted:
                raise _HashError(f"{file.name} has the {kind} {found[kind][:16]}..., and should have {wanted[:16]}...")
        known = self.recorded().get(_key(file))
        if not file.pinned and known is not None and known != found["sha256"]:
            raise _HashError(
                f"{file.name} has the sha256 {found['sha256'][:16]}..., but had {known[:16]}... at first use; if the "
                f"publisher is known to have changed it, remove its line from {self.folder / _HASHES}"
            )
        self._checked[path] = found["sha256"]
        return found["sha256"]

    def sha256(self, path: Path) -> str:
        """Return the sha256 of a file of the user that no recipe knows by name."""
        if path not in self._checked:
            self._checked[path] = self._hashes(path, path.name, with_md5=False)["sha256"]
        return self._checked[path]

    def recorded(self) -> Mapping[str, str]:
        """Return the hashes recorded at first use, by address."""
        path = self.folder / _HASHES
        if not path.is_file():
            return {}
        what = f"The hashes {path}"
        found = parse_json(read_limited(path, what), what)
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise MmoodError(f"{what} must be an object of texts; restore it, or delete it to trust all files anew.")
        return found

    def record(self, fetched: Fetched) -> None:
        """Record the hash of a file that no recipe pins, and say so; the first time only."""
        known = self.recorded()
        if fetched.file.pinned or not fetched.own or _key(fetched.file) in known:
            return
        merged = dict(sorted({**known, _key(fetched.file): fetched.sha256}.items()))
        write_atomically(self.folder / _HASHES, (json.dumps(merged, indent=1) + "\n").encode())
        say(f"{fetched.file.name}: no hash is published; trusted at first use and recorded, sha256 {fetched.sha256}")

    def plain(self, path: Path) -> Path:
        """Return the archive to read: the file itself, or the tar file in a compressed one, written beside it."""
        if path.is_dir() or not is_compressed_tar(path):
            return path
        target = self._plain(path)
        if not target.is_file():
            check_room(self.folder, path.stat().st_size, f"decompressing {path.name}")
            with self._bar(f"decompressing {path.name}", None):
                decompress(path, target)
        return target

    def drop(self, path: Path) -> None:
        """Delete a download, and what was decompressed from it."""
        forget(self._plain(path))
        if path.parent.parent == self.folder:
            forget(path)

    def _plain(self, path: Path) -> Path:
        place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
        stem = path.name.lower().removesuffix(".gz").removesuffix(".bz2").removesuffix(".tgz").removesuffix(".tar")
        return self.folder / place / f"{stem}.tar"

    def _bring(self, file: SourceFile, url: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._hub_client and url.startswith("hf://"):
            _from_hub(url, path)
            return
        with self._bar(file.name, file.expected_bytes) as bar:
            transfer(file, url, path, bar)

    def _hashes(self, path: Path, name: str, with_md5: bool) -> dict[str, str]:
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        with self._bar(f"checking {name}", path.stat().st_size) as bar, path.open("rb") as file:
            while piece := file.read(2**20):
                sha256.update(piece)
                if with_md5:
                    md5.update(piece)
                bar.advance(len(piece))
        return {"sha256": sha256.hexdigest(), "md5": md5.hexdigest()}

    def _bar(self, title: str, total: int | None) -> AbstractContextManager[Bar]:
        return progress_bar(title, total, self._quiet, transient=True, in_bytes=True)


class _HashError(MmoodError):
    """A file is not the one it should be."""


def _key(file: SourceFile) -> str:
    return file.urls[0] if file.urls else file.name


def _from_hub(url: str, path: Path) -> None:
    """Fetch a file with the huggingface_hub library, which knows the user's token and resumes by itself."""
    kind, owner, name, file = url.removeprefix("hf://").split("/", 3)
    folder = path.with_name(f"{path.name}.hub")
    try:
        found = _hub_download()(f"{owner}/{name}", file, repo_type=kind.removesuffix("s"), local_dir=folder)
    except Exception as error:  # of any of the libraries that it uses
        raise MmoodError(f"huggingface_hub could not fetch it ({type(error).__name__}: {error})") from error
    Path(found).replace(path)
    shutil.rmtree(folder, ignore_errors=True)


def _hub_download() -> Callable[..., str]:
    from huggingface_hub import hf_hub_download

    return hf_hub_download
