"""Which members of archives are the images of a set: all, those below a folder, or those of an image list.

A list and an archive seldom agree on the first folders of a path, so an image is found by its file name and, where
several have it, by the longest common end of the two paths. What stays ambiguous is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mmood.errors import MmoodError
from mmood.images.formats import IMAGE_EXTENSIONS
from mmood.shards.archives import AbstractArchive, Member, is_hidden_path
from mmood.shards.lists import ListedImage


class Chosen(NamedTuple):
    """An image of the set.

    Attributes:
        archive: which of the archives holds it.
        member: where in it.
        label: class index of the list, None without one.
        path: how the set calls it: the path in the list, or in the archive.
    """

    archive: int
    member: Member
    label: int | None
    path: str

    @property
    def folder(self) -> str:
        """Name of the folder that it lies in, in its archive; often its original class."""
        return _parent(self.member.path)


def choose(
    archives: Sequence[AbstractArchive], listed: Sequence[ListedImage] | None, folder: str, avoid: Iterable[str]
) -> list[Chosen]:
    """Return the images of a set, in the order of the list, or by path without one.

    Args:
        archives: where the images are.
        listed: the lists' images, None if the set has no list.
        folder: take only images below a folder with this trailing path; "" for all.
        avoid: names of folders whose images are not taken.

    Raises:
        MmoodError: an image of the list is missing or ambiguous, or there is no image at all.
    """
    images = list(_images(archives, folder, frozenset(avoid), listed is not None))
    where = ", ".join(archive.name for archive in archives)
    if not images:
        below = f" below a folder '{folder}'" if folder else ""
        raise MmoodError(f"{where} has no image{below}.")
    if listed is None:
        return sorted((Chosen(number, member, None, member.path) for number, member in images), key=lambda c: c.path)
    return _of_list(images, listed, where)


def _images(
    archives: Sequence[AbstractArchive], folder: str, avoid: frozenset[str], any_name: bool
) -> Iterator[tuple[int, Member]]:
    """Yield the members that may be images; with `any_name` all, since a list says which are."""
    inside = f"/{folder.strip('/')}/" if folder else "/"
    for number, archive in enumerate(archives):
        for member in archive.members:
            above, _, name = f"/{member.path}".rpartition("/")
            if inside not in f"{above}/" or is_hidden_path(member.path) or not avoid.isdisjoint(above.split("/")):
                continue
            if any_name or archive.only_images or name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS:
                yield number, member


def _of_list(images: Sequence[tuple[int, Member]], listed: Sequence[ListedImage], where: str) -> list[Chosen]:
    by_name: dict[str, list[tuple[int, Member]]] = {}
    for number, member in images:
        by_name.setdefault(member.path.rpartition("/")[2], []).append((number, member))
    chosen, missing = [], []
    for image in listed:
        found = _nearest(image, by_name.get(image.path.rpartition("/")[2], []), where)
        if found is None:
            missing.append(image)
        else:
            chosen.append(Chosen(*found, image.label if image.label is None or image.label >= 0 else None, image.path))
    if missing:
        raise MmoodError(
            f"{len(missing):,} of the {len(listed):,} images of the list are not in {where}, such as "
            f"'{missing[0].path:.80}' ({missing[0].where})."
        )
    return chosen


def _nearest(image: ListedImage, found: Sequence[tuple[int, Member]], where: str) -> tuple[int, Member] | None:
    if len(found) < 2:
        return found[0] if found else None
    wanted = image.path.split("/")
    alike = [_common(wanted, member.path.split("/")) for _, member in found]
    best = max(alike)
    if alike.count(best) > 1:
        one, two, *_ = [member.path for (_, member), count in zip(found, alike, strict=True) if count == best]
        raise MmoodError(f"{where} has two images that could be '{image.path:.80}': '{one:.80}' and '{two:.80}'.")
    return found[alike.index(best)]


def _common(one: Sequence[str], two: Sequence[str]) -> int:
    """Return how many parts at the ends of two paths are the same, whatever their case."""
    count = 0
    for a, b in zip(reversed(one), reversed(two), strict=False):
        if a.casefold() != b.casefold():
            break
        count += 1
    return count


def _parent(path: str) -> str:
    return path.rpartition("/")[0].rpartition("/")[2]
