"""Images as they are sent to a language model: small, and with nothing in the file but the picture."""

from __future__ import annotations

import io

from PIL import Image

from mmood.images.rgb import Exif, rgb_image

QUALITY = 90


def small_jpeg(content: bytes, side: int, exif: Exif = "apply") -> bytes:
    """Return an image as a JPEG file of at most `side` x `side` pixels, its proportions kept.

    The image is encoded anew, so nothing of the old file is left but the picture: no place, date, camera or name.

    Args:
        content: the bytes of an image file.
        side: the longer side in pixels, at most; smaller images keep their size.
        exif: whether the image is turned as its camera noted.

    Raises:
        ImageError: the image cannot be used.
    """
    image = rgb_image(content, exif)
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    return jpeg(image)


def jpeg(image: Image.Image) -> bytes:
    """Return an RGB image as a JPEG file with nothing in it but the picture."""
    bare = Image.frombytes("RGB", image.size, image.tobytes())
    written = io.BytesIO()
    bare.save(written, "JPEG", quality=QUALITY)
    return written.getvalue()
