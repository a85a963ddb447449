"""Corruptions: the library's own pixels, by seed and key, and nothing at severity 0."""

import numpy as np
import pytest
from imagecorruptions import corrupt, get_corruption_names

from mmood.errors import MmoodError
from mmood.images.corruption import NAMES, Corruption


@pytest.fixture
def pixels():
    rows, columns = np.mgrid[:48, :40]
    return np.stack([rows * 5, columns * 6, (rows + columns) * 2], axis=-1).astype(np.uint8)


def test_the_names_are_those_of_the_library():
    assert sorted(NAMES) == sorted(get_corruption_names("all"))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "glass_blur"])  # which is compiled for seconds
def test_a_corruption_depends_on_seed_and_key_alone(name, pixels):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    corruption = Corruption(name, 3, seed=5)
    first = corruption.applied(pixels, 7)
    corruption.applied(pixels, 8)

    assert first.shape == pixels.shape
    assert first.dtype == np.uint8
    assert not np.array_equal(first, pixels)
    assert np.array_equal(corruption.applied(pixels, 7), first)
    assert np.array_equal(np.random.get_state()[1], before), "the global generator is as before"  # noqa: NPY002


def test_another_key_or_seed_is_other_noise(pixels):
    noisy = Corruption("impulse_noise", 2, seed=0).applied(pixels, 1)

    assert not np.array_equal(Corruption("impulse_noise", 2, seed=0).applied(pixels, 2), noisy)
    assert not np.array_equal(Corruption("impulse_noise", 2, seed=1).applied(pixels, 1), noisy)


def test_what_draws_nothing_is_the_library_s_own(pixels):
    assert np.array_equal(Corruption("contrast", 4).applied(pixels, 0), corrupt(pixels, 4, "contrast"))


def test_severity_0_is_the_image_itself(pixels):
    corruption = Corruption("fog", 0)

    assert corruption.applied(pixels, 0) is pixels
    assert corruption.of_group("id") is None
    assert corruption.label() is None


def test_it_is_of_the_groups_that_it_names():
    assert Corruption("fog", 2, groups=("csid",)).of_group("id") is None
    assert Corruption("fog", 2, groups=("csid",)).of_group("csid") is not None
    assert Corruption("fog", 2).of_group("near") is not None
    assert Corruption("fog", 2, groups=("id", "csid")).label() == "fog 2 of id and csid"


def test_what_is_impossible_is_refused(pixels):
    with pytest.raises(MmoodError, match="There is no corruption 'fogg'; did you mean 'fog'"):
        Corruption("fogg", 1)
    with pytest.raises(MmoodError, match=r"`data.corruption.severity` is 6; it must be a whole number in \[0, 5\]"):
        Corruption("fog", 6)
    with pytest.raises(MmoodError, match="at least 32 x 32 pixels, and this tower takes 16 x 40"):
        Corruption("fog", 1).applied(pixels[:16], 0)
