"""The recipes that come with mmood, each read when it is asked for."""

from __future__ import annotations

import functools
from importlib import resources

from mmood.errors import unknown
from mmood.recipes.recipe import Recipe, parse_recipe

_FOLDER = resources.files("mmood.recipes") / "sets"


@functools.cache
def recipe_names() -> tuple[str, ...]:
    """Return the names of all known sets, sorted."""
    return tuple(sorted(file.name.removesuffix(".yaml") for file in _FOLDER.iterdir() if file.name.endswith(".yaml")))


@functools.cache
def known_recipe(name: str) -> Recipe | None:
    """Return the recipe of a known set, or None."""
    if name not in recipe_names():
        return None
    return parse_recipe((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), f"The recipe of '{name}'")


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a known set; MmoodError with the nearest name if there is none."""
    recipe = known_recipe(name)
    if recipe is None:
        raise unknown("set", name, recipe_names())
    return recipe
