"""The schema of a recipe: where the images of a set come from, which of them it has, and what to know of it.

A recipe is data. The shortest one that works (`mmood prepare --recipe pets.yaml`):

    name: pets
    count: 3669
    licence: CC BY-SA 4.0
    images:
      - url: https://example.org/pets.tar.gz
        sha256: 2f9c...
    labels: folders
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from mmood.errors import MmoodError
from mmood.files import Fields, is_file, parse_yaml, read_text

Labels = Literal["none", "list", "folders"]

_LABELS: tuple[Labels, ...] = ("none", "list", "folders")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SCHEMES = ("http://", "https://", "hf://datasets/")
_FILE_KEYS = frozenset({"url", "file", "bytes", "about_bytes", "sha256", "md5", "obtain", "member", "instead"})
_KEYS = frozenset(
    {
        "name", "title", "count", "resolution", "licence", "citation", "home", "notes", "used_by", "variant", "images",
        "lists", "sets", "folder", "known_as", "avoid", "packed_bytes", "labels", "class_names", "keep", "shuffle",
        "masks", "mask_ending",
    }
)  # fmt: skip


@dataclass(frozen=True)
class SourceFile:
    """A file to fetch: an archive of images, or an image list.

    Attributes:
        name: what the file is called.
        urls: mirrors that serve the same bytes; empty if users must fetch the file themselves.
        bytes: its size, None if it is not known.
        about_bytes: its approximate size, for the plan; None if that is not known either.
        sha256: its hash in hex, None if it is not known.
        md5: what its publisher states where no sha256 is known; it finds damage, not malice.
        obtain: what users must do where there is no URL, in sentences.
        member: for a list within an archive, its path there.
    """

    name: str
    urls: tuple[str, ...] = ()
    bytes: int | None = None
    about_bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    obtain: str = ""
    member: str = ""

    @property
    def pinned(self) -> bool:
        """Whether the recipe states a hash."""
        return bool(self.sha256 or self.md5)

    @property
    def expected_bytes(self) -> int | None:
        """Size as far as it is known, exact or not."""
        return self.bytes if self.bytes is not None else self.about_bytes


@dataclass(frozen=True)
class Need:
    """A file that a set needs, and other files that can take its place, the best one first."""

    files: tuple[SourceFile, ...]

    @property
    def best(self) -> SourceFile:
        """The file to fetch if nothing is there."""
        return self.files[0]


@dataclass(frozen=True)
class Recipe:
    """How to prepare a set, and its card.

    Attributes:
        name: the folder's name below `data.root`.
        title: what the set is, in words.
        count: number of images that the protocol has, None if no public source states it.
        resolution: in words, "" if not stated.
        licence: in words.
        citation: the paper, with its arXiv id if it has one.
        home: page of the publisher.
        notes: what to know when comparing numbers.
        used_by: papers and benchmarks that evaluate on exactly this variant.
        variant: name of the other protocol's set of the same images, if there is one.
        images: archives; all are needed.
        lists: image lists, joined in order; empty takes all images.
        sets: other sets that the images are taken from, instead of archives.
        folder: take only images below a folder of this (trailing) path.
        known_as: names in lower case that folders and archives of the set have in public layouts.
        avoid: names of folders whose images are never taken.
        masks: trailing path of the folder that holds a mask for each image of `folder`; "" for a set without masks.
        mask_ending: what masks have in the place of the image's extension, such as `_labels.png`.
        labels: where labels come from; `none` for OoD sets.
        class_names: name of a list of class names in the order of the labels.
        keep: name of a subset of the classes to keep, relabelled in ascending order; "" keeps all.
        packed_bytes: size of the packed set where it is much smaller than its archives, approximate; None otherwise.
        shuffle: seed of a fixed random order, for training sets; None keeps the order.
    """

    name: str
    title: str
    count: int | None
    resolution: str
    licence: str
    citation: str
    home: str
    notes: str
    used_by: tuple[str, ...]
    variant: str | None
    images: tuple[Need, ...]
    lists: tuple[Need, ...]
    sets: tuple[str, ...]
    folder: str
    known_as: tuple[str, ...]
    avoid: tuple[str, ...]
    masks: str
    mask_ending: str
    labels: Labels
    class_names: str | None
    keep: str
    packed_bytes: int | None
    shuffle: int | None

    @property
    def needs(self) -> tuple[Need, ...]:
        """Everything that must be fetched, lists first: they are small, and say early what is missing."""
        return self.lists + self.images

    @property
    def is_manual(self) -> bool:
        """Whether users must fetch an archive themselves."""
        return any(not file.urls for need in self.images for file in need.files[:1])


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a YAML file; MmoodError names the first key that is wrong.

    A file of class names is looked for beside it first.
    """
    what = f"The recipe {path}"
    recipe = parse_recipe(read_text(path, what), what)
    beside = None if recipe.class_names is None else path.parent / recipe.class_names
    return recipe if beside is None or not is_file(beside) else replace(recipe, class_names=str(beside))


def parse_recipe(text: str, what: str) -> Recipe:
    """Return the recipe that a YAML text states; `what` begins the sentence of an error."""
    fields = Fields(parse_yaml(text, what), what)
    _only(fields, _KEYS)
    name = fields.text("name")
    if not _NAME.fullmatch(name):
        raise MmoodError(f"{what} has name = '{name}'; it must be one folder of letters, digits, '.', '_' and '-'.")
    recipe = Recipe(
        name=name,
        title=_text(fields, "title") or name,
        count=fields.count("count") if fields.has("count") else None,
        resolution=_text(fields, "resolution"),
        licence=_text(fields, "licence") or "not stated",
        citation=_text(fields, "citation"),
        home=_text(fields, "home"),
        notes=_text(fields, "notes"),
        used_by=fields.texts("used_by") if fields.has("used_by") else (),
        variant=fields.text_or_null("variant") if fields.has("variant") else None,
        images=tuple(_needs(fields, "images")),
        lists=tuple(_needs(fields, "lists")),
        sets=fields.texts("sets") if fields.has("sets") else (),
        folder=_text(fields, "folder"),
        known_as=tuple(_names(fields, name)),
        avoid=fields.texts("avoid") if fields.has("avoid") else (),
        masks=_text(fields, "masks"),
        mask_ending=_text(fields, "mask_ending") or ".png",
        labels=cast(Labels, fields.one_of("labels", _LABELS)) if fields.has("labels") else "none",
        class_names=fields.text("class_names") if fields.has("class_names") else None,
        keep=_text(fields, "keep"),
        packed_bytes=fields.count("packed_bytes") if fields.has("packed_bytes") else None,
        shuffle=fields.count("shuffle") if fields.has("shuffle") else None,
    )
    _check_whole(recipe, what)
    return recipe


def _names(fields: Fields, name: str) -> Iterator[str]:
    """Yield the set's own name, and the other names that the recipe states."""
    yield name.lower()
    for other in fields.texts("known_as") if fields.has("known_as") else ():
        yield other.lower()


def _check_whole(recipe: Recipe, what: str) -> None:
    if bool(recipe.images) == bool(recipe.sets):
        raise MmoodError(f"{what} must have either `images` (archives) or `sets` (sets to take the images from).")
    if recipe.labels == "list" and not (recipe.lists or recipe.sets):
        raise MmoodError(f"{what} takes its labels from a list (`labels: list`), but has no `lists`.")
    if recipe.sets and (recipe.lists or recipe.folder or recipe.avoid):
        raise MmoodError(f"{what} takes its images from other sets, so it has no `lists`, `folder` or `avoid`.")
    if recipe.masks and (not recipe.folder or recipe.lists or recipe.labels != "none"):
        raise MmoodError(f"{what} has `masks`; then it needs the `folder` of the images, and no `lists` or `labels`.")
    if recipe.keep and not recipe.sets:
        raise MmoodError(f"{what} has `keep`, which is for recipes that take their images from other sets (`sets`).")


def _needs(fields: Fields, key: str) -> Iterator[Need]:
    if not fields.has(key):
        return
    for entry in fields.children(key):
        others = entry.children("instead") if entry.has("instead") else []
        yield Need(tuple(_file(file) for file in [entry, *others]))


def _file(fields: Fields) -> SourceFile:
    _only(fields, _FILE_KEYS)
    urls = _urls(fields)
    if not urls and not (fields.has("file") and fields.has("obtain")):
        raise MmoodError(f"{fields.where} has no 'url'; without one it must have 'file' (its name) and 'obtain' (how).")
    name = fields.text("file") if fields.has("file") else urllib.parse.unquote(urls[0].rpartition("/")[2])
    if not name or "/" in name or name in (".", "..") or not name.isprintable():
        raise MmoodError(f"{fields.where} has no file name; state it as 'file'.")
    return SourceFile(
        name=name,
        urls=urls,
        bytes=fields.count("bytes") if fields.has("bytes") else None,
        about_bytes=fields.count("about_bytes") if fields.has("about_bytes") else None,
        sha256=_hash(fields, "sha256", 64),
        md5=_hash(fields, "md5", 32),
        obtain=_text(fields, "obtain"),
        member=_text(fields, "member"),
    )


def _urls(fields: Fields) -> tuple[str, ...]:
    if not fields.has("url"):
        return ()
    urls = fields.texts("url") if isinstance(fields.raw["url"], list) else (fields.text("url"),)
    for url in urls:
        if not url.startswith(_SCHEMES) or not url.isprintable():
            raise MmoodError(f"{fields.where} has url = '{url!s:.80}'; it must begin with {', '.join(_SCHEMES)}.")
    return urls


def _hash(fields: Fields, key: str, length: int) -> str | None:
    if not fields.has(key):
        return None
    value = fields.text(key)
    if not re.fullmatch(rf"[0-9a-f]{{{length}}}", value):
        raise MmoodError(f"{fields.where} has {key} = '{value:.80}'; it must be {length} digits 0-9a-f.")
    return value


def _text(fields: Fields, key: str) -> str:
    return " ".join(fields.text(key).split()) if fields.has(key) else ""


def _only(fields: Fields, known: frozenset[str]) -> None:
    odd = sorted(str(key) for key in fields.raw if key not in known)
    if odd:
        raise MmoodError(f"{fields.where} has an unknown key '{odd[0]:.40}'; the keys are {', '.join(sorted(known))}.")
