"""`mmood monitor`: no alarm without a change, one after it, and files that are refused."""

import json
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from mmood.cli.main import main
from mmood.detector.calibration import CalibrationEmbeddings, calibrate, write_embeddings
from mmood.detector.decisions import FIELDS, Decision
from mmood.detector.detection import Table
from mmood.detector.manifest import read_manifest, write_manifest

WIDTH = 16


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def images(rng, count, shift=0.0):
    """Scores, and embeddings around a direction; a shift moves both."""
    return (rng.normal(size=count) - shift).astype(np.float32), unit(rng.normal(size=(count, WIDTH)) + 1 - shift)


@pytest.fixture(scope="module")
def folder(saved, tmp_path_factory):
    """A detector folder with 400 drawn calibration images; its tower is never asked."""
    scores, embeddings = images(np.random.default_rng(7), 400)
    made = tmp_path_factory.mktemp("monitor") / "det"
    made.mkdir()
    write_embeddings(made, CalibrationEmbeddings(embeddings.mean(axis=0), embeddings))
    write_manifest(made, replace(read_manifest(saved), calibration=calibrate(scores, 0.95)).with_files(made))
    return made


def write(path, folder, scores, embeddings=None, broken=()):
    """Write decisions as `mmood detect` does; the rows in `broken` have none."""
    calibration = read_manifest(folder).calibration
    rows, left = [], iter(zip(calibration.accepts(scores), scores, calibration.p_values(scores), strict=True))
    for number in range(len(scores) + len(broken)):
        decision = Decision("broken", reason="cut off")
        if number not in broken:
            accepted, score, p_value = next(left)
            decision = Decision("ok", bool(accepted), float(str(score)), float(p_value), "red square")
        rows.append({"input": f"{number}.png", **decision.as_dict()})
    table = Table(path)
    table.write(rows, None)
    if embeddings is not None:
        np.save(table.embeddings, embeddings.astype(np.float16))
    return str(path)


def run(folder, tmp_path, *arguments):
    code = main(["monitor", str(folder), *arguments, "--out", str(tmp_path / "found.json")])
    return code, json.loads((tmp_path / "found.json").read_text())


def test_windows_without_a_change_raise_no_alarm_and_one_after_it_does(folder, tmp_path, capsys):
    rng = np.random.default_rng(0)
    paths = [write(tmp_path / f"{day}.jsonl", folder, *images(rng, 100)) for day in range(4)]
    mixed = [np.concatenate(pair) for pair in zip(images(rng, 80), images(rng, 20, 3.0), strict=True)]
    code, found = run(folder, tmp_path, *paths, write(tmp_path / "new.csv", folder, *mixed))
    assert code == 3
    assert found["alarm"]
    assert [window["alarm"] for window in found["windows"]] == [False] * 4 + [True]
    last = found["windows"][-1]
    assert last["because"] == ["share below", "scores", "embeddings"]
    assert last["below"]["count"] == int((~read_manifest(folder).calibration.accepts(mixed[0])).sum())
    assert last["embeddings"]["cosine"] < last["embeddings"]["cosine_expected"]
    assert "1 of 5 windows raise an alarm" in capsys.readouterr().out
    drawn = ET.parse(tmp_path / "found.svg")
    columns = [mark for mark in drawn.iter("{http://www.w3.org/2000/svg}rect") if mark.get("class") == "alarm"]
    assert len(columns) == 1


@pytest.mark.parametrize("kind", ["share below", "scores", "embeddings"])
def test_each_test_sees_what_the_others_do_not(folder, tmp_path, kind):
    rng = np.random.default_rng(3)
    scores, embeddings = images(rng, 400)
    if kind == "share below":
        scores[:45] -= 10  # the largest gap of both distribution functions stays small
    elif kind == "scores":
        scores = np.abs(scores)
    else:
        embeddings = images(rng, 400, 0.3)[1]
    code, found = run(folder, tmp_path, write(tmp_path / "d.jsonl", folder, scores, embeddings))
    assert code == 3
    assert kind in found["windows"][0]["because"]
    assert ("embeddings" in found["windows"][0]["because"]) == (kind == "embeddings")


def test_rows_are_cut_into_windows_with_their_embeddings(folder, tmp_path):
    rng = np.random.default_rng(5)
    scores, embeddings = images(rng, 250)
    code, found = run(
        folder, tmp_path, write(tmp_path / "d.csv", folder, scores, embeddings, (0, 3, 200)), "--window", "100"
    )
    assert code == 0
    windows = found["windows"]
    assert [(w["images"], w["broken"]) for w in windows] == [(98, 2), (100, 0), (52, 1)]
    assert windows[2]["window"].endswith("d.csv, rows 201 to 253")
    # The same window as a file of its own: the same numbers, whatever stands beside it.
    alone = write(tmp_path / "alone.jsonl", folder, scores[98:198], embeddings[98:198])
    assert {**run(folder, tmp_path, alone)[1]["windows"][0], "window": ""} == {**windows[1], "window": ""}


def test_formats_and_embeddings_left_out(folder, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    scores, _ = images(np.random.default_rng(6), 50)
    paths = [write(tmp_path / f"d{suffix}", folder, scores, broken=(1,)) for suffix in (".csv", ".jsonl", ".parquet")]
    code, found = run(folder, tmp_path, *paths)
    assert code == 0
    first, second, third = ({**window, "window": ""} for window in found["windows"])
    assert first == second == third
    assert first["embeddings"] is None
    assert set(first["adjusted"]) == {"share below", "scores"}
    assert "3 windows have no embeddings beside them" in capsys.readouterr().out


def test_a_window_of_broken_images_alone_is_an_alarm(folder, tmp_path):
    nothing = write(tmp_path / "d.jsonl", folder, np.empty(0, np.float32), np.empty((0, WIDTH)), (0, 1, 2))
    code, found = run(folder, tmp_path, nothing)
    assert code == 3
    assert (found["windows"][0]["broken"], found["windows"][0]["because"]) == (3, ["no readable image"])


def test_decisions_of_the_detector_itself_are_taken(saved, mixed, tmp_path):
    out = tmp_path / "d.csv"
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in mixed))
    assert (
        main(["detect", str(saved), str(tmp_path / "list.txt"), "--out", str(out), "--embeddings", "--device", "cpu"])
        == 0
    )
    code, found = run(saved, tmp_path, str(out))
    assert code in (0, 3)
    assert (found["windows"][0]["images"], found["windows"][0]["broken"]) == (22, 4)
    assert found["windows"][0]["embeddings"] is not None


def test_decisions_of_another_detector_are_refused(saved, folder, tmp_path, capsys):
    scores, _ = images(np.random.default_rng(8), 20)
    path = write(tmp_path / "d.jsonl", folder, scores)
    assert main(["monitor", str(saved), path]) == 2
    assert "contains decisions of another detector, or of another calibration: row 1 gives" in capsys.readouterr().err


def test_what_cannot_be_is_said(folder, tmp_path, capsys):
    scores, embeddings = images(np.random.default_rng(9), 20)
    good = write(tmp_path / "d.csv", folder, scores, embeddings)
    (tmp_path / "none.jsonl").write_text("")
    row = dict.fromkeys(("input", *FIELDS)) | {"status": "ok", "score": "high", "p_value": 0.5}
    (tmp_path / "text.jsonl").write_text(json.dumps(row))
    other = write(tmp_path / "other.csv", folder, scores, embeddings[:10])
    nan = write(tmp_path / "nan.csv", folder, scores, np.full_like(embeddings, np.nan))
    pickled = write(tmp_path / "pickled.csv", folder, scores)
    np.save(f"{pickled}.embeddings.npy", np.array([{}]), allow_pickle=True)
    for arguments, said in (
        ([str(tmp_path / "nowhere.csv")], "There are no decisions at"),
        ([str(folder / "detector.json")], "is not a file of decisions: its extension must be one of"),
        ([str(tmp_path / "none.jsonl")], "contains no decisions"),
        ([str(tmp_path / "text.jsonl")], "row 1, has score = 'high'"),
        ([other], "does not hold the embeddings of the 20 images"),
        ([nan], "are not all finite"),
        ([pickled], "embeddings.npy cannot be read: "),
        ([good, "--window", "0"], "--window is 0"),
        ([good, "--false_alarms", "0"], "--false_alarms is 0"),
        ([good, "--seed", "-1"], "--seed is -1"),
        ([good, "--out", "found.txt"], "it must end in .json"),
    ):
        assert main(["monitor", str(folder), *arguments]) == 2
        assert said in capsys.readouterr().err
    assert main(["monitor", str(tmp_path), good]) == 2
    assert "There is no detector at" in capsys.readouterr().err


def test_a_damaged_reference_is_refused(folder, tmp_path, capsys):
    copy = tmp_path / "det"
    shutil.copytree(folder, copy)
    (copy / "calibration.safetensors").write_bytes(b"nothing")
    path = write(tmp_path / "d.csv", folder, images(np.random.default_rng(1), 20)[0])
    assert main(["monitor", str(copy), path]) == 2
    assert "is damaged: calibration.safetensors has 7 bytes" in capsys.readouterr().err
