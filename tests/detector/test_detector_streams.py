"""A test-time score as a detector: its threshold moves with its memory; shipped, killed or continued it is the same."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from fake_model import FakeModel
from PIL import Image

from mmood.cli.main import main
from mmood.detector.detection import job as jobs
from mmood.detector.detection import read_rows
from mmood.detector.detector import Detector
from mmood.detector.streams import StreamDetector
from mmood.errors import MmoodError
from mmood.scores.test_time.ants_settings import SeeingModel

WORDS = [f"{first} {second}" for first in ("wet", "old", "tiny") for second in ("fork", "lamp", "cloud", "tram")]


@pytest.fixture(scope="module")
def settings(toy_flags, tmp_path_factory):
    """AdaNeg, TINS and ANTS over a handful of words, with gates that some images of the random model pass."""
    words = tmp_path_factory.mktemp("words") / "words.txt"
    words.write_text("\n".join(WORDS))
    common = {"groups": 2, "temperature": 0.1, "negatives": str(words)}
    tins = {"beta": 1.0, "bank_size": 3, "inversion": {"steps": 2}, "images": {"shots": 2}}
    ants = {"descriptions": {"waiting": 2, "start": 1.0}, "look_alikes": {"first": 1, "every": 1}}
    scores = {
        "adaneg": {"class_path": "AdaNeg", "init_args": {**common, "gates": {"gap": 0.0}}},
        "tins": {"class_path": "TINS", "init_args": {**common, **tins}},
        "ants": {"class_path": "ANTS", "init_args": {**common, **ants}},
    }
    data = ["--data.train", "toy-train", "--model.scores", json.dumps(scores)]
    return ["--config", "vitb16_zeroshot.yaml", *toy_flags, *data]


@pytest.fixture(scope="module")
def folder(settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("stream") / "det"
    assert main(["calibrate", *settings, "--score", "adaneg", "--id_recall", "0.9", "--out", str(out)]) == 0
    return out


@pytest.fixture
def short_blocks(monkeypatch):
    monkeypatch.setattr(jobs, "BATCHES", 2)


def detect(folder, out, *arguments):
    return main(["detect", str(folder), *arguments, "--out", str(out), "--batch_size", "2", "--device", "cpu"])


def test_a_batch_is_judged_before_it_is_learned_from_by_calibration_images_under_the_same_memory(folder, mixed):
    stream, own = StreamDetector.load(folder, "cpu"), StreamDetector.load(folder, "cpu")
    found = stream(mixed, batch_size=4)
    assert sum(decision.status == "broken" for decision in found) == 4
    rows = torch.from_numpy(own.rows.embedding)
    thresholds = set()
    for at in range(0, len(mixed), 4):
        readable = [image for image in map(own.prepared, mixed[at : at + 4]) if isinstance(image, np.ndarray)]
        embedded = own.graph.embed(torch.from_numpy(np.stack(readable)))
        memory = own.score.memory_
        calibration = own.score.score(own.score.fitted_, memory, rows).numpy()
        scores = own.score.score(own.score.fitted_, memory, embedded.embedding).numpy()
        decisions = [decision for decision in found[at : at + 4] if decision.status == "ok"]
        for decision, score in zip(decisions, scores, strict=True):
            assert decision.score == pytest.approx(score, abs=1e-5)
            assert decision.p_value == pytest.approx((1 + (calibration <= score).sum()) / (len(calibration) + 1))
            assert decision.accepted == (decision.p_value > 0.1)
        thresholds.add(own.calibration.threshold)
        own.score.step(embedded)
    assert own.score.counts() == stream.score.counts()
    assert len(thresholds) > 3, "the threshold moves"


def test_new_id_images_are_accepted_as_promised_whatever_was_learned(settings):
    """Over splits of exchangeable images, after a stream of others: 36 of 40 in expectation."""
    stream = StreamDetector.from_settings(settings, "adaneg")
    draw = np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((32, 32)) for _ in range(90)]
    others = [stream.prepared(Image.new("RGB", (32, 32), (level, 0, level))) for level in range(0, 256, 8)]
    prepared = {id(image): stream.prepared(image) for image in images}
    shares, moved = [], []
    for split in range(16):
        random.Random(split).shuffle(images)
        stream.reset(split)
        calibrated = stream.calibrated(images[:39], id_recall=0.9)
        before = calibrated.calibration.threshold
        calibrated.decide(others)
        moved.append(abs(calibrated.calibration.threshold - before))
        accepted = []
        for at in range(39, len(images), 17):
            accepted += [
                d.accepted for d in calibrated.decide([prepared[id(image)] for image in images[at : at + 17]])[0]
            ]
        shares.append(np.mean(accepted))
    assert 0.83 < np.mean(shares) < 0.97
    assert np.mean(moved) > 0.01


@pytest.mark.parametrize("score", ["adaneg", "tins", "ants"])
def test_a_shipped_stream_goes_on_as_the_one_it_was_saved_from(
    score, settings, id_folder, mixed, tmp_path, monkeypatch
):
    model = FakeModel()
    monkeypatch.setattr(SeeingModel, "model", lambda self: model)
    stream = StreamDetector.from_settings(settings, score).calibrated(id_folder, id_recall=0.8)
    stream(mixed[:6], batch_size=3)
    stream.save(tmp_path / "det")
    again = StreamDetector.load(tmp_path / "det", "cpu")
    assert again.score.counts() == stream.score.counts()
    assert again.score.counts()["seen"] > 0
    assert any(question.messages[0].images for question in model.questions) == (score == "ants")
    for one, other in zip(again(mixed[8:], 3), stream(mixed[8:], 3), strict=True):
        assert one.status == other.status
        assert one.status == "broken" or one.score == pytest.approx(other.score, abs=1e-4)
    # A memory of one belongs to the other.
    stream.save_state(tmp_path / "state.safetensors")
    again.load_state(tmp_path / "state.safetensors")


def test_detect_is_the_same_killed_or_in_two_goes(folder, mixed, tmp_path, monkeypatch, short_blocks):
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    memory, later = tmp_path / "memory.safetensors", tmp_path / "later.safetensors"
    assert detect(folder, whole, *mixed[:7], *mixed[8:10], "--memory", str(memory)) == 0
    made, make = [], jobs._make

    def dying(job, number, pool):
        if len(made) == 1:
            raise SystemExit(130)
        made.append(number)
        make(job, number, pool)

    monkeypatch.setattr(jobs, "_make", dying)
    with pytest.raises(SystemExit):
        detect(folder, killed, *mixed[:7], *mixed[8:10], "--memory", str(later))
    monkeypatch.setattr(jobs, "_make", make)
    assert not later.exists()
    assert detect(folder, killed, *mixed[:7], *mixed[8:10], "--memory", str(later)) == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert later.read_bytes() == memory.read_bytes()
    # Cut between batches, the second half goes on where the first one ended.
    first, second, kept = tmp_path / "first.jsonl", tmp_path / "second.jsonl", tmp_path / "kept.safetensors"
    assert detect(folder, first, *mixed[:4], "--memory", str(kept)) == 0
    assert detect(folder, second, *mixed[4:7], *mixed[8:10], "--memory", str(kept)) == 0
    assert first.read_bytes() + second.read_bytes() == whole.read_bytes()
    assert kept.read_bytes() == memory.read_bytes()
    alone = tmp_path / "alone.jsonl"
    assert detect(folder, alone, *mixed[4:7], *mixed[8:10]) == 0
    assert alone.read_bytes() != second.read_bytes(), "the memory matters"
    decisions = StreamDetector.load(folder, "cpu")([*mixed[:7], *mixed[8:10]], batch_size=2)
    for row, decision in zip(read_rows(whole), decisions, strict=True):
        assert (row["score"], row["accepted"]) == (pytest.approx(decision.score, abs=1e-5), decision.accepted)


def test_a_block_that_is_made_again_does_not_lend_its_memory_to_a_later_one(
    folder, mixed, tmp_path, monkeypatch, short_blocks
):
    inputs = [*mixed[:7], *mixed[8:13]]
    whole, again = tmp_path / "whole.jsonl", tmp_path / "again.jsonl"
    assert detect(folder, whole, *inputs) == 0
    make = jobs._make

    def dying(job, number, pool):
        if number == 2:
            raise SystemExit(130)
        make(job, number, pool)

    monkeypatch.setattr(jobs, "_make", dying)
    with pytest.raises(SystemExit):
        detect(folder, again, *inputs)
    monkeypatch.setattr(jobs, "_make", make)
    (tmp_path / "again.jsonl.parts" / "00000000.jsonl").unlink()
    assert detect(folder, again, *inputs) == 0
    assert again.read_bytes() == whole.read_bytes()


def test_what_a_moving_threshold_cannot_do_is_said(folder, saved, mixed, tmp_path, capsys, monkeypatch):
    out = tmp_path / "d.csv"

    def said(arguments):
        assert main(arguments) == 2
        return capsys.readouterr().err

    assert "leave --fdr out" in said(["detect", str(folder), mixed[0], "--out", str(out), "--fdr", "0.1"])
    assert "--memory is for a test-time score" in said(
        ["detect", str(saved), mixed[0], "--out", str(out), "--memory", str(tmp_path / "m")]
    )
    assert "`mmood detect` and StreamDetector.load run it" in said(
        ["export", str(folder), "--out", str(tmp_path / "o")]
    )
    assert "`mmood detect` and StreamDetector.load run it" in said(["serve", str(folder)])
    assert detect(folder, out, mixed[0]) == 0
    assert "cannot be compared with one calibration" in said(["monitor", str(folder), str(out)])
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert "one process has to" in said(["detect", str(folder), *mixed[:7], "--out", str(tmp_path / "e.csv")])
    with pytest.raises(MmoodError, match=r"Detector\.load reads it"):
        StreamDetector.load(saved)
    with pytest.raises(MmoodError, match="test-time score 'adaneg'"):
        Detector.load(folder)


@pytest.mark.parametrize("name", ["memory.safetensors", "calibration-rows.safetensors", "score.safetensors"])
def test_a_damaged_folder_is_refused(name, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "det")
    content = (tmp_path / "det" / name).read_bytes()
    (tmp_path / "det" / name).write_bytes(content[:-4] + b"\0\1\2\3")
    with pytest.raises(MmoodError, match=f"{name} is not the file that was written"):
        StreamDetector.load(tmp_path / "det")
    (tmp_path / "det" / name).unlink()
    with pytest.raises(MmoodError, match=f"its file {name} is missing"):
        StreamDetector.load(tmp_path / "det")


def test_calibrate_says_what_the_threshold_means(settings, tmp_path, capsys):
    arguments = ["calibrate", *settings, "--score", "adaneg", "--id_recall", "0.9", "--out", str(tmp_path / "det")]
    assert main(arguments) == 0
    assert (
        "before each batch, the calibration images are scored with the memory of that moment" in capsys.readouterr().out
    )
