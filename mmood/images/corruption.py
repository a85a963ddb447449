"""Corruptions of images: those of ImageNet-C (Hendrycks & Dietterich, ICLR 2019, arXiv 1903.12261), made on the fly.

They are computed by `imagecorruptions`, the benchmark's code as a library, in the fork that is kept up (the extra
`corruptions`). The image is corrupted as the tower sees it, resized and cropped, with 8 bits a channel: for towers of
224 pixels that is what ImageNet-C holds, without its JPEG compression.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from mmood.errors import MmoodError, unknown
from mmood.settings import check_count

NAMES = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    # The benchmark's validation corruptions.
    *("speckle_noise", "gaussian_blur", "spatter", "saturate"),
)

LEAST_SIDE = 32
"""Pixels of a side, at least; the severities are those for images of 224."""

Pixels = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class Corruption:
    """A corruption of the images under evaluation; training and reference images stay as they are.

    Warning:
        Numbers on ImageNet-C's own files differ: those were cropped to 224 pixels for every model and are JPEG files.
        With `groups: [id]` only ID images are corrupted, as in a full spectrum; without it OoD images are, too.

    Attributes:
        name: one of ImageNet-C's, such as `gaussian_noise`, `motion_blur`, `fog` or `jpeg_compression`.
        severity: 1 to 5; 0 leaves the images as they are.
        groups: the groups of sets that are corrupted: `id`, `csid` or a group of `data.ood`; None for all.
        seed: of the random parts, together with the key of an image; None for that of the run.

    Raises:
        MmoodError: there is no such corruption or severity, or `imagecorruptions` is not installed.
    """

    name: str
    severity: int
    groups: tuple[str, ...] | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise unknown("corruption", self.name, NAMES, limit=len(NAMES))
        check_count("`data.corruption.severity`", self.severity, least=0, most=5)
        if self.severity and importlib.util.find_spec("imagecorruptions") is None:
            raise MmoodError(
                "`data.corruption` needs imagecorruptions, which is not installed; pip install 'mmood[corruptions]'."
            )

    def of_group(self, group: str) -> Corruption | None:
        """Return the corruption of the sets of a group; None where they stay as they are."""
        return self if self.severity and (self.groups is None or group in self.groups) else None

    def identity(self) -> dict[str, object]:
        """Return what decides the pixels, as plain data."""
        return {"name": self.name, "severity": self.severity, "seed": self.seed or 0}

    def label(self) -> str | None:
        """Return what results call it; None where it leaves all images as they are."""
        of = "" if self.groups is None else f" of {' and '.join(self.groups)}"
        return f"{self.name} {self.severity}{of}" if self.severity else None

    def applied(self, pixels: Pixels, key: int) -> Pixels:
        """Return the corrupted pixels of the image with this key.

        Raises:
            MmoodError: the image is smaller than 32 pixels.
        """
        if not self.severity:
            return pixels
        if min(pixels.shape[:2]) < LEAST_SIDE:
            raise MmoodError(
                f"`data.corruption` needs images of at least {LEAST_SIDE} x {LEAST_SIDE} pixels, and this tower takes "
                f"{pixels.shape[0]} x {pixels.shape[1]}."
            )
        # Imported here: it brings OpenCV and numba, which no other run needs.
        from imagecorruptions import corrupt

        seed = int(np.random.SeedSequence([self.seed or 0, key]).generate_state(1)[0])
        # Two of them draw from generators of their own.
        own = {"seed": seed} if self.name in ("impulse_noise", "glass_blur") else {}
        # Some print how they got along with a size.
        with _drawing_from(seed), contextlib.redirect_stdout(io.StringIO()):
            corrupted: Pixels = corrupt(pixels, self.severity, self.name, **own)
        return corrupted


@contextlib.contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, from which the library draws; afterwards it is as before."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
