"""Names files that come with mmood, under names of their own; `mmood propose --method wordnet` made them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from mmood.files import is_file, parse_json, user_path
from mmood.words.names_file import Group, NamesFile

SHIPPED: dict[str, tuple[str, Group | None]] = {
    "imagenet-wordnet": ("imagenet-wordnet", None),
    "imagenet-wordnet-near": ("imagenet-wordnet", "near"),
    "imagenet-wordnet-far": ("imagenet-wordnet", "far"),
    "demo-wordnet": ("demo-wordnet", None),
}
"""Name of a list -> its file, and the group of names that it is; None for all."""


def is_shipped(source: str | Path) -> bool:
    """Return whether a source of names is one of these lists; a file of the same name wins."""
    return str(source) in SHIPPED and not is_file(user_path(source))


def load_shipped(name: str) -> NamesFile:
    """Return one of these lists."""
    stem, group = SHIPPED[name]
    content = resources.files("mmood.words").joinpath(f"assets/{stem}.json").read_bytes()
    loaded = NamesFile.from_document(parse_json(content, f"The list {name}"), f"The list {name}")
    return loaded if group is None else loaded.only(group)
