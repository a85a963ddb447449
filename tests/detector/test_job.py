"""`mmood detect`: one row an image, in order; killed and begun again, or on two ranks, the same bytes."""

import csv
import io
import json
import sys

import numpy as np
import pytest

from mmood.cli.main import main
from mmood.detector.calibration import benjamini_hochberg
from mmood.detector.decisions import FIELDS
from mmood.detector.detection import Table, read_rows
from mmood.detector.detection import job as jobs
from mmood.errors import MmoodError


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """Blocks of four images, so that a few images are several blocks."""
    monkeypatch.setattr(jobs, "BATCHES", 2)


@pytest.fixture
def listed(mixed, tmp_path):
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in mixed))
    return str(tmp_path / "list.txt")


def detect(saved, out, *arguments):
    flags = ["--batch_size", "2", "--device", "cpu", "--threads", "2"]
    return main(["detect", str(saved), *arguments, "--out", str(out), *flags])


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_a_row_for_each_image_as_the_detector_decides(saved, detector, mixed, listed, tmp_path, capsys):
    assert detect(saved, tmp_path / "d.csv", listed) == 0
    found = rows(tmp_path / "d.csv")
    assert [row["input"] for row in found] == mixed
    for row, decision in zip(found, detector(mixed, batch_size=2), strict=True):
        assert row["status"] == decision.status
        assert bool(row["reason"]) == (decision.status == "broken")
        if decision.status == "ok":
            assert float(row["score"]) == pytest.approx(decision.score, abs=1e-5)
            assert (row["accepted"], row["class"]) == (str(decision.accepted).lower(), decision.class_name)
    assert "4 broken" in capsys.readouterr().out
    assert not (tmp_path / "d.csv.parts").exists()


def test_killed_and_begun_again_the_file_is_the_same(saved, mixed, listed, tmp_path, monkeypatch):
    whole, again = tmp_path / "whole.jsonl", tmp_path / "again.jsonl"
    assert detect(saved, whole, listed, "--embeddings") == 0
    made, make = [], jobs._make

    def dying(job, number, pool):
        if len(made) == 3:
            raise SystemExit(130)
        made.append(number)
        make(job, number, pool)

    monkeypatch.setattr(jobs, "_make", dying)
    with pytest.raises(SystemExit):
        detect(saved, again, listed, "--embeddings")
    # What a machine that goes down may leave of a block that was being written.
    (again.with_name("again.jsonl.parts") / ".00000004.jsonl.x").write_bytes(b"half a li")
    assert not again.exists()
    assert main(["detect", str(saved), mixed[0], "--out", str(again)]) == 2
    monkeypatch.setattr(jobs, "_make", make)
    assert detect(saved, again, listed, "--embeddings") == 0
    assert again.read_bytes() == whole.read_bytes()
    embeddings = [np.load(f"{path}.embeddings.npy", allow_pickle=False) for path in (whole, again)]
    assert np.array_equal(*embeddings)
    assert len(embeddings[0]) == sum(row["status"] == "ok" for row in read_rows(whole))


def test_embeddings_of_an_older_file_do_not_stay_beside_new_rows(saved, mixed, tmp_path):
    out = tmp_path / "d.csv"
    assert detect(saved, out, *mixed[:4], "--embeddings") == 0
    assert Table(out).embeddings.is_file()
    assert detect(saved, out, *mixed[4:8]) == 0
    assert not Table(out).embeddings.exists()


@pytest.mark.parametrize("world", [2, 3, 50])
def test_ranks_write_the_same_file(saved, listed, tmp_path, monkeypatch, world):
    alone, together = tmp_path / "alone.csv", tmp_path / "together.csv"
    arguments = [listed, "--fdr", "0.3"]
    assert detect(saved, alone, *arguments) == 0
    monkeypatch.setenv("WORLD_SIZE", str(world))
    for rank in reversed(range(world)):
        assert rank == 0 or world > 3 or not together.exists()
        monkeypatch.setenv("RANK", str(rank))
        assert detect(saved, together, *arguments) == 0
    assert together.read_bytes() == alone.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.csv", "list.txt", "together.csv"]


def test_formats_hold_the_same_rows(saved, listed, tmp_path):
    pytest.importorskip("pyarrow")
    found = []
    for suffix in (".csv", ".jsonl", ".parquet"):
        path = tmp_path / f"d{suffix}"
        assert detect(saved, path, listed, "--fdr", "0.3") == 0
        found.append([{name: value or None for name, value in row.items()} for row in read_rows(path)])
        for row in found[-1]:
            row["score"] = row["score"] and float(np.float32(row["score"]))
    lines = [{name: value or None for name, value in row.items()} for row in found[1]]
    assert found[0] == lines == found[2]


def test_benjamini_hochberg_marks_the_rows(saved, listed, tmp_path):
    assert detect(saved, tmp_path / "d.jsonl", listed, "--fdr", "0.9") == 0
    found = list(read_rows(tmp_path / "d.jsonl"))
    readable = [row for row in found if row["status"] == "ok"]
    expected = benjamini_hochberg(np.array([row["p_value"] for row in readable]), 0.9)
    assert [number for number, row in enumerate(readable) if row["fdr_ood"]] == expected.tolist()
    assert all(row["fdr_ood"] is None for row in found if row["status"] != "ok")


def test_folders_globs_lists_and_shards_in_the_order_given(saved, toy_root, mixed, tmp_path, monkeypatch):
    near = toy_root.parent / "images" / "toy-near"
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{mixed[0]}\n\nno such file\n"))
    inputs = [str(near / "00[3-5].png"), str(toy_root / "toy-far"), "-", str(near)]
    assert detect(saved, tmp_path / "d.csv", *inputs) == 0
    found = rows(tmp_path / "d.csv")
    names = [row["input"] for row in found]
    assert names[:3] == [str(near / f"00{number}.png") for number in (3, 4, 5)]
    assert [name.partition("/")[0] for name in names[3:5]] == ["toy-far"] * 2
    assert names[5:7] == [mixed[0], "no such file"]
    assert found[6]["reason"] == "there is no such file"
    assert names[7:] == [str(path) for path in sorted(near.iterdir())]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "--out", "d.csv"], "There is no file or folder 'nowhere'"),
        (["{near}", "--out", "d.xls"], "its extension must be one of .csv, .jsonl, .parquet"),
        (["{near}", "--out", "d.csv", "--batch_size", "0"], "batch_size is 0"),
        (["{near}", "--out", "d.csv", "--fdr", "2"], "fdr is 2.0"),
        (["{near}/none-*", "--out", "d.csv"], "no file matches it as a pattern"),
        (["{near}"], "the following arguments are required: --out"),
    ],
)
def test_what_cannot_be_is_said_at_once(saved, toy_root, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    near = str(toy_root.parent / "images" / "toy-near")
    assert main(["detect", str(saved), *(argument.format(near=near) for argument in arguments)]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_decisions_are_refused(tmp_path):
    for name, content, said in (
        ("a.csv", "x,y\n1,2\n", "row 1, is not a decision"),
        ("b.jsonl", '{"input": 1}\n', "row 1, is not a decision"),
        ("c.jsonl", "[1]\n", "line 1, is not a decision"),
        ("d.csv", "input,status,score,p_value,accepted\na,ok,high,0.1,true\n", "is not a table of decisions"),
        ("e.parquet", "PAR1", "is not a Parquet file"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(MmoodError, match=said):
            list(read_rows(tmp_path / name))
    with pytest.raises(MmoodError, match="There are no decisions"):
        list(read_rows(tmp_path / "none.csv"))


def test_rows_are_json_lines_with_every_field(saved, mixed, tmp_path):
    assert detect(saved, tmp_path / "d.jsonl", mixed[0], mixed[7]) == 0
    first, second = (json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines())
    assert list(first) == list(second)
    assert list(first)[:4] == ["input", "status", "accepted", "score"]


def test_a_csv_of_decisions_has_no_formula_and_no_escape_sequence(tmp_path):
    empty = dict.fromkeys(FIELDS)
    Table(tmp_path / "d.csv").write([{"input": "=cmd|' /c calc'!A1", **empty}, {"input": "\x1b[2J.png", **empty}], None)
    assert [row["input"] for row in rows(tmp_path / "d.csv")] == ["'=cmd|' /c calc'!A1", r"\x1b[2J.png"]
