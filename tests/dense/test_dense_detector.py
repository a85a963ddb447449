"""A detector of a network that scores pixels: the same scores as a test, a map, and what is refused."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

import mmood
from mmood.cli.main import main
from mmood.errors import MmoodError


@pytest.fixture(scope="module")
def trained(segmenter):
    return str(segmenter / "checkpoints" / "last.ckpt")


def calibrated(checkpoint, folder, *flags):
    arguments = ["calibrate", "--ckpt_path", checkpoint, "--id_recall", "0.5", "--out", str(folder)]
    return main([*arguments, *flags])


@pytest.fixture(scope="module")
def images(street):
    with tarfile.open(street / "street-test" / "000.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    return [content for name, content in sorted(members.items()) if "mask" not in name]


@pytest.mark.parametrize("score", ["msp", "standardised_max_logit"])
def test_it_gives_the_scores_of_a_test(trained, images, tmp_path, score):
    assert calibrated(trained, tmp_path / "detector", "--score", score) == 0
    detector = mmood.Detector.load(tmp_path / "detector")
    found = [decision.score for decision in detector(images)]
    assert (
        main(["test", "--ckpt_path", trained, "--evaluation.save_maps", "11", "--run_dir", str(tmp_path / "run")]) == 0
    )
    maps = [np.load(path)[score].ravel() for path in (tmp_path / "run" / "maps" / "street-test").glob("*.npz")]
    # The pooled score is the mean of the lowest hundredth of a map.
    lowest = [np.sort(values.astype(np.float64))[: -(-len(values) // 100)].mean() for values in maps]
    assert sorted(found) == pytest.approx(sorted(lowest), abs=1e-5)


def test_only_images_without_ood_set_the_threshold(trained, tmp_path, capsys):
    # Of the 7 validation images those numbered 0, 3 and 6 show an animal.
    assert calibrated(trained, tmp_path / "detector", "--score", "msp") == 0
    assert "by 4 images of 'street-val'" in capsys.readouterr().out.replace("\n", " ")
    document = json.loads((tmp_path / "detector" / "detector.json").read_text())
    assert len(document["calibration_scores"]) == 4
    assert document["dense"]["pooling"] == "top_share"


def test_it_has_a_map_and_classes_and_is_written_again(trained, images, tmp_path):
    assert calibrated(trained, tmp_path / "detector", "--score", "msp") == 0
    detector = mmood.Detector.load(tmp_path / "detector")
    decision = detector(images[0])
    assert decision.class_name in ("sky", "road", "car")
    assert 0 < decision.probability <= 1
    assert detector.patch_map(images[0]).size == (48, 32)
    detector.save(tmp_path / "copy")
    assert mmood.Detector.load(tmp_path / "copy")(images) == detector(images)


def test_the_command_line_decides_on_photos(trained, images, tmp_path):
    assert calibrated(trained, tmp_path / "detector", "--score", "energy") == 0
    (tmp_path / "photos").mkdir()
    for number, content in enumerate(images[:3]):
        Image.open(io.BytesIO(content)).resize((96, 64)).save(tmp_path / "photos" / f"{number}.png")
    out = tmp_path / "decisions.csv"
    assert main(["detect", str(tmp_path / "detector"), str(tmp_path / "photos"), "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--data.val", "street-train"], "`data.val` and `data.train` are both 'street-train'"),
        (["--score", "mps"], "'mps'"),
        (["--weights", "name"], "use --weights copy"),
        (["--fraction", "0"], "--fraction is 0"),
        (["--id_recall", "0.95"], "4 ID images are too few"),
    ],
)
def test_what_is_refused(trained, tmp_path, capsys, flags, sentence):
    assert calibrated(trained, tmp_path / "detector", "--score", "msp", *flags) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "detector").exists()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("width", 1e6, "at most 8"),
        ("pooling", "mean", "'max' or"),
        ("module", "Exec", "Exec"),
        ("width", 0.25, "weights"),
    ],
)
def test_a_folder_that_was_changed(trained, tmp_path, field, value, sentence):
    assert calibrated(trained, tmp_path / "detector", "--score", "msp") == 0
    path = tmp_path / "detector" / "detector.json"
    document = json.loads(path.read_text())
    document["dense"][field] = value
    path.write_text(json.dumps(document))
    with pytest.raises(MmoodError, match=sentence):
        mmood.Detector.load(tmp_path / "detector")


def test_a_large_map_is_shown_smaller():
    from mmood.detector.backends.dense_scorer import _shown

    maps = torch.arange(2 * 360 * 480.0).view(2, 360, 480)
    assert _shown(maps).shape == (2, 96, 128)
    assert _shown(maps).mean() == pytest.approx(maps.mean().item(), rel=1e-3)
    assert _shown(maps[:, :100, :120]).shape == (2, 100, 120)


def test_random_weights_do_not_become_a_detector(street_flags, tmp_path, capsys):
    arguments = ["calibrate", "--config", "camvid_segnet.yaml", *street_flags, "--out", str(tmp_path / "detector")]
    assert main(arguments) == 2
    assert "has random weights without --ckpt_path" in capsys.readouterr().err


def test_patches_do_not_become_a_detector(street_flags, toy_model, tmp_path, capsys):
    arguments = ["calibrate", "--config", "camvid_clip.yaml", *street_flags, "--model.encoder.name", toy_model]
    assert main([*arguments, "--out", str(tmp_path / "detector")]) == 2
    assert "DenseZeroShot cannot be shipped" in capsys.readouterr().err
