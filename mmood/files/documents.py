"""JSON and YAML that somebody else may have written: plain data, of bounded size, without a tag that builds objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from mmood.errors import MmoodError

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

MAX_NODES = 10**6
"""Values of a document, each alias counted as all that it stands for: a few lines of aliases can mean billions."""


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
        raise MmoodError(f"{what} cannot be read as JSON: it is nested too deeply.") from error
    except ValueError as error:
        raise MmoodError(f"{what} is not JSON: {error}.") from error
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


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
            raise MmoodError(f"{what} is too large: with its aliases expanded it has more than {MAX_NODES} values.")
        check_keys(tree, what)
        return yaml.safe_load(text)
    except RecursionError as error:
        raise MmoodError(f"{what} cannot be read as YAML: it is nested too deeply.") from error
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
