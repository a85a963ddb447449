import io

import numpy as np
import pytest
from PIL import Image

from mmood.loading.decoding import SampleError, decode_image
from mmood.shards.images import to_rgb
from mmood.shards.reading import RawSample


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return RawSample(0, "x.tar", "a", buffer.getvalue())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_becomes_rgb(mode):
    image = decode_image(encoded(Image.new("RGB", (3, 2), (255, 255, 255)).convert(mode), "PNG"))
    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert np.asarray(image).min() == 255


def test_cmyk_alpha_and_orientation():
    assert decode_image(encoded(Image.new("CMYK", (3, 2)), "JPEG")).mode == "RGB"
    clear = decode_image(encoded(Image.new("RGBA", (3, 2), (10, 20, 30, 0)), "PNG"))
    assert clear.getpixel((0, 0)) == (10, 20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated: as the reference pipelines, we leave it
    assert decode_image(encoded(Image.new("RGB", (3, 2)), "JPEG", exif=exif)).size == (3, 2)


def test_sixteen_bits_are_scaled():
    grey = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert np.asarray(decode_image(encoded(grey, "PNG")))[0, :, 0].tolist() == [0, 100, 255]


def test_floats_have_no_range():
    with pytest.raises(ValueError, match="no stated range"):
        to_rgb(Image.new("F", (2, 2)))


def test_too_many_pixels_and_foreign_formats(monkeypatch):
    monkeypatch.setattr("mmood.shards.images.MAX_PIXELS", 10)
    with pytest.raises(SampleError, match="4 x 4 pixels are more than 10"):
        decode_image(encoded(Image.new("RGB", (4, 4)), "PNG"))
    with pytest.raises(SampleError, match="cannot identify image file"):
        decode_image(encoded(Image.new("RGB", (2, 2)), "EPS"))
