import contextlib
import io
import json
import re
import shlex

import pytest

from mmood.cli.demo import STAGES, TESTED, build
from mmood.cli.main import main
from mmood.demo import world
from mmood.demo.pretrain import Recipe


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A small demo, and what was said while it was built."""
    folder = tmp_path_factory.mktemp("demo") / "with space [1]"
    with contextlib.redirect_stderr(io.StringIO()) as said:
        build(folder, 40, Recipe(steps=1))
    return folder, said.getvalue()


@pytest.fixture(scope="module")
def demo(built):
    return built[0]


def test_without_a_terminal_each_stage_is_a_plain_line(built):
    lines = [re.fullmatch(r" *\d+ s  (.*), \d+", line)[1] for line in built[1].splitlines()]
    sets = [*world.SETS, "demo-still-train", "demo-still-test"]
    assert lines == [
        *(f"rendering {name}" for name in sets),
        "rendering images with captions",
        "pre-training the CLIP",
    ]


def test_demo_prints_each_command_and_leaves_results(demo, capsys):
    assert main(["demo", "--out", str(demo), "--size", "40", "--steps", "1"]) == 0
    shown = capsys.readouterr().out
    commands = [shlex.split(line[2:]) for line in shown.splitlines() if line.startswith("$ ")]
    runs = [str(demo / "runs" / name) for name in TESTED]
    report = ["mmood", "report", *runs, "--out", str(demo / "report.html")]
    assert commands == [*(["mmood", *stage.arguments(demo)] for stage in STAGES), report]
    assert (demo / "report.html").is_file()
    assert "The demo in one table" in shown
    assert "Pixels of stars, which were held out" in shown
    pixels = json.loads((demo / "runs" / "segnet" / "results.json").read_text())
    assert {row["group"] for row in pixels["rows"]} == {"pixels", "errors", "images"}
    results = json.loads((demo / "runs" / "zeroshot" / "results.json").read_text())
    assert {row["set"]: row["group"] for row in results["rows"]} == {"demo-near": "near", "demo-far": "far"}
    assert "Next, try your own images" in shown
    assert "folder:MY/OOD/IMAGES" in shown


def test_second_run_builds_nothing_anew(demo):
    written = {path: path.stat().st_mtime_ns for path in demo.rglob("*") if "runs" not in path.parts and path.is_file()}
    build(demo, 40, Recipe(steps=1))
    kept = {path: path.stat().st_mtime_ns for path in written if path.suffix != ".txt"}
    assert all(written[path] == time for path, time in kept.items())


def test_bad_size_is_one_sentence(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path), "--size", "3"]) == 2
    assert "mmood: `--size` is 3; it must be at least 40" in capsys.readouterr().err
