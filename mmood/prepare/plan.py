"""The plan of a preparation: what is there, what comes from where, how much it is, what is left to the user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmood.data.benchmarks import BENCHMARKS
from mmood.errors import MmoodError, unknown
from mmood.prepare.downloads import Downloads
from mmood.prepare.given import Given
from mmood.recipes.recipe import Need, Recipe
from mmood.recipes.registry import known_recipe, recipe_names
from mmood.shards.index import MissingSetError, SetIndex
from mmood.shards.shard_index import load_index

State = Literal["there", "fetched", "given", "begun", "to fetch", "by hand", "offline"]


@dataclass(frozen=True)
class NeedPlan:
    """Where a file will come from.

    Attributes:
        need: the file, and what can take its place.
        state: `given` lies below `--from`, `fetched` below the root, `begun` is a part of it there; `by hand` has no
            address, `offline` has one that may not be used.
        path: where it lies, None if it does not.
        bytes: how many are still to come, None if that is not known.
    """

    need: Need
    state: State
    path: Path | None
    bytes: int | None

    @property
    def is_missing(self) -> bool:
        """Whether it cannot be had without the user."""
        return self.state in ("by hand", "offline")


@dataclass(frozen=True)
class SetPlan:
    """What will be done for a set.

    Attributes:
        recipe: of the set.
        index: the set as it is there, None if it is still to be made.
        lists: where its lists come from.
        images: where its archives come from.
        places: folders and archives below `--from` that are called like the set, to be tried first.
    """

    recipe: Recipe
    index: SetIndex | None
    lists: tuple[NeedPlan, ...] = ()
    images: tuple[NeedPlan, ...] = ()
    places: tuple[Path, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Whether the set is complete."""
        return self.index is not None

    @property
    def missing(self) -> tuple[NeedPlan, ...]:
        """What only the user can get."""
        if self.is_ready:
            return ()
        images = () if self.places else self.images
        return tuple(part for part in self.lists + images if part.is_missing)


@dataclass(frozen=True)
class Plan:
    """What will be done, in order: a set that others are made of comes before them."""

    root: Path
    sets: tuple[SetPlan, ...]

    @property
    def to_do(self) -> tuple[SetPlan, ...]:
        """The sets that are still to be made."""
        return tuple(entry for entry in self.sets if not entry.is_ready)

    def downloads(self) -> dict[Path, NeedPlan]:
        """Return the files to be fetched, each once, by where they will be."""
        found: dict[Path, NeedPlan] = {}
        for entry in self.to_do:
            for part in entry.lists + (() if entry.places else entry.images):
                if part.state in ("to fetch", "begun") and part.path is not None:
                    found.setdefault(part.path, part)
        return found


def wanted_recipes(names: Iterable[str], own: Iterable[Recipe]) -> list[Recipe]:
    """Return the recipes of benchmarks and sets, and of the sets that those are made of, each once.

    Raises:
        MmoodError: a name is neither a benchmark nor a set.
    """
    recipes = {recipe.name: recipe for recipe in own}
    wanted: dict[str, Recipe] = {}

    def add(name: str, above: tuple[str, ...] = ()) -> None:
        recipe = recipes.get(name) or known_recipe(name)
        if recipe is None:
            raise unknown("benchmark or set", name, [*BENCHMARKS, *recipe_names(), *recipes], limit=50)
        if name in above:
            raise MmoodError(f"The recipe of '{name}' is made of itself (`sets`: {' -> '.join([*above, name])}).")
        for part in recipe.sets:
            add(part, (*above, name))
        wanted.setdefault(name, recipe)

    # A name that is both is the benchmark, which has the set.
    for name in [*names, *recipes]:
        for part in _members(name):
            add(part)
    return list(wanted.values())


def _members(name: str) -> list[str]:
    """Return the sets of a benchmark, or the name of a set as it is."""
    if name not in BENCHMARKS:
        return [name]
    return list(dict.fromkeys(BENCHMARKS[name].sets))


def make_plan(root: Path, recipes: Sequence[Recipe], given: Given, downloads: Downloads) -> Plan:
    """Return the plan for some sets.

    Args:
        root: folder of the sets.
        recipes: of the sets, in order.
        given: what users fetched themselves.
        downloads: what was fetched before.

    Raises:
        MmoodError: a set is there with another number of images than its recipe states.
    """

    def plan_of(recipe: Recipe) -> SetPlan:
        index, lists = ready(root, recipe), recipe.lists
        if index is not None:
            return SetPlan(recipe, index)
        return SetPlan(
            recipe,
            None,
            tuple(_planned(need, given.image_list(need) or given.archive(need), downloads) for need in lists),
            tuple(_planned(need, given.archive(need), downloads) for need in recipe.images),
            tuple(given.places(recipe)) if recipe.images else (),
        )

    return Plan(root, tuple(map(plan_of, recipes)))


def ready(root: Path, recipe: Recipe) -> SetIndex | None:
    """Return the index of a set that is there, None if it is not; MmoodError if it is another one."""
    try:
        index = load_index(str(root), recipe.name)
    except MissingSetError:
        return None
    if recipe.count not in (None, index.count):
        raise MmoodError(
            f"{root / recipe.name} is there with {index.count:,} images, but '{recipe.name}' has {recipe.count:,}; "
            "rename that folder, or delete it to make the set anew."
        )
    return index


def _planned(need: Need, given: Path | None, downloads: Downloads) -> NeedPlan:
    if given is not None:
        return NeedPlan(need, "given", given, 0)
    there = downloads.there(need)
    if there is not None:
        return NeedPlan(need, "fetched", downloads.path(there), 0)
    best = next((file for file in need.files if file.urls), None)
    if best is None:
        return NeedPlan(need, "by hand", None, need.best.expected_bytes)
    if downloads.offline:
        return NeedPlan(need, "offline", None, best.expected_bytes)
    begun, size = downloads.begun(best), best.expected_bytes
    left = None if size is None else max(size - begun, 0)
    return NeedPlan(need, "begun" if begun else "to fetch", downloads.path(best), left)


def bytes_to_come(plan: Plan) -> tuple[int, int]:
    """Return the bytes that are known to come, and the number of files whose size is not known."""
    parts = plan.downloads().values()
    return sum(part.bytes or 0 for part in parts), sum(part.bytes is None for part in parts)


def bytes_on_disk(plan: Plan) -> int:
    """Return how many bytes the preparation needs at most, as far as sizes are known.

    Archives stay until the last set that needs them is packed; a packed set is about as large as its archives, and a
    compressed tar file is decompressed before.
    """
    packed: dict[str, int] = {}
    decompressed: dict[str, int] = {}
    for entry in plan.sets:
        recipe, sizes = entry.recipe, [_size(part) for part in entry.images]
        whole = sum(sizes) + sum(packed[name] for name in recipe.sets)
        packed[recipe.name] = whole if recipe.packed_bytes is None else recipe.packed_bytes
        for part, size in zip(entry.images, sizes, strict=True):
            if part.need.best.name.endswith(("gz", "bz2")):
                decompressed[part.need.best.name] = size
    made = sum(packed[entry.recipe.name] for entry in plan.to_do if not entry.missing)
    return bytes_to_come(plan)[0] + made + sum(decompressed.values())


def _size(part: NeedPlan) -> int:
    if part.path is not None and part.path.is_file():
        return part.path.stat().st_size
    return part.need.best.expected_bytes or 0
