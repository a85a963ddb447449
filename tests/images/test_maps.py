"""Maps on pictures: the part that the tower saw, told by a picture whose colours are its coordinates."""

import numpy as np
import pytest
from PIL import Image

from mmood.errors import MmoodError
from mmood.images.maps import on_picture, overlay, value_range
from mmood.images.preprocessing import Box, Preprocessing

SIDE = 48
MODES = ["shortest", "longest", "squash", "center 0.75", "squash 0.75"]


def preprocessing(mode, size=(SIDE, SIDE)):
    return Preprocessing(size, (0, 0, 0), (1, 1, 1), "bilinear", mode)


def coordinates(width, height):
    """Return a picture in which red says how far right a pixel is, green how far down; blue is full."""
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    pixels = np.stack(np.broadcast_arrays(x[None, :], y[:, None], 1.0), axis=-1)
    return Image.fromarray(np.rint(255 * pixels).astype(np.uint8))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (333, 301), (60, 60), (30, 41)])
def test_each_input_pixel_shows_what_the_box_says(mode, size):
    width, height = size
    settings = preprocessing(mode)
    red, green, blue = settings.pixels(coordinates(width, height))
    box = settings.seen(size)
    centres = (np.arange(SIDE) + 0.5) / SIDE
    x = np.broadcast_to(box.left + (box.right - box.left) * centres, red.shape)
    y = np.broadcast_to((box.top + (box.bottom - box.top) * centres)[:, None], red.shape)
    margin = 2 * max(width, height) / SIDE  # a resized pixel mixes its neighbours
    inside = (x > margin) & (x < width - margin) & (y > margin) & (y < height - margin)
    assert inside.mean() > 0.4
    assert (blue[inside] > 0.99).all(), "padding has no blue"
    assert np.abs(red[inside] * width - x[inside]).max() < 0.006 * width + 1
    assert np.abs(green[inside] * height - y[inside]).max() < 0.006 * height + 1


def test_squash_may_be_no_square():
    assert preprocessing("squash", (24, 48)).seen((100, 300)) == Box(0, 0, 100, 300)


def test_an_unknown_transform_is_refused():
    with pytest.raises(
        MmoodError, match=r"which part of a picture the transform 'border 1\.0' to 48 x 48 pixels shows"
    ):
        preprocessing("border 1.0").seen((9, 9))


def test_identity_and_back():
    settings = Preprocessing((32, 24), (0.1, 0.2, 0.3), (1, 2, 3), "bicubic", "longest")
    assert Preprocessing.of_identity(settings.identity()) == settings
    assert Preprocessing.of_identity({"image_size": "large"}) is None


def test_a_map_is_interpolated_between_centres():
    found = on_picture(np.array([[0.0, 1.0]]), Box(0, 0, 4, 2), (4, 2))
    # Patch centres lie at x = 1 and 3, pixel centres at 0.5, 1.5, 2.5, 3.5.
    assert np.allclose(found, [[0, 0.25, 0.75, 1]] * 2)


def test_what_no_patch_covers_has_no_value():
    values = np.arange(6.0).reshape(2, 3)
    found = on_picture(values, Box(10, -5, 40, 15), (50, 20))
    assert np.isnan(found[:, :10]).all()
    assert np.isnan(found[:, 40:]).all()
    assert np.isnan(found[15:]).all()
    assert np.isfinite(found[:15, 10:40]).all()
    assert found[4, 15] == pytest.approx(0.05 + 3 * 0.45), "the padding above is not on the picture"


def test_overlay_is_yellow_where_the_map_is_high_and_dark_where_nothing_was_seen():
    picture = Image.new("RGB", (60, 20), (100, 100, 100))
    shown = np.asarray(overlay(picture, np.array([[-9.0, np.inf]]), Box(0, 0, 40, 20), (0.0, 1.0))).astype(int)
    assert shown.shape == (20, 60, 3)
    assert (shown[:, 45:] == 35).all()
    blue, yellow = shown[10, 2], shown[10, 37]
    assert yellow[0] > 180
    assert yellow[1] > 180
    assert blue[2] > blue[0]


def test_the_range_leaves_infinities_out():
    assert value_range(np.array([-np.inf, *range(101), np.inf])) == (2.0, 98.0)
    assert value_range(np.array([np.inf])) == (0.0, 1.0)
