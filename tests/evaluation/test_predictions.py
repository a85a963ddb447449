"""`mmood predict` from outside: a row per input, whatever one of them is."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmood.cli.main import main

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "GIF": "gif", "TIFF": "tif", "PPM": "ppm"}
BROKEN = range(3, 60, 6)


@pytest.fixture(scope="module")
def sixty(tmp_path_factory) -> Path:
    """Sixty files in all formats; ten are cut, empty or something else."""
    folder = tmp_path_factory.mktemp("sixty")
    generator = np.random.default_rng(0)
    for number in range(60):
        kind = list(FORMATS)[number % len(FORMATS)]
        buffer = io.BytesIO()
        Image.fromarray(generator.integers(0, 255, (40, 36, 3), dtype=np.uint8)).save(buffer, kind)
        content = buffer.getvalue()
        if number in BROKEN:
            content = (content[:40], b"", b"no image")[number // 6 % 3]
        (folder / f"{number:02}.{FORMATS[kind]}").write_bytes(content)
    return folder


def predict(flags, images, folder, *more):
    arguments = [*flags, "--data.predict", str(images), "--data.batch_size", "4", "--run_dir", str(folder), *more]
    return main(["predict", "--config", "vitb16_zeroshot.yaml", *arguments])


def rows_of(folder):
    return [*csv.DictReader((folder / "predictions.csv").open(encoding="utf-8"))]


def test_every_input_has_a_row_in_the_order_of_the_inputs(toy_flags, sixty, tmp_path, capsys):
    assert predict(toy_flags, sixty, tmp_path) == 0
    rows = rows_of(tmp_path)
    assert [row["image"] for row in rows] == sorted(path.name for path in sixty.iterdir())
    assert [*rows[0]][:4] == ["image", "status", "reason", "class"]
    for number, row in enumerate(rows):
        if number in BROKEN:
            assert (row["status"], row["class"], row["mcm"]) == ("broken", "", "")
            assert row["reason"].startswith("the image cannot be decoded")
        else:
            assert (row["status"], row["reason"]) == ("ok", "")
            assert row["class"] in {"red square", "green square", "blue square"}
            assert np.isfinite(float(row["mcm"]))
    said = capsys.readouterr().out
    assert "50 of 60 images were scored; 10 are not, such as 03.bmp: the image cannot be decoded" in said


def test_a_broken_image_changes_no_score_of_the_others(toy_flags, sixty, tmp_path):
    good = tmp_path / "good"
    good.mkdir()
    for number, path in enumerate(sorted(sixty.iterdir())):
        if number not in BROKEN:
            (good / path.name).symlink_to(path)
    assert predict(toy_flags, sixty, tmp_path / "all") == predict(toy_flags, good, tmp_path / "alone") == 0
    found = {row["image"]: float(row["mcm"]) for row in rows_of(tmp_path / "all") if row["status"] == "ok"}
    alone = {row["image"]: float(row["mcm"]) for row in rows_of(tmp_path / "alone")}
    assert found == pytest.approx(alone, abs=1e-5)


def test_strict_is_exit_code_2_after_the_file_is_written(toy_flags, sixty, tmp_path, capsys):
    assert predict(toy_flags, sixty, tmp_path / "run", "--strict", "true") == 2
    assert len(rows_of(tmp_path / "run")) == 60
    assert "--strict is set, and 50 of 60 images were scored" in capsys.readouterr().err
    whole = tmp_path / "whole"
    whole.mkdir()
    Image.new("RGB", (8, 8)).save(whole / "a.png")
    assert predict(toy_flags, whole, tmp_path / "other", "--strict", "true") == 0
    assert "All 1 images were scored." in capsys.readouterr().out


@pytest.mark.ddp
def test_two_processes_write_the_rows_of_one(toy_flags, sixty, tmp_path, forked):
    assert predict(toy_flags, sixty, tmp_path / "alone") == 0
    arguments = [*toy_flags, "--data.predict", str(sixty), "--data.batch_size", "4", "--strict", "true"]
    finished = forked.ranks(
        ["predict", "--config", "vitb16_zeroshot.yaml", *arguments, "--run_dir", str(tmp_path / "two")]
    )
    assert finished.code == 2
    assert "--strict is set, and 50 of 60 images were scored" in finished.err
    for row, other in zip(rows_of(tmp_path / "two"), rows_of(tmp_path / "alone"), strict=True):
        assert [row[name] for name in ("image", "status", "reason", "class")] == [
            other[name] for name in ("image", "status", "reason", "class")
        ]
        assert float(row["mcm"] or 0) == pytest.approx(float(other["mcm"] or 0), abs=1e-5)


def test_names_that_are_no_utf8_or_look_like_formulas(toy_flags, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in (b"caf\xe9.png", b"=cmd.png", b"a\x1b[31m.png"):
        Image.new("RGB", (8, 8)).save(os.fsdecode(bytes(images) + b"/" + name))
    assert predict(toy_flags, images, tmp_path / "run") == 0
    names = {row["image"] for row in rows_of(tmp_path / "run")}
    assert "'=cmd.png" in names
    assert r"a\x1b[31m.png" in names
    assert len(names) == 3
    assert all(line.isprintable() for line in (tmp_path / "run" / "predictions.csv").read_text().split("\n"))


def test_every_row_bears_the_id_of_the_run(toy_flags, sixty, tmp_path):
    assert predict(toy_flags, sixty, tmp_path) == 0
    (run,) = {row["run"] for row in rows_of(tmp_path)}
    assert (tmp_path / "config.predict.yaml").read_text().startswith(f"# run {run}\n")
