"""Where a method is used: the configs that name it, and the names that they give it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from mmood.configuration.config_files import available, find


@cache
def _uses() -> dict[str, dict[str, set[str]]]:
    """Return class -> config -> the names under which the config has it."""
    found: dict[str, dict[str, set[str]]] = {}
    for config, _ in available():
        for key, name in _classes(yaml.safe_load(find(config).read_text(encoding="utf-8"))):
            found.setdefault(name, {}).setdefault(config, set()).add(key)
    return found


def _classes(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, class) of every `class_path` in a config."""
    if isinstance(value, dict):
        if isinstance(path := value.get("class_path"), str):
            yield key, path.rpartition(".")[2]
        for name, item in value.items():
            yield from _classes(item, str(name) if name != "init_args" else key)
    elif isinstance(value, list):
        for item in value:
            yield from _classes(item, key)


def configs_of(method: type) -> list[str]:
    """Return the configs that use a method: those of real models first, of them one named like it or zero-shot."""
    plain = method.__name__.lower()

    def order(name: str) -> tuple[bool, bool, bool, str]:
        return name.startswith("demo_"), plain not in name.replace("_", ""), "vitb16_zeroshot" not in name, name

    return sorted(_uses().get(method.__name__, {}), key=order)


def names_of(method: type) -> list[str]:
    """Return the names that the configs give to a score."""
    names = set[str]().union(*_uses().get(method.__name__, {}).values())
    return sorted(names - {"score"})  # a score in the settings of another one
