"""Still lifes: pure functions of their place, with masks that fit, and no star where one must not be."""

import numpy as np

from mmood.demo import still_life
from mmood.demo.still_life import OOD, THINGS, draw
from mmood.files import parse_yaml
from mmood.shards.shard_index import load_index


def test_a_picture_is_a_function_of_seed_set_and_index():
    first, labels = draw("demo-still-test", 3, seed=1)
    again, same = draw("demo-still-test", 3, seed=1)
    assert first.tobytes() == again.tobytes()
    assert np.array_equal(labels, same)
    assert first.tobytes() != draw("demo-still-train", 3, seed=1)[0].tobytes()


def test_stars_are_in_every_other_picture_of_the_test_set_alone():
    for name in still_life.SHARES:
        with_star = [bool((draw(name, index, 0)[1] == OOD).any()) for index in range(12)]
        assert with_star == [name == "demo-still-test" and index % 2 == 1 for index in range(12)]


def test_a_mask_covers_its_thing():
    """Where the mask says red circle, the picture is redder than anywhere else on average."""
    red, other = [], []
    for index in range(30):
        image, labels = draw("demo-still-train", index, 0)
        pixels = np.asarray(image).astype(float)
        redness = pixels[..., 0] - pixels[..., 1:].mean(axis=2)
        red.append(redness[labels == 1])
        other.append(redness[labels != 1])
    assert np.concatenate(red).mean() > np.concatenate(other).mean() + 80


def test_sets_have_masks_and_the_labels_of_the_config(tmp_path):
    still_life.build(tmp_path, 40, seed=0)
    from mmood.configuration.config_files import find

    data = parse_yaml(find("demo_segnet.yaml").read_text(), "demo_segnet.yaml")["data"]
    assert data["label_names"] == ["ground", *THINGS]
    assert data["ood_labels"] == [OOD]
    for name in (data["train"], *data["test"]):
        index = load_index(str(tmp_path), name)
        assert all(sample.mask is not None for sample in index.read(index.keys(), skip=False))
