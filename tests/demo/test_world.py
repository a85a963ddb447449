import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from mmood.demo import world
from mmood.demo.canvas import SIDE
from mmood.demo.captions import caption_scene
from mmood.demo.patterns import PATTERNS
from mmood.demo.scenes import draw_scene
from mmood.demo.shapes import COLOURS, SHAPES
from mmood.errors import MmoodError
from mmood.shards.shard_index import load_index


def shard_bytes(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.tar"))}


def images(shard):
    with tarfile.open(shard) as tar:
        return [tar.extractfile(member).read() for member in tar if member.name.endswith(".jpg")]


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path):
    first = shard_bytes(world.build(tmp_path / "a", 20, seed=1))
    again = shard_bytes(world.build(tmp_path / "b", 20, seed=1))
    other = shard_bytes(world.build(tmp_path / "c", 20, seed=2))
    assert first == again
    assert len(first) == len(world.SETS)
    assert all(first[name] != other[name] for name in first)


def test_drawing_leaves_the_global_generators_alone(tmp_path):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    world.build(tmp_path, 20)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_a_larger_world_begins_with_the_smaller_one(tmp_path):
    small = images(world.build(tmp_path / "small", 20) / "demo-near" / "demo-near-000000.tar")
    large = images(world.build(tmp_path / "large", 25) / "demo-near" / "demo-near-000000.tar")
    assert len(large) == 25
    assert large[:20] == small


def test_no_image_stands_in_two_sets(tmp_path):
    folder = world.build(tmp_path, 20)
    found = [content for shard in folder.rglob("*.tar") for content in images(shard)]
    assert len(set(found)) == len(found) == 20 * len(world.SETS)


def test_splits():
    near, far = set(world.SETS["demo-near"]), set(world.SETS["demo-far"])
    assert len(set(world.CLASSES)) == len(near) == 20
    assert not near & set(world.CLASSES)
    assert far <= set(PATTERNS)
    assert not far & set(world.SETS["demo-val-ood"])
    assert set(PATTERNS) == far | set(world.SETS["demo-val-ood"])
    # Neither a colour nor a shape alone tells near-OoD from ID: all come equally often in both.
    for concepts in (world.CLASSES, world.SETS["demo-near"]):
        words = [word for concept in concepts for word in concept.split()]
        assert {words.count(word) for word in (*COLOURS, *SHAPES)} == {2}
    assert len(set(world.CONCEPTS)) == len(COLOURS) * len(SHAPES) + len(PATTERNS)
    assert near | far | set(world.CLASSES) < set(world.CONCEPTS)


def test_sets_are_indexed_and_name_their_originals(tmp_path):
    folder = world.build(tmp_path, 24)
    for name, concepts in world.SETS.items():
        index = load_index(str(folder), name)
        rows = index.rows()
        assert index.count == 24
        assert [row.name for row in rows] == [concepts[key % len(concepts)] for key in range(24)]
        if name in world.LABELLED:
            assert index.class_names == world.CLASSES
            assert [row.label for row in rows] == [key % 20 for key in range(24)]
        else:
            assert index.classes is None
    assert (folder / "classes.txt").read_text().splitlines() == list(world.CLASSES)
    words = (folder / "words.txt").read_text().splitlines()
    assert not set(words) & set(world.CLASSES)


def test_every_concept_is_painted_as_a_small_rgb_picture():
    for concept in world.CONCEPTS:
        picture = world.render("any", (concept,), 0, seed=0)
        assert picture.concept == concept
        assert picture.image.size == (SIDE, SIDE)
        assert picture.image.mode == "RGB"
        assert np.asarray(picture.image).std() > 5
        assert picture.caption


@pytest.mark.parametrize(("colour", "channel"), [("red", 0), ("green", 1), ("blue", 2)])
def test_things_have_their_colour(colour, channel):
    pictures = [world.render("any", (f"{colour} circle",), index, 0) for index in range(60)]
    mean = np.mean([np.asarray(picture.image, dtype=float) for picture in pictures], axis=0)
    middle = mean[SIDE // 2 - 4 : SIDE // 2 + 4, SIDE // 2 - 4 : SIDE // 2 + 4].mean(axis=(0, 1))
    assert middle.argmax() == channel


def test_captions_are_many_and_mostly_true():
    rng = np.random.default_rng(0)
    captions = [caption_scene(draw_scene("yellow", "star", rng), rng) for _ in range(400)]
    assert len(set(captions)) > 60
    assert 0.8 < np.mean(["yellow" in caption and "star" in caption for caption in captions]) < 0.97
    assert any(caption.startswith("three ") for caption in captions)


def test_a_complete_world_is_kept_and_another_one_replaces_it(tmp_path):
    world.build(tmp_path, 20, seed=0)
    shard = tmp_path / "demo-test" / "demo-test-000000.tar"
    written = shard.stat().st_mtime_ns
    world.build(tmp_path, 20, seed=0)
    assert shard.stat().st_mtime_ns == written
    world.build(tmp_path, 21, seed=0)
    assert load_index(str(tmp_path), "demo-test").count == 21


def test_a_killed_build_goes_on(tmp_path):
    class Killed(Exception):
        pass

    def kill(what, done, total):
        if what.endswith("demo-test"):
            raise Killed

    with pytest.raises(Killed):
        world.build(tmp_path / "killed", 20, progress=kill)
    world.build(tmp_path / "killed", 20)
    assert shard_bytes(tmp_path / "killed") == shard_bytes(world.build(tmp_path / "whole", 20))


def test_too_small_a_world_is_refused(tmp_path):
    with pytest.raises(MmoodError, match="must be at least 20"):
        world.build(tmp_path, 19)


def test_images_are_jpegs(tmp_path):
    content = images(world.build(tmp_path, 20) / "demo-far" / "demo-far-000000.tar")[0]
    assert Image.open(io.BytesIO(content)).format == "JPEG"
