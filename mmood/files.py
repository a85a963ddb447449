"""Files that are either whole or not there; JSON and YAML that somebody else may have written."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import yaml

from mmood.errors import MmoodError

UNFINISHED = ".unfinished"
"""How the name of a file ends that is being written."""

_DAY = 24 * 60 * 60  # seconds
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

MAX_TEXT_BYTES = 2**26
"""The largest text file (names, words, JSON, YAML) that is read: 64 MiB are several million lines."""

MAX_NODES = 10**6
"""Values of a document, each alias counted as all that it stands for: a few lines of aliases can mean billions."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` when the block ends, and is deleted if it raises.

    A reader sees the old file or the new one, never a part, also if the machine goes down. What a killed process left
    of an earlier attempt in the folder is deleted.

    Raises:
        MmoodError: the file cannot be written; names the reason (no space, read-only).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(path.parent)
        handle, temporary = _locked_temporary(path)
        # Closed, and the lock with it, when the file has its name.
        with os.fdopen(handle, "wb") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(0o644)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise MmoodError(f"{path} cannot be written: {error.strerror or error}.") from error


def _locked_temporary(path: Path) -> tuple[int, Path]:
    """Return a new file beside `path`, open and locked, which says that its process is alive."""
    while True:
        handle, name = tempfile.mkstemp(UNFINISHED, f".{path.name}.{_host()}.", path.parent)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # somebody tidied up before it was locked


def remove_unfinished(folder: Path) -> None:
    """Delete the temporary files that killed processes left in a folder.

    One of this machine is dead if nobody locks it; one of another machine, whose locks may not be seen here, if it is
    a day old besides.
    """
    for path in folder.glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if f".{_host()}." in path.name or time.time() - os.fstat(file.fileno()).st_mtime > _DAY:
                path.unlink()


def _host() -> str:
    return re.sub(r"[^\w-]", "-", socket.gethostname())[:32]


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all; MmoodError names the reason if it cannot be."""
    with whole_file(path) as file:
        file.write(content)


def user_path(path: str | Path) -> Path:
    """Return a path as a user means it: `~` and `~name` stand for home folders, where a shell did not expand them.

    Raises:
        MmoodError: there is no such user, the user has no home folder, or the text holds a NUL.
    """
    if "\0" in str(path):
        raise MmoodError(f"The path {str(path)!r:.80} holds a NUL, which no path can.")
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


def parse_json(content: bytes, what: str) -> Any:
    """Return the value of a JSON text in UTF-8; `what` begins the sentence of an error.

    Stricter than Python's reader: no NaN and no infinity, which JSON does not have, and no half of a surrogate pair,
    which no file and no terminal takes.

    Raises:
        MmoodError: it is no JSON, or nested too deeply.

    >>> parse_json(b'{"n": [1, 2.5]}', "The file x")
    {'n': [1, 2.5]}
    """
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_no_constant)
        if _SURROGATE.search(content):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise MmoodError(f"{what} is not JSON that can be read: it is nested too deeply.") from error
    except ValueError as error:
        raise MmoodError(f"{what} is not JSON: {error}.") from error
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def parse_yaml(text: str, what: str) -> Any:
    """Return the data of a YAML document; `what` begins the sentence of an error.

    Raises:
        MmoodError: it is not YAML, builds something else than plain data, contains itself, is too large, or gives a key
            twice, of which YAML would keep the last alone.

    >>> parse_yaml("a: [1, two]", "The file x")
    {'a': [1, 'two']}
    """
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        if tree is None:
            return None
        if _size(tree, {}) > MAX_NODES:
            raise MmoodError(f"{what} is not read: with its aliases it has more than {MAX_NODES} values.")
        check_keys(tree, what)
        return yaml.safe_load(text)
    except RecursionError as error:
        raise MmoodError(f"{what} is not YAML that can be read: it is nested too deeply.") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        # PyYAML lets what int(), float() and datetime raise on odd numbers and dates pass, and more on odd tags.
        raise MmoodError(f"{what} is not valid YAML: {' '.join(str(error).split())}.") from error


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return the number of values that a node stands for; each node is visited once."""
    if id(node) not in sizes:
        sizes[id(node)] = MAX_NODES + 1  # until it is known: a node that contains itself has no end
        if isinstance(node, yaml.ScalarNode):
            node.value.encode()  # half of a surrogate pair is no text
        sizes[id(node)] = 1 + sum(_size(child, sizes) for child in children(node))
    return sizes[id(node)]


def check_keys(tree: yaml.Node, what: str) -> None:
    """Raise MmoodError if a mapping of a YAML document gives a key twice; it names the key and both lines."""
    for node in nodes(tree):
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                where = f"in line {line}" if line == lines[name] else f"in lines {lines[name]} and {line}"
                raise MmoodError(
                    f"{what} gives the key '{key.value:.80}' twice, {where}, and only the last would count; leave one "
                    "of them out, or join them."
                )
            lines[name] = line


def nodes(tree: yaml.Node) -> Iterator[yaml.Node]:
    """Yield every node of a document once, keys included."""
    seen: set[int] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        waiting += children(node)


def children(node: yaml.Node) -> list[yaml.Node]:
    """Return the items of a sequence, the keys and values of a mapping, and nothing of a scalar."""
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return []
