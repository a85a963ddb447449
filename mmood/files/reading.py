"""Paths as users write them, and files of bounded size."""

from __future__ import annotations

from pathlib import Path

from mmood.errors import MmoodError

MAX_TEXT_BYTES = 2**26
"""The largest text file (names, words, JSON, YAML) that is read: 64 MiB are several million lines."""


def user_path(path: str | Path) -> Path:
    """Return a path as a user means it: `~` and `~name` stand for home folders, where a shell did not expand them.

    Raises:
        MmoodError: there is no such user, the user has no home folder, or the text holds a NUL.
    """
    if "\0" in str(path):
        raise MmoodError(f"The path {str(path)!r:.80} contains a NUL character, which no path can.")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise MmoodError(f"The path '{path}' begins with a home folder that cannot be found.") from error


def utf8_name(name: str) -> str:
    r"""Return a file's name with the bytes that are no UTF-8 escaped, so that it can stand in any text.

    >>> utf8_name("caf\udce9.jpg")
    'caf\\xe9.jpg'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_file(path: Path) -> bool:
    """Return whether there is such a file; a text that cannot be a path at all is none."""
    try:
        return path.is_file()
    except OSError:  # too long for a name
        return False


def is_folder(path: Path) -> bool:
    """Return whether there is such a folder; a text that cannot be a path at all is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def read_text(path: str | Path, what: str) -> str:
    """Return the content of a UTF-8 text file of at most `MAX_TEXT_BYTES`; `what` begins the sentence of an error.

    Raises:
        MmoodError: it cannot be read, is no UTF-8, or is larger.
    """
    return decoded(read_limited(path, what), what)


def read_limited(path: str | Path, what: str, limit: int = MAX_TEXT_BYTES) -> bytes:
    """Return the content of a file of at most `limit` bytes; MmoodError if it is larger or cannot be read."""
    try:
        with user_path(path).open("rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise MmoodError(f"{what} cannot be read: {reason}.") from error
    if len(content) > limit:
        raise MmoodError(f"{what} cannot be read: it has more than {limit} bytes.")
    return content


def decoded(content: bytes, what: str) -> str:
    """Return UTF-8 text without its byte-order mark, or raise MmoodError."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MmoodError(f"{what} cannot be read as UTF-8 text: {error}.") from error
