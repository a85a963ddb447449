"""YAML that somebody else may have written: plain data, of bounded size, without a tag that builds objects."""

from __future__ import annotations

from typing import Any

import yaml

from mmood.errors import MmoodError

MAX_NODES = 10**6
"""Values of a document, each alias counted as all that it stands for: a few lines of aliases can mean billions."""


def parse_yaml(text: str, what: str) -> Any:
    """Return the data of a YAML document; `what` begins the sentence of an error.

    Raises:
        MmoodError: it is not YAML, builds something else than plain data, contains itself, or is too large.

    >>> parse_yaml("a: [1, two]", "The file x")
    {'a': [1, 'two']}
    """
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        if tree is None:
            return None
        if _size(tree, {}) > MAX_NODES:
            raise MmoodError(f"{what} is not read: with its aliases it has more than {MAX_NODES} values.")
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
        children: list[yaml.Node] = []
        if isinstance(node, yaml.ScalarNode):
            node.value.encode()  # half of a surrogate pair is no text
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        sizes[id(node)] = 1 + sum(_size(child, sizes) for child in children)
    return sizes[id(node)]
