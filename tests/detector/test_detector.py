"""The detector in Python, and its folder: whole, damaged, of others."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmood.detector import manifest
from mmood.detector.backends.torch_scorer import ScoringGraph
from mmood.detector.detector import Detector
from mmood.errors import MmoodError
from mmood.scores import MCM, base
from mmood.scores.base import Embedded


def numbers(decisions):
    return [(d.accepted, d.score, d.p_value, d.class_name, d.probability) for d in decisions]


def test_scores_are_those_of_the_score_itself(detector, mixed):
    encoder = detector.scorer.graph.encoder
    image = Image.open(mixed[0]).convert("RGB")
    with torch.no_grad():
        embedding = encoder.encode_image(encoder.transform()(image)[None]).embedding
        cosines = embedding @ encoder.prototypes(detector.class_names, ["a photo of a {}"]).T
        expected = float(MCM()(Embedded(embedding, cosines, embedding))[0])
    decision = detector(mixed[0])
    assert decision.score == pytest.approx(expected, abs=1e-6)
    calibration = detector.calibration.scores
    assert decision.p_value == (1 + (calibration <= np.float32(decision.score)).sum()) / (len(calibration) + 1)
    probability = (cosines * encoder.logit_scale).softmax(dim=1)
    assert decision.class_name == detector.class_names[int(probability.argmax())]
    assert decision.probability == pytest.approx(float(probability.max()), rel=1e-4)


def test_every_form_of_a_picture_gives_the_same_decision(detector, mixed):
    path = Path(mixed[0])
    image = Image.open(path)
    pixels = np.array(image.convert("RGB"))
    forms = [path, str(path), path.read_bytes(), image, pixels, pixels.transpose(2, 0, 1), torch.from_numpy(pixels)]
    assert len(set(numbers(detector(forms)))) == 1
    with pytest.raises(MmoodError, match="pixels in uint8, from 0 to 255, and this ndarray has float64"):
        detector(pixels / 255)


def test_broken_pictures_are_broken_and_no_ood(detector, mixed):
    decisions = detector(mixed, batch_size=4)
    broken = {number: d for number, d in enumerate(decisions) if d.status == "broken"}
    assert sorted(broken) == [7, 10, 11, 24]
    assert all(d.accepted is None and d.score is None and d.reason for d in broken.values())
    assert broken[24].reason == "the image cannot be read: No such file or directory"
    assert decisions[25].status == "ok"


def test_threads_may_share_a_detector(detector, mixed):
    alone = detector(mixed)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(detector, [mixed] * 8):
            assert numbers(found) == numbers(alone)


def test_a_saved_detector_decides_the_same(detector, saved, mixed):
    loaded = Detector.load(saved, device="cpu")
    assert numbers(loaded(mixed)) == numbers(detector(mixed))
    assert np.array_equal(loaded.embeddings.sample, detector.embeddings.sample)
    assert loaded.manifest.encoder.fingerprint == loaded.scorer.graph.encoder.weights_hash()


def changed(saved, tmp_path, **fields):
    folder = tmp_path / "changed"
    shutil.copytree(saved, folder)
    document = json.loads((folder / "detector.json").read_text())
    for name, value in fields.items():
        *path, last = name.split("__")
        place = document
        for step in path:
            place = place[step]
        place[last] = value
    (folder / "detector.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schema": 2}, r"detector.json has schema 2; this version of mmood reads schema 1"),
        ({"threshold": 0.5}, "has threshold 0.5, and its calibration_scores give"),
        ({"calibration_scores": [1, 2]}, "2 calibration_scores, too few"),
        ({"calibration_scores": [2, 1] * 30}, "has no ascending finite calibration_scores"),
        ({"score__kind": "Popen"}, "There is no score 'Popen'"),
        ({"score__settings": {"heat": 1}}, "does not fit the score MCM"),
        ({"class_names": ["a", "b"]}, "The head of the detector .* has the shape"),
        ({"preprocessing__size": [10**9, 1]}, "must be height and width"),
        ({"files": {"../../etc/passwd": {"size": 1, "sha256": ""}}}, "lies outside of the folder"),
        ({"encoder__weights": "elsewhere"}, "must be 'copy' or 'name'"),
    ],
)
def test_a_folder_that_says_what_cannot_be_is_refused(saved, tmp_path, fields, said):
    with pytest.raises(MmoodError, match=said) as caught:
        Detector.load(changed(saved, tmp_path, **fields))
    assert "\n" not in str(caught.value)


def test_a_damaged_folder_is_refused(saved, tmp_path):
    folder = changed(saved, tmp_path)
    file = folder / "score.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    with pytest.raises(MmoodError, match=r"is damaged: score.safetensors has \d+ bytes and should have \d+"):
        Detector.load(folder)
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(MmoodError, match=r"score.safetensors is not the file that was written"):
        Detector.load(folder)
    file.unlink()
    with pytest.raises(MmoodError, match=r"is incomplete: its file score.safetensors is missing"):
        Detector.load(folder)
    (folder / "detector.json").write_text('{"schema": 1, "ba')
    with pytest.raises(MmoodError, match="is not JSON"):
        Detector.load(folder)
    with pytest.raises(MmoodError, match="There is no detector at"):
        Detector.load(tmp_path)


def test_a_tower_by_name_must_be_the_one_it_was(detector, tmp_path, mixed):
    detector.save(tmp_path / "named", copy_weights=False)
    assert not (tmp_path / "named" / "encoder").exists()
    assert numbers(Detector.load(tmp_path / "named")(mixed)) == numbers(detector(mixed))
    other = changed(tmp_path / "named", tmp_path, encoder__fingerprint="0" * 64)
    with pytest.raises(MmoodError, match=r"belongs to the tower .* with weights 000000000000"):
        Detector.load(other)


def test_a_folder_is_not_written_over(detector, saved):
    with pytest.raises(MmoodError, match="is there already"):
        detector.save(saved)


def test_one_class_takes_scores_that_are_not_constant(toy_model, id_folder, mixed):
    with pytest.raises(MmoodError, match=r"MCM is the same .* these are not: .*CSP.*KNN.*MaxLogit") as caught:
        Detector.from_names(["red square"], toy_model, "mcm")
    assert "Entropy" not in str(caught.value)
    one = Detector.from_names(["red square"], toy_model, "max_logit", device="cpu").calibrated(id_folder)
    decision = one(mixed[0])
    assert (decision.class_name, decision.probability) == ("red square", None)


def test_with_very_many_classes_a_batch_is_judged_in_parts(detector, mixed, monkeypatch):
    images, classes = mixed[:5], len(detector.class_names)
    whole = numbers(detector(images))
    sizes, judge = [], ScoringGraph.judge
    monkeypatch.setattr(ScoringGraph, "judge", lambda graph, part: sizes.append(len(part.logits)) or judge(graph, part))
    monkeypatch.setattr(base, "MOST_LOGITS", 2 * classes)
    monkeypatch.setattr(manifest, "_MOST_LOGITS", 2 * classes)
    assert numbers(detector(images)) == whole
    assert sizes == [2, 2, 1]


def test_what_is_not_there_is_said(toy_model, id_folder):
    uncalibrated = Detector.from_names(["a", "b"], toy_model, MCM(0.01), device="cpu")
    with pytest.raises(MmoodError, match="has no threshold yet"):
        uncalibrated(str(id_folder))
    with pytest.raises(MmoodError, match="There is no static score 'adaneg'"):
        Detector.from_names(["a", "b"], toy_model, "adaneg")
    with pytest.raises(MmoodError, match="There is no folder"):
        uncalibrated.calibrated("nowhere")
    with pytest.raises(MmoodError, match="calibration image number 1 cannot be used"):
        uncalibrated.calibrated([np.zeros((4, 4, 3), np.uint8), b""])
