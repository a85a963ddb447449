"""What YAML would misunderstand in silence, refused: keys given twice, colons without a blank, names like `no`."""

from __future__ import annotations

import re

import yaml

from mmood.errors import MmoodError
from mmood.files import check_keys, children, nodes

_NO_BLANK = re.compile(r"([\w.-]+):(\S.*)", re.DOTALL)


def check_config(text: str, what: str) -> None:
    """Refuse a config, or a setting in YAML, that does not mean what it says; `what` begins the sentence.

    Raises:
        MmoodError: a key is given twice, a colon has no blank after it, or YAML would read a name in a list (or a key)
            as a truth value or as a number in base 60.
        yaml.YAMLError: it is not YAML.
    """
    tree = yaml.compose(text, Loader=yaml.SafeLoader)
    if tree is None or isinstance(tree, yaml.ScalarNode):
        return
    check_keys(tree, what)
    for node in nodes(tree):
        _check_blank(node, what)
        _check_names(node, what)


def _check_blank(node: yaml.Node, what: str) -> None:
    if not isinstance(node, yaml.MappingNode) or not node.flow_style:
        return
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.style is not None:
            continue
        # `{far:sun}` is the key `far:sun` without a value; `{far:[sun]}` is no YAML to some readers.
        joined = _NO_BLANK.fullmatch(key.value) if isinstance(value, yaml.ScalarNode) and value.value == "" else None
        if joined or (isinstance(value, yaml.CollectionNode) and value.start_mark.index == key.end_mark.index + 1):
            name, rest = (joined[1], joined[2]) if joined else (key.value, "[...]")
            raise MmoodError(f"{what} has no space after the colon of '{name:.60}:'; write '{name:.60}: {rest:.60}'.")


def _check_names(node: yaml.Node, what: str) -> None:
    named = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else children(node)
    for item in named:
        if isinstance(item, yaml.ScalarNode) and item.style is None and (meaning := _surprise(item)):
            raise MmoodError(
                f"{what} has {item.value} without quotes in line {item.start_mark.line + 1}, which YAML reads as "
                f"{meaning}; if it is a name, put it in quotes: '{item.value}'."
            )


def _surprise(item: yaml.ScalarNode) -> str | None:
    """Return what a scalar means to YAML, where that is not what it looks like."""
    kind = item.tag.rpartition(":")[2]
    if kind == "bool" and item.value.lower() not in ("true", "false"):
        return "true" if item.value.lower() in ("yes", "on") else "false"
    if kind in ("int", "float") and ":" in item.value:
        return "a number in base 60"
    return None
