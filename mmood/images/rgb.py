"""From the bytes of an image file to an RGB image, shared by all entry points.

Images become RGB as the reference pipelines do it: palettes are expanded, alpha is dropped (not blended), CMYK is
converted without a colour profile. EXIF orientation is applied or ignored as the caller says: neither torchvision's
`ImageFolder` nor open_clip applies it, and so the papers' numbers are without; a photo of a camera needs it.

Grey values of more than eight bits are scaled to eight; Pillow alone would clip them to white. Sixteen-bit formats
state their range. Thirty-two bits do not, and the largest value tells: up to 255 they are eight-bit values, up to 65535
sixteen-bit values, and anything else is refused, as floating point is.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import Literal

import numpy as np
from PIL import Image

from mmood.errors import ImageError
from mmood.images.formats import NOT_READ, READ, format_of

Exif = Literal["apply", "ignore"]
"""What is done with the orientation that a camera noted in an image."""

MAX_PIXELS = 2**27  # 134 million; beyond it a small file would unfold to gigabytes

# What Pillow's decoders raise on broken bytes.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, KeyError, TypeError, IndexError, OverflowError)

# Pillow reads the JPEGs that are MPO as such by itself.
_TRIED = tuple(form for form in READ if form != "MPO")

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def rgb_image(content: bytes, exif: Exif) -> Image.Image:
    """Return the image in a file's bytes in RGB, decoded to the end; ImageError if it cannot be used."""
    return to_rgb(open_image(content), exif)


def open_image(content: bytes) -> Image.Image:
    """Return the image with its header read; ImageError for no image, a format that is not read, too many pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit speaks below
            image = Image.open(io.BytesIO(content), formats=_TRIED)
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image has more than {MAX_PIXELS} pixels") from error
    except _BROKEN as error:
        reason = NOT_READ.get(format_of(content[:64]) or "") or f"the image cannot be decoded ({_said(error)})"
        raise ImageError(reason) from error
    _check_size(image)
    return image


def to_rgb(image: Image.Image, exif: Exif) -> Image.Image:
    """Return the image in mode RGB.

    Raises:
        ImageError: it is broken, has too many pixels, or its values have no stated range.
    """
    _check_size(image)
    try:
        image.load()
        upright = _upright(image) if exif == "apply" else image
        return _in_rgb(upright)
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image has more than {MAX_PIXELS} pixels") from error
    except _BROKEN as error:
        raise ImageError(f"the image cannot be decoded ({_said(error)})") from error


def check_decodable(content: bytes) -> str:
    """Return the extension of an image's format after decoding it to the end; ImageError if it cannot be used.

    A JPEG is decoded at an eighth of its size: all of its bytes are read, which finds one that is cut off or damaged
    in a third of the time.
    """
    image = open_image(content)
    form = image.format or ""
    if image.mode in ("RGB", "L"):
        image.draft(image.mode, (max(1, image.width // 8), max(1, image.height // 8)))
    to_rgb(image, "ignore")
    return READ[form]


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"the image has {width} x {height} pixels, more than {MAX_PIXELS}")


def _upright(image: Image.Image) -> Image.Image:
    """Return the image as its camera was held. Pillow has done that itself to a TIFF, and taken the note away."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what else is wrong with the notes does not matter
            turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except _BROKEN:  # the note cannot be read, and the image can
        turn = None
    return image if turn is None else image.transpose(turn)


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise ImageError("the image has floating-point values of unknown range")
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode == "I"), mode=None).convert("RGB")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # transparency in a palette is dropped knowingly
        return image.convert("RGB")


def _eight_bits(grey: np.ndarray, range_unknown: bool) -> np.ndarray:
    values = grey.astype(np.int64)
    least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if least < 0 or most > 65535:
        raise ImageError(
            f"the image has 32-bit grey values from {least} to {most}; their range is known only for 0 to 65535"
        )
    # In 16 bits, 65535 is white and 257 times 255.
    return (values if range_unknown and most <= 255 else values // 257).astype(np.uint8)


def _said(error: Exception) -> str:
    reason = str(error).replace("\n", " ").rstrip(".") or type(error).__name__
    # "cannot identify image file <_io.BytesIO object at 0x7f...>" differs from run to run.
    return reason.partition(" <_io")[0]
