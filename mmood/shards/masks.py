"""Masks that `mmood pack` puts beside images: found by stem, and checked as they are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import final

import numpy as np

from mmood.errors import ImageError, MmoodError
from mmood.files import is_folder, utf8_name
from mmood.images.masks import check_mask_size, read_mask
from mmood.images.rgb import open_image
from mmood.shards.passed_over import PassedOver
from mmood.shards.walk import find_images


@dataclass(frozen=True)
class MaskLabelList:
    """Which labels masks may have.

    Attributes:
        names: the name of each label, in the order of the numbers; none where any label may be there.
        ignored: labels beyond the names that count nowhere, such as 255.
    """

    names: tuple[str, ...] = ()
    ignored: frozenset[int] = frozenset()

    def check(self, labels: np.ndarray) -> None:
        """Raise ImageError if a label has no name and is not ignored."""
        if not self.names:
            return
        odd = sorted(set(np.unique(labels).tolist()) - set(range(len(self.names))) - self.ignored)
        if odd:
            raise ImageError(
                f"the mask has the label {odd[0]}, but there are {len(self.names)} names; add it to `--classes` or "
                "`--ignore_labels`"
            )


@final
class MaskFolder:
    """PNG files in the folders of their images and called like them: `a/b.jpg` has the mask `a/b.png`.

    Args:
        folder: where they are.
        images: paths of the images below their own folder.
        labels: which labels masks may have.

    Attributes:
        passed_over: masks without an image.

    Raises:
        MmoodError: there is no such folder, or an image has no mask.
    """

    def __init__(self, folder: Path, images: Iterable[str], labels: MaskLabelList) -> None:
        if not is_folder(folder):
            raise MmoodError(f"There is no folder {folder} (`--masks`).")
        self.folder = folder
        self.labels = labels
        found = {image.path for image in find_images(folder).images if image.path.lower().endswith(".png")}
        by_stem = {_stem(path): path for path in found}
        wanted = list(images)
        missing = [path for path in wanted if _stem(path) not in by_stem]
        if missing:
            raise MmoodError(
                f"{len(missing)} of {len(wanted)} images have no mask: there is no "
                f"{utf8_name(str(folder / _stem(missing[0])))}.png for {utf8_name(missing[0])}."
            )
        self._masks = {path: by_stem[_stem(path)] for path in wanted}
        self.passed_over = PassedOver()
        for path in sorted(found - set(self._masks.values())):
            self.passed_over.add("masks without an image", path)

    def size_of(self, image: str) -> int:
        """Return the number of bytes of the mask of an image."""
        return (self.folder / self._masks[image]).stat().st_size

    def of(self, image: str, content: bytes) -> bytes:
        """Return the mask of an image with these bytes, as it lies there.

        Raises:
            MmoodError: it cannot be read, has another size than its image, or a label that it may not have.
        """
        path = self.folder / self._masks[image]
        try:
            mask = path.read_bytes()
        except OSError as error:
            raise MmoodError(f"The mask {utf8_name(str(path))} cannot be read: {error.strerror}.") from error
        check_mask(mask, content, image, self.labels)
        return mask


def check_mask(mask: bytes, image: bytes, name: str, labels: MaskLabelList) -> None:
    """Raise MmoodError if a mask is none, has another size than its image, or a label that it may not have.

    Args:
        mask: the bytes of the mask.
        image: the bytes of the image.
        name: of the image, for messages.
        labels: which labels the mask may have.
    """
    try:
        found = read_mask(mask)
        check_mask_size(found, *open_image(image).size)
        labels.check(found)
    except ImageError as error:
        raise MmoodError(
            f"{utf8_name(name)} was not packed: {error}. The set is unfinished; repair or remove this input."
        ) from error


def _stem(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))
