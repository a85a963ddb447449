"""The masks of images in archives: in a folder beside that of the images, called like them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mmood.errors import MmoodError
from mmood.prepare.selection import Chosen
from mmood.recipes.recipe import Recipe
from mmood.shards.archives import AbstractArchive, Member


class Masked(NamedTuple):
    """An image of the set with its mask.

    Attributes:
        image: the image.
        archive: which of the archives holds the mask.
        mask: where in it.
    """

    image: Chosen
    archive: int
    mask: Member


def with_masks(recipe: Recipe, archives: Sequence[AbstractArchive], chosen: Sequence[Chosen]) -> list[Masked]:
    """Return the images that have a mask: other files beside them, such as coloured masks, have none.

    The mask of `FOLDER/a/b.jpg` is `MASKS/a/b` with the ending that the recipe states.

    Raises:
        MmoodError: no image has a mask.
    """
    found = {
        (_root(member.path, recipe.masks), _below(member.path, recipe.masks)): (number, member)
        for number, archive in enumerate(archives)
        for member in archive.members
        if member.path.endswith(recipe.mask_ending)
    }
    anywhere = {below: place for (_, below), place in found.items() if below}
    masked = []
    for image in chosen:
        path = image.member.path
        below = _below(path, recipe.folder).rpartition(".")[0] + recipe.mask_ending
        place = found.get((_root(path, recipe.folder), below)) or anywhere.get(below)
        if place is not None:
            masked.append(Masked(image, *place))
    if not masked:
        raise MmoodError(
            f"{', '.join(archive.name for archive in archives)} has no image of '{recipe.name}' with a mask; masks are "
            f"below a folder '{recipe.masks}', and end in '{recipe.mask_ending}'."
        )
    return masked


def _root(path: str, folder: str) -> str:
    """Return what comes before a folder in a path."""
    return f"/{path}".partition(f"/{folder}/")[0]


def _below(path: str, folder: str) -> str:
    """Return what comes after a folder in a path; "" if the path does not lead through it."""
    return f"/{path}".partition(f"/{folder}/")[2]
