"""Image formats: the supported ones, their first bytes, and their file extensions."""

from __future__ import annotations

READ = {
    "JPEG": "jpg", "MPO": "jpg", "PNG": "png", "BMP": "bmp", "PPM": "ppm", "GIF": "gif", "WEBP": "webp", "TIFF": "tif",
    "AVIF": "avif", "JPEG2000": "jp2",
}  # fmt: skip
"""Pillow's name of each format that is read (MPO: JPEGs of some cameras), and the extension of its files here.

Formats are told by content, whatever the extension: Pillow's others include some that start programs (EPS). They are
tried in this order: Pillow imports all of its plugins before it tries one that is not among the first six.
"""

NOT_READ = {
    "HEIC": "the image is HEIC, which mmood does not read; convert it to JPEG or PNG",
    "JXL": "the image is JPEG XL, which mmood does not read; convert it to JPEG or PNG",
    "PSD": "the image is a Photoshop file, which mmood does not read; convert it to JPEG or PNG",
}
"""Formats that are known and not read, and what to say of them."""

IMAGE_EXTENSIONS = frozenset(
    {
        "jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "ppm", "pgm", "pbm", "pnm", "gif", "tif", "tiff", "avif",
        "jp2", "j2k",
    }
)  # fmt: skip
"""Extensions, in lower case, that say that a file is an image."""

_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"
)
_BEGINNINGS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"\xff\x0a", "JXL"),
    (b"8BPS\0\x01", "PSD"),
)


def format_of(begin: bytes) -> str | None:
    """Return the format that the first 64 bytes of a file tell, or None: a key of `READ` or `NOT_READ`.

    >>> format_of(b"GIF89a..."), format_of(b"Give me more")
    ('GIF', None)
    """
    for beginning, form in _BEGINNINGS:
        if begin.startswith(beginning):
            return form
    if begin[:4] == b"RIFF" and begin[8:12] == b"WEBP":
        return "WEBP"
    if begin[:2] == b"BM" and begin[6:10] == b"\0\0\0\0":
        return "BMP"
    if begin[4:8] == b"ftyp":
        # The first brand may be a common one (mif1), and the format then stands among the compatible ones.
        brands = (begin[start : start + 4] for start in range(8, len(begin), 4))
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    return None
