"""How jsonargparse reads YAML here: every config, every part of one and every flag is checked first."""

from __future__ import annotations

from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from mmood.configuration.yaml_checks import check_config
from mmood.files import nodes

_LONGEST = 60
_load = get_loader("yaml")


def use_checked_yaml() -> None:
    """Check all YAML that jsonargparse reads from now on, in this process."""
    set_loader("yaml", _checked, exceptions=(yaml.YAMLError,))


def _checked(text: str) -> Any:
    shown = " ".join(text.split())
    check_config(text, f"The setting '{shown[:_LONGEST]}{' ...' if len(shown) > _LONGEST else ''}'")
    return _load(_with_null(text))


def _with_null(text: str) -> str:
    """Return YAML with null for every None without quotes.

    jsonargparse reads `--model.training.shots null` and hands it on to the parser of the model as the text `None`,
    which a setting that takes text would take for its value.

    >>> _with_null("{start: None, names: ['None', None of these]}")
    "{start: null, names: ['None', None of these]}"
    """
    tree = yaml.compose(text, Loader=yaml.SafeLoader) if "None" in text else None
    found = [] if tree is None else [node for node in nodes(tree) if isinstance(node, yaml.ScalarNode)]
    places = {(node.start_mark.index, node.end_mark.index) for node in found if node.style is None}
    for start, end in sorted(places, reverse=True):
        if text[start:end] == "None":
            text = f"{text[:start]}null{text[end:]}"
    return text
