"""From the bytes of an image to RGB: every mode, orientation and limit."""

import io

import numpy as np
import pytest
from PIL import Image

from mmood.errors import ImageError
from mmood.images.rgb import check_decodable, rgb_image, to_rgb
from mmood.loading.decoding import SampleError, decode_image
from mmood.shards.reading import RawSample


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def grey_levels(content):
    return np.asarray(rgb_image(content, "ignore"))[0, :, 0].tolist()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_becomes_rgb(mode):
    image = rgb_image(encoded(Image.new("RGB", (3, 2), (255, 255, 255)).convert(mode), "PNG"), "ignore")
    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert np.asarray(image).min() == 255


def test_cmyk_and_alpha():
    assert rgb_image(encoded(Image.new("CMYK", (3, 2)), "JPEG"), "ignore").mode == "RGB"
    clear = rgb_image(encoded(Image.new("RGBA", (3, 2), (10, 20, 30, 0)), "PNG"), "ignore")
    assert clear.getpixel((0, 0)) == (10, 20, 30)


# What a camera that noted this orientation saw, from the pixels as they are stored: TIFF 6.0, tag 274.
SEEN = {
    1: lambda rows: rows,
    2: lambda rows: rows[:, ::-1],
    3: lambda rows: rows[::-1, ::-1],
    4: lambda rows: rows[::-1],
    5: lambda rows: rows.transpose(1, 0, 2),
    6: lambda rows: rows.transpose(1, 0, 2)[:, ::-1],
    7: lambda rows: rows[::-1, ::-1].transpose(1, 0, 2),
    8: lambda rows: rows.transpose(1, 0, 2)[::-1],
}
STORED = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10


@pytest.mark.parametrize("orientation", SEEN)
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_or_ignored(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(Image.fromarray(STORED), form, exif=exif, **options)
    assert np.array_equal(rgb_image(content, "apply"), SEEN[orientation](STORED))
    if form != "TIFF":  # Pillow itself turns a TIFF
        assert np.array_equal(rgb_image(content, "ignore"), STORED)


def test_an_orientation_that_cannot_be_read_is_none():
    content = encoded(Image.fromarray(STORED), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05broken")
    assert np.array_equal(rgb_image(content, "apply"), STORED)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(form):
    grey = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert grey_levels(encoded(grey, form)) == [0, 100, 255]


@pytest.mark.parametrize(
    ("values", "levels"),
    [([0, 100, 255], [0, 100, 255]), ([0, 257 * 100, 65535], [0, 100, 255]), ([0, 0, 0], [0, 0, 0])],
)
def test_the_range_of_thirty_two_bits_is_told_by_the_largest_value(values, levels):
    grey = Image.fromarray(np.array([values], dtype=np.int32))
    assert grey.mode == "I"
    assert grey_levels(encoded(grey, "TIFF")) == levels
    assert np.asarray(to_rgb(grey, "apply"))[0, :, 1].tolist() == levels


def test_values_without_a_range_are_refused():
    for values in ([0, 65536], [-1, 5]):
        with pytest.raises(ImageError, match="32-bit grey values"):
            rgb_image(encoded(Image.fromarray(np.array([values], dtype=np.int32)), "TIFF"), "ignore")
    with pytest.raises(ImageError, match="of unknown range"):
        to_rgb(Image.new("F", (2, 2)), "ignore")


def test_too_many_pixels_and_foreign_formats(monkeypatch):
    monkeypatch.setattr("mmood.images.rgb.MAX_PIXELS", 10)
    content = encoded(Image.new("RGB", (4, 4)), "PNG")
    with pytest.raises(SampleError, match="'a'\\): the image has 4 x 4 pixels, more than 10"):
        decode_image(RawSample(0, "x.tar", "a", content), "ignore")
    with pytest.raises(ImageError, match="4 x 4 pixels"):
        to_rgb(Image.new("RGB", (4, 4)), "ignore")
    with pytest.raises(ImageError, match="cannot identify image file"):
        rgb_image(encoded(Image.new("RGB", (2, 2)), "EPS"), "ignore")
    with pytest.raises(SampleError, match="no image, or several"):
        decode_image(RawSample(0, "x.tar", "a", None), "ignore")


@pytest.mark.parametrize(
    ("begin", "sentence"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC, which mmood does not read"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "is HEIC"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "is JPEG XL"),
        (b"8BPS\0\x01", "Photoshop"),
    ],
)
def test_known_formats_that_are_not_read_are_named(begin, sentence):
    with pytest.raises(ImageError, match=sentence):
        rgb_image(begin + b"\0" * 64, "apply")


@pytest.mark.parametrize(
    ("form", "extension"),
    [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("BMP", "bmp"), ("PPM", "ppm"), ("GIF", "gif"), ("TIFF", "tif"),
     ("AVIF", "avif"), ("JPEG2000", "jp2")],
)  # fmt: skip
def test_every_format_that_is_read(form, extension):
    content = encoded(Image.new("RGB", (32, 24), (200, 100, 50)), form)
    assert check_decodable(content) == extension
    assert rgb_image(content, "apply").size == (32, 24)
