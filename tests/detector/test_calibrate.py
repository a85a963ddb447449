"""`mmood calibrate`: the settings of a test become a detector folder."""

import json
import shutil

import numpy as np
import pytest

from mmood.cli.main import main
from mmood.detector.detector import Detector
from mmood.errors import MmoodError
from mmood.loading.plan import held_out
from mmood.shards.shard_index import load_index


@pytest.fixture
def arguments(toy_flags, tmp_path):
    return ["calibrate", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--out", str(tmp_path / "det")]


@pytest.mark.parametrize("resize", ["pillow", "torch"])
def test_the_threshold_is_that_of_the_set(resize, arguments, toy_root, tmp_path, capsys):
    assert main([*arguments, "--score", "mcm", "--fraction", "0.6", "--data.resize", resize]) == 0
    detector = Detector.load(tmp_path / "det", device="cpu")
    assert detector.manifest.preprocessing.resize == resize
    index = load_index(str(toy_root), "toy-test")
    keys = held_out(index.keys(), 0.6)
    images = [sample.image for sample in index.read(keys, skip=False)]
    scores = np.array([decision.score for decision in detector(images)], dtype=np.float32)
    assert np.allclose(np.sort(scores), detector.calibration.scores, atol=1e-5)
    assert detector.calibration.threshold == pytest.approx(scores.min(), abs=1e-5)
    said = capsys.readouterr().out
    assert f"by {len(keys)} images of 'toy-test' (data.id)" in said
    assert "beta-binomial" in said
    assert "\nBeware" in said
    assert detector.manifest.provenance["calibration"]["images"] == len(keys)


def test_a_score_with_a_bank_ships(arguments, tmp_path, mixed):
    scores = "{knn: {class_path: KNN, init_args: {k: 2}}}"
    assert main([*arguments, "--data.train", "toy-train", "--model.scores", scores, "--id_recall", "0.9"]) == 0
    decisions = Detector.load(tmp_path / "det", device="cpu")(mixed[:3])
    assert all(-1 <= decision.score <= 1.0001 for decision in decisions)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "choose one with --score"),
        (["--score", "mcn"], "did you mean 'mcm'"),
        (["--score", "mcm", "--fraction", "0"], "--fraction is 0.0"),
        (["--score", "mcm", "--id_recall", "0.999"], "are too few for a threshold with --id_recall 0.999"),
        (["--score", "mcm", "--id_recall", "1"], "--id_recall is 1.0; it must be a finite number"),
        (["--score", "mcm", "--data.train", "toy-test"], "`data.id` and `data.train` are both 'toy-test'"),
    ],
)
def test_what_cannot_be_is_said_before_any_image_is_read(arguments, tmp_path, capsys, more, said):
    assert main([*arguments, *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "det").exists()


def test_ood_sets_need_not_be_there(arguments, tmp_path):
    assert main([*arguments, "--score", "mcm", "--id_recall", "0.9", "--data.ood", "{far: [nowhere]}"]) == 0
    assert (tmp_path / "det" / "detector.json").exists()


def test_a_score_that_many_images_share_is_said_in_output_and_file(arguments, detector, id_folder, tmp_path, capsys):
    """The ID image that looks least like a class, nine times: no threshold separates it from itself."""
    images = sorted(id_folder.rglob("*.png"))
    lowest = images[int(np.argmin([decision.score for decision in detector(images)]))]
    shutil.copytree(id_folder, tmp_path / "set")
    for number in range(8):
        shutil.copy(lowest, tmp_path / "set" / lowest.parent.name / f"copy{number}.png")
    names = ["--data.id", f"folder:{tmp_path / 'set'}", "--score", "mcm", "--id_recall", "0.9"]
    assert main([*arguments, *names]) == 0
    said = capsys.readouterr().out
    ties = json.loads((tmp_path / "det" / "detector.json").read_text())["ties"]
    assert f"\nBeware: {ties}\n" in said
    assert ties.startswith(f"9 of the {len(images) + 8} calibration images have the score of the threshold")
    assert "so 0.0% of them are rejected in place of the 10.0% asked for" in ties
    assert "beta-binomial" not in said, "its shares are those of scores without ties"
    detector.calibrated(tmp_path / "set", id_recall=0.9)
    assert capsys.readouterr().err == f"mmood: {ties}\n"


def test_a_folder_is_found_again_for_the_export(tmp_path):
    from mmood.detector.detection import images_to_check

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"an image")
    provenance = {"calibration": {"place": str(tmp_path / "photos")}}
    assert list(images_to_check(None, provenance)) == [b"an image"]
    with pytest.raises(MmoodError, match="does not say which images it was calibrated on; give images with --images"):
        images_to_check(None, {})
    with pytest.raises(MmoodError, match=r"was calibrated on .*gone, which is no folder here; give --images"):
        images_to_check(None, {"calibration": {"place": str(tmp_path / "gone")}})
