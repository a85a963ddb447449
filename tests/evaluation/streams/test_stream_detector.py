"""The stream detector: saved at a batch, restored in a new process, the rest of the stream has the same scores."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from mmood.detector.streams import StreamDetector
from mmood.errors import ImageError, MmoodError

RUNNING = "{running: {class_path: running_mean.RunningMean, init_args: {update: after}}}"


def rest_of_the_stream(settings, state, folder, path):
    """Score the images from the eighth on with a restored stream."""
    stream = StreamDetector.from_settings(settings)
    stream.load_state(state)
    images = [Image.open(path) for path in sorted(folder.iterdir())]
    torch.save([stream.step(images[start : start + 4]) for start in range(8, len(images), 4)], path)


@pytest.fixture
def settings(toy_flags):
    return ["--config", "vitb16_zeroshot.yaml", *toy_flags, "--model.scores", RUNNING]


@pytest.fixture
def images(toy_root):
    folder = toy_root.parent / "images" / "toy-near"
    return folder, [Image.open(path) for path in sorted(folder.iterdir())]


def steps(stream, images, start=0):
    return [stream.step(images[at : at + 4]) for at in range(start, len(images), 4)]


def test_a_restored_stream_goes_on_with_the_same_scores(settings, images, tmp_path, forked):
    folder, pictures = images
    stream = StreamDetector.from_settings(settings)
    stream.reset(seed=3)
    whole = steps(stream, pictures)
    stream.reset(seed=3)
    for at in (0, 4):
        stream.step(pictures[at : at + 4])
    stream.save_state(tmp_path / "state.safetensors")
    ended = forked.call(rest_of_the_stream, settings, tmp_path / "state.safetensors", folder, tmp_path / "rest.pt")
    assert ended.code == 0, ended.err
    rest = torch.load(tmp_path / "rest.pt")
    assert len(rest) == len(whole) - 2
    for restored, expected in zip(rest, whole[2:], strict=True):
        assert torch.equal(restored, expected)
    fresh = StreamDetector.from_settings(settings)
    assert not torch.equal(fresh.step(pictures[8:12]), whole[2]), "the memory matters"


def test_tensors_and_pictures_score_the_same(settings, images):
    _, pictures = images
    stream = StreamDetector.from_settings(settings)
    first = steps(stream, pictures)
    transform = stream.scorer.transform
    stream.reset()
    again = steps(stream, torch.stack([transform(picture.convert("RGB")) for picture in pictures]))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert stream.step([]).shape == (0,)


def test_pictures_of_every_mode_come_in_by_the_way_of_predict(settings):
    stream = StreamDetector.from_settings(settings)
    levels = np.random.default_rng(0).integers(0, 256, (40, 36), dtype=np.uint8)
    score = stream.step([Image.fromarray(levels)])
    for twin in (levels.astype(np.uint16) * 257, levels.astype(np.int32)):
        stream.reset()
        assert torch.equal(stream.step([Image.fromarray(twin)]), score)
    stored = Image.fromarray(levels).transpose(Image.Transpose.ROTATE_90)
    stored.getexif()[0x0112] = 6  # held upright, this is the first picture
    stream.reset()
    assert torch.equal(stream.step([stored]), score)
    with pytest.raises(ImageError, match="would be resized"):
        stream.step([Image.new("RGB", (10_000_000, 1))])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (["--model.scores.running.init_args.noise", "0.5"], "settings.noise is 0.01, and here it is 0.5"),
        (["--model.prompts", "the nice {}"], "prompts"),
        (["--data.class_names", "[red, green, blue]"], "class names"),
    ],
)
def test_a_state_of_another_detector_is_refused(other, said, settings, images, tmp_path):
    stream = StreamDetector.from_settings(settings)
    stream.step(images[1][:4])
    stream.save_state(tmp_path / "state.safetensors")
    with pytest.raises(MmoodError, match=said):
        StreamDetector.from_settings([*settings, *other]).load_state(tmp_path / "state.safetensors")


def test_what_is_no_state_is_refused(settings, tmp_path):
    stream = StreamDetector.from_settings(settings)
    with pytest.raises(MmoodError, match="no saved state at"):
        stream.load_state(tmp_path / "nothing.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(MmoodError, match="is not a state that StreamDetector"):
        stream.load_state(tmp_path / "noise.safetensors")


def test_an_image_that_is_not_a_number_is_refused_and_teaches_nothing(settings, images):
    stream = StreamDetector.from_settings(settings)
    transform = stream.scorer.transform
    batch = torch.stack([transform(picture.convert("RGB")) for picture in images[1][:4]])
    stream.step(batch)
    kept = stream.score.state()
    broken = batch.clone()
    broken[2, 0, 0, 0] = torch.nan
    with pytest.raises(MmoodError, match="Image 2 of the batch"):
        stream.step(broken)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in stream.score.state().items())


@pytest.mark.parametrize(
    ("owner", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"schema":' * 900 + "1" + "}" * 900, "belongs to another detector"),
        ("null", "does not say whose it is"),
        ('{"schema": NaN}', "is not JSON"),
    ],
)
def test_what_a_state_says_of_itself_may_be_anything(owner, said, settings, tmp_path):
    stream = StreamDetector.from_settings(settings)
    (tmp_path / "state.safetensors").write_bytes(save(stream.score.state(), {"mmood_stream": owner}))
    with pytest.raises(MmoodError, match=said):
        stream.load_state(tmp_path / "state.safetensors")


def test_a_score_is_named_if_there_are_several_or_none(settings):
    two = RUNNING[:-1] + ", other: {class_path: running_mean.RunningMean}}"
    with pytest.raises(MmoodError, match="running, other; say which"):
        StreamDetector.from_settings([*settings, "--model.scores", two])
    with pytest.raises(MmoodError, match="no stream score 'mcm'"):
        StreamDetector.from_settings([*settings], score="mcm")
    with pytest.raises(MmoodError, match="none"):
        StreamDetector.from_settings([*settings, "--model.scores", "{mcm: {class_path: MCM}}"])
