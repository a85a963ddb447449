"""`mmood pack --masks`: what is packed is what a dense run reads, and one sentence for whatever is wrong."""

import numpy as np
import pytest
from street_world import NAMES, png

from mmood.cli.main import main
from mmood.dense.data import DenseDataModule
from mmood.dense.labels import IGNORED, OOD


@pytest.fixture
def street(tmp_path):
    """Three images, one of them in a subfolder, their masks, and the names of the labels."""
    draw = np.random.default_rng(0)
    for number, name in enumerate(("a", "b", "night/c")):
        for folder, array in (("images", draw.integers(0, 256, (32, 40, 3))), ("labels", np.full((32, 40), number))):
            path = tmp_path / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(array.astype(np.uint8)))
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    return tmp_path


def pack(street, *more):
    flags = ["--folder", "images", "--masks", "labels", "--classes", "names.txt", "--ignore_labels", "255"]
    paths = [str(street / word) if word in ("images", "labels", "names.txt") else word for word in flags]
    return main(["pack", "--out", str(street / "sets/street"), *paths, "--quiet", *map(str, more)])


def masks(street):
    data = DenseDataModule(str(street / "sets"), NAMES, [3], [4, 255], test=["street"], image_size=(32, 40))
    return [pair[3] for batch in data.test_dataloader()["street"] for pair in batch["image"]]


def test_packed_masks_are_what_a_run_reads(street, capsys):
    drawn = np.random.default_rng(1).choice([0, 1, 2, 3, 4, 255], (32, 40)).astype(np.uint8)
    (street / "labels/b.png").write_bytes(png(drawn))
    (street / "labels/of_nothing.png").write_bytes(png(drawn))
    assert pack(street) == 0
    said = capsys.readouterr().out
    assert "3 samples in 1 shard, a mask for each" in said
    assert "masks without an image ('of_nothing.png')" in said
    first, second, third = masks(street)
    assert (set(first.flatten().tolist()), set(third.flatten().tolist())) == ({0}, {2})
    wanted = np.select([drawn == 3, drawn >= 4], [OOD, IGNORED], drawn.astype(int))
    assert np.array_equal(second.numpy(), wanted)


def test_a_list_chooses_the_images(street):
    (street / "some.txt").write_text("night/c.png\na.png\n")
    flags = ["--list", street / "some.txt", "--images", street / "images", "--masks", street / "labels"]
    assert main(["pack", "--out", str(street / "sets/street"), *map(str, flags), "--quiet"]) == 0
    assert [int(mask[0, 0]) for mask in masks(street)] == [2, 0]


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (
            png(np.zeros((30, 40), np.uint8)),
            "b.png was not packed: the mask has 40 x 30 pixels, but the image has 40 x",
        ),
        (png(np.full((32, 40), 9, np.uint8)), "b.png was not packed: the mask has the label 9, but there are 5 names"),
        (png(np.zeros((32, 40, 3), np.uint8)), "b.png was not packed: the mask has the mode RGB"),
        (b"no picture", "b.png was not packed: the mask cannot be decoded"),
        (None, "1 of 3 images have no mask: there is no "),
    ],
)
def test_a_mask_that_cannot_be_packed(street, capsys, mask, sentence):
    if mask is None:
        (street / "labels/b.png").unlink()
    else:
        (street / "labels/b.png").write_bytes(mask)
    assert pack(street) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (street / "sets/street/index.json").exists()


def test_another_mask_is_another_input(street, capsys):
    (street / "labels/b.png").write_bytes(b"no picture")
    assert pack(street) == 2
    (street / "labels/b.png").write_bytes(png(np.ones((32, 40), np.uint8)))
    assert pack(street) == 2
    assert "was started with a different input" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--masks", "."], "--masks` goes with `--folder` or `--list`."),
        (["--ignore_labels", "255"], "--ignore_labels` is about masks"),
    ],
)
def test_flags_of_masks_need_images_and_masks(tmp_path, capsys, flags, sentence):
    assert main(["pack", "--index", str(tmp_path), *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_masks_among_the_images_are_refused(street, capsys):
    flags = ["--folder", street, "--masks", street / "labels"]
    assert main(["pack", "--out", str(street / "sets/street"), *map(str, flags)]) == 2
    assert "lie in the folder of the images" in capsys.readouterr().err
