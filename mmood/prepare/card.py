"""The card of a set: what its recipe says of it, and what its images say themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmood.data.benchmarks import BENCHMARKS
from mmood.errors import ImageError, MmoodError
from mmood.files import parse_json, read_limited
from mmood.files.cache import cache_folder
from mmood.images.rgb import open_image
from mmood.output.console import progress_bar
from mmood.prepare.preparation import ORIGIN_FILE
from mmood.prepare.transfer import in_words
from mmood.recipes.recipe import Recipe
from mmood.sets.finding import find_set
from mmood.shards.hashes import NO_IMAGE, are_copies, image_hashes, kept_hashes
from mmood.shards.index import Hashes, Keys, MissingSetError, SetIndex
from mmood.shards.locations import web_address
from mmood.shards.reading import Skipped

_LOOKED_AT = 256
"""Images whose size is read, at most."""
_SMALL = 2**31  # bytes of a set whose images are hashed for its card
_RUNS = 8  # shards that these are read from

Row = tuple[str, str]
"""A title and what there is to say."""


@dataclass(frozen=True)
class Around:
    """Other sets of the same root that a set is compared with.

    Attributes:
        id_sets: the ID sets of its benchmarks, as far as they are there.
        others: all further sets that are there.
    """

    id_sets: tuple[SetIndex, ...]
    others: tuple[SetIndex, ...]


def of_recipe(recipe: Recipe) -> Iterator[Row]:
    """Yield what a recipe says."""
    yield "what", recipe.title
    count = "number not stated" if recipe.count is None else f"{recipe.count:,}"
    yield "images", f"{count} in the protocol"
    if recipe.class_names and recipe.labels != "none":
        yield "classes", recipe.class_names
    if recipe.resolution:
        yield "resolution", recipe.resolution
    yield "licence", recipe.licence
    if recipe.citation:
        yield "citation", recipe.citation
    if recipe.home:
        yield "home", recipe.home
    if recipe.sets:
        yield "source", f"made of {' and '.join(recipe.sets)}"
    for need in recipe.images:
        yield "source", " or ".join(web_address(file.urls[0]) if file.urls else file.obtain for file in need.files)
    if recipe.variant:
        yield "variant", f"{recipe.variant}, another selection of the same images"
    for use in recipe.used_by:
        yield "used by", use
    in_benchmarks = [name for name, known in BENCHMARKS.items() if recipe.name in known.sets]
    if in_benchmarks:
        yield "benchmarks", ", ".join(in_benchmarks)
    if recipe.notes:
        yield "note", recipe.notes


def of_index(index: SetIndex, around: Around) -> Iterator[Row]:
    """Yield what a set that is there says: counts, sizes, and exact copies within it and of other sets."""
    yield "here", f"{index.summary}, {_bytes(index)}, index {index.hash[:16]}, in {index.place}"
    if index.classes is not None:
        names = index.known_names
        yield "labels", f"{index.classes} classes" + (f", such as {', '.join(names[:3])}" if names else "")
    yield "sizes", _sizes(index)
    origin = Path(index.place) / ORIGIN_FILE
    if origin.is_file():
        yield "prepared from", _origin(origin)
    yield from _copies(index, around)


def sets_around(name: str, root: str, id_set: str | None) -> Around:
    """Return the sets below a root that a set is compared with.

    Args:
        name: of the set.
        root: folder of the sets.
        id_set: the ID set to compare with; None for those of its benchmarks.
    """
    of_benchmarks = [known.id for known in BENCHMARKS.values() if name in known.sets and known.id != name]
    wanted = [id_set] if id_set is not None else list(dict.fromkeys(of_benchmarks))
    folder = Path(root)
    here = sorted(path.parent.name for path in folder.glob("*/index.json")) if folder.is_dir() else []
    id_sets = [index for other in wanted if (index := _found(root, other, needed=id_set is not None)) is not None]
    others = [index for other in here if other not in (name, *wanted) if (index := _found(root, other)) is not None]
    return Around(tuple(id_sets), tuple(others))


def _found(root: str, name: str, needed: bool = False) -> SetIndex | None:
    try:
        return find_set(root, name)
    except MissingSetError:
        if needed:
            raise
        return None


def _bytes(index: SetIndex) -> str:
    try:
        return in_words(index.bytes_here())
    except MmoodError:
        return "elsewhere"


def _origin(path: Path) -> str:
    what = f"The file {path}"
    found = parse_json(read_limited(path, what), what)
    files = found.get("files", []) if isinstance(found, dict) else []
    named = [file for file in files if isinstance(file, dict)]
    told = [
        f"{file.get('file')}" + (f" (sha256 {str(file['sha256'])[:16]}...)" if file.get("sha256") else "")
        for file in named
    ]
    return ", ".join(told) or "other sets"


def _sizes(index: SetIndex) -> str:
    """Return sizes of images from the begins of some shards."""
    widths, heights, kinds = [], [], set()
    for sample in index.read(_some_keys(index), skip=True):
        if isinstance(sample, Skipped) or sample.image is None:
            continue
        try:
            image = open_image(sample.image)
        except ImageError:
            continue
        widths.append(image.width)
        heights.append(image.height)
        kinds.add(image.format or "")
    if not widths:
        return "no image can be read"
    middle = f"{int(np.median(widths))} x {int(np.median(heights))}"
    return (
        f"median {middle} pixels, width {min(widths)} to {max(widths)}, height {min(heights)} to {max(heights)}, "
        f"{' and '.join(sorted(kinds))} ({len(widths)} images looked at)"
    )


def _some_keys(index: SetIndex) -> Keys:
    """Return keys at the begins of a few runs, spread over the set."""
    keys = index.keys()
    runs = index.runs(keys)
    starts = np.flatnonzero(np.diff(runs, prepend=runs[:1] - 1))
    if index.random_access or len(starts) >= len(keys):
        places = np.unique(np.linspace(0, len(keys) - 1, min(_LOOKED_AT, len(keys))).astype(int))
        return np.take(keys, places)
    chosen = starts[np.unique(np.linspace(0, len(starts) - 1, min(_RUNS, len(starts))).astype(int))]
    ends = [*starts[1:], len(keys)]
    each = _LOOKED_AT // len(chosen)
    end_of = dict(zip(starts.tolist(), ends, strict=True))
    found: Keys = np.concatenate([keys[start : min(start + each, end_of[start])] for start in chosen.tolist()])
    return found


def _hashes(index: SetIndex, quick: bool) -> Hashes | None:
    """Return the hashes of a set's images, read now if that is quick, None without any."""
    kept = kept_hashes(index, index.keys(), cache_folder("hashes"))
    if kept is not None or not quick or not _is_small(index):
        return kept
    with progress_bar(f"hashing {index.name}", index.count, transient=True) as bar:
        return image_hashes(index, index.keys(), cache_folder("hashes"), skip=True, advance=bar.advance)


def _is_small(index: SetIndex) -> bool:
    try:
        return index.bytes_here() <= _SMALL
    except MmoodError:  # on another machine
        return False


def _copies(index: SetIndex, around: Around) -> Iterator[Row]:
    own = _hashes(index, quick=True)
    if own is None:
        yield "copies", f"unknown: '{index.name}' has no hashes of its images; index it again (`mmood pack --index`)"
        return
    images = own[own != NO_IMAGE]
    again = len(images) - len(np.unique(images))
    yield "copies", f"{again:,} of its images are exact copies of others of it"
    unknown: list[str] = []
    for other in (*around.id_sets, *around.others):
        theirs = _hashes(other, quick=other in around.id_sets)
        if theirs is None:
            unknown.append(other.name)
            continue
        count = int(are_copies(own, theirs).sum())
        if count or other in around.id_sets:
            yield "copies", f"{count:,} of its images are exact copies of images of {other.name}"
    if unknown:
        yield "copies", f"unknown for sets without hashes of their images: {', '.join(unknown)}"
