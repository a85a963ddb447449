"""The maps of a run over the hardest images of its report."""

import shutil

import numpy as np
import pytest
from PIL import Image

from mmood.cli.main import main
from mmood.cli.report import write_report
from mmood.errors import MmoodError
from mmood.report.maps import run_maps
from mmood.report.runs import load_runs
from mmood.results.arrays import arrays_bytes, read_arrays, run_of_arrays


@pytest.fixture(scope="module")
def run_with_maps(toy_flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps") / "glmcm"
    scores = ["--model", "ZeroShot", "--model.scores.mcm", "MCM", "--model.scores.glmcm", "GLMCM"]
    assert main(["test", *scores, *toy_flags, "--maps.files", "npz", "--run_dir", str(folder)]) == 0
    return folder


def test_each_hard_image_has_its_map(run_with_maps, toy_runs, tmp_path):
    page = tmp_path / "report.html"
    write_report([run_with_maps, toy_runs[0]], page, resamples=0)
    text = page.read_text()
    assert text.count('class="map"') == 8 + 8 + 2, "the hardest 8 of each set (one has 2), of the run that has maps"
    assert "its map of glmcm" in text


def test_the_map_lies_over_what_the_tower_saw(run_with_maps):
    maps = run_maps(load_runs([run_with_maps])[0])
    assert maps.score == "glmcm"
    picture = Image.new("RGB", (120, 80), (200, 200, 200))
    shown = np.asarray(maps.over("toy-near", 2, picture, (120, 80))).astype(int)
    # The transform resizes the shorter side and crops the centre: 20 columns on each side are not seen.
    assert (shown[:, [0, 19, 100, 119]] == 70).all()
    assert (shown[:, [20, 99]] != 70).any(axis=-1).all()
    assert maps.over("toy-near", 10_000, picture, (120, 80)) is None
    assert maps.over("elsewhere", 0, picture, (120, 80)) is None


def test_a_run_without_maps_has_none(toy_runs):
    assert run_maps(load_runs([toy_runs[0]])[0]) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: arrays | {"key": arrays["key"][::-1]}, "no ascending array 'key'"),
        (lambda arrays: arrays | {"glmcm": arrays["glmcm"][1:]}, "has 'glmcm' of shape"),
        (lambda arrays: arrays | {"glmcm": arrays["glmcm"] * np.float32("nan")}, "has 'glmcm' of shape"),
    ],
)
def test_a_broken_file_of_maps_is_named(run_with_maps, tmp_path, change, said):
    folder = shutil.copytree(run_with_maps, tmp_path / "run")
    path = folder / "maps" / "toy-test.npz"
    arrays, run = read_arrays(path, "It", dimensions=3), run_of_arrays(path, "It")
    path.write_bytes(arrays_bytes(change(arrays), run))
    with pytest.raises(MmoodError, match=said):
        run_maps(load_runs([folder])[0])


def test_maps_of_another_run_are_refused(run_with_maps, tmp_path):
    folder = shutil.copytree(run_with_maps, tmp_path / "run")
    path = folder / "maps" / "toy-test.npz"
    path.write_bytes(arrays_bytes(read_arrays(path, "It", dimensions=3), "0" * 16))
    with pytest.raises(MmoodError, match="run"):
        run_maps(load_runs([folder])[0])
