"""Where sets lie: joining a root with a path, reading small files, opening streams.

A root is a folder, an http(s) prefix, or a command (`pipe:aws s3 cp s3://bucket/sets/{} -`) in which `{}` stands for
the path below the root; without `{}` the path is appended.
"""

from __future__ import annotations

import io
import os
import re
import urllib.parse
from pathlib import Path
from typing import IO

from mmood.errors import MmoodError
from mmood.files import user_path
from mmood.shards.http import HttpStream

MAX_SMALL_BYTES = 2**26
"""The default limit of `read_bytes` in bytes: an untrusted file must not fill the memory."""

_REMOTE = ("http://", "https://")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A path below a `pipe:` root becomes part of a shell command, so nothing that a shell interprets may pass.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._/-]+")


def is_remote(location: str) -> bool:
    """Return whether the location is an http(s) URL."""
    return location.startswith(_REMOTE)


def is_pipe(location: str) -> bool:
    """Return whether the location is a command."""
    return location.startswith("pipe:")


def is_local(location: str) -> bool:
    """Return whether the location is a path of this machine."""
    return not (is_remote(location) or is_pipe(location))


def web_address(url: str) -> str:
    """Return the http(s) address of a URL; `hf://` stands for the Hugging Face hub, or `$HF_ENDPOINT`.

    Raises:
        MmoodError: something is missing after `hf://`.

    >>> web_address("hf://datasets/owner/name/images.zip")
    'https://huggingface.co/datasets/owner/name/resolve/main/images.zip'
    """
    if not url.startswith("hf://"):
        return url
    kind, owner, name, path = [*url.removeprefix("hf://").split("/", 3), "", "", ""][:4]
    if kind != "datasets" or not path:
        raise MmoodError(f"The address '{url:.120}' must be hf://datasets/OWNER/NAME/FILE.")
    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return f"{host}/{kind}/{owner}/{name}/resolve/main/{urllib.parse.quote(path)}"


def check_set_name(name: str) -> str:
    """Return the name if it can name a set (one folder, one result file), else raise MmoodError."""
    if not _NAME.fullmatch(name):
        raise MmoodError(
            f"The name of a set is one folder of letters, digits, '.', '_' and '-', and '{name}' is not; "
            "set `data.root` to its parent folder."
        )
    return name


def check_relative(path: str) -> str | None:
    """Return why a path is not plainly below its folder, or None if it is."""
    if not path or path.startswith(("/", "~")) or ":" in path or "\\" in path:
        return "must be relative to the folder of the index, or an http(s) or pipe: URL"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "must not leave the folder of the index"
    return check_printable(path)


def check_printable(text: str) -> str | None:
    """Return why a location cannot be shown in a message, or None if it can."""
    return None if text.isprintable() else "contains characters that cannot be printed"


def join(root: str, path: str) -> str:
    """Return the location of `path` below `root`.

    >>> join("https://host/sets/", "sun/index.json")
    'https://host/sets/sun/index.json'
    >>> join("pipe:ssh host cat /sets/{}", "sun/index.json")
    'pipe:ssh host cat /sets/sun/index.json'
    """
    if is_pipe(root):
        if not _PLAIN_PATH.fullmatch(path):
            raise MmoodError(f"'{path}' cannot be used in the command '{root}'; only letters, digits and ._/- can.")
        return root.replace("{}", path) if "{}" in root else root + path
    if is_remote(root):
        return f"{root.rstrip('/')}/{urllib.parse.quote(path)}"
    return str(user_path(root) / path)


def open_stream(location: str) -> IO[bytes]:
    """Open a location for reading once, front to back.

    Commands go through `webdataset.gopen`: closing such a stream before its end kills the process behind it and raises
    OSError, and so does the end of a command that failed. Http(s) is tried again and gone on with (`HttpStream`).

    Raises:
        OSError: it cannot be opened.
    """
    if is_local(location):
        try:
            return Path(location).open("rb")
        except ValueError as error:  # a NUL, or half of a surrogate pair
            raise OSError(f"{location!r:.80} cannot be a path") from error
    if is_remote(location):
        return io.BufferedReader(HttpStream(location), 2**20)
    # Imported here: webdataset imports torch, and `mmood pack` of local files starts without it.
    from webdataset.gopen import gopen

    stream: IO[bytes] = gopen(location)
    return stream


def read_bytes(location: str, limit: int = MAX_SMALL_BYTES) -> bytes:
    """Return the whole content of a file of at most `limit` bytes.

    Raises:
        FileNotFoundError: there is no such file, here or on the server.
        OSError: it cannot be read, or is larger.
    """
    stream = open_stream(location)
    pieces, size = [], 0
    while piece := stream.read(min(2**20, limit + 1 - size)):
        pieces.append(piece)
        if (size := size + len(piece)) > limit:
            raise OSError(f"it has more than {limit} bytes")
    stream.close()
    return b"".join(pieces)
