"""Folders through the commands: the numbers of packed sets, the settings in checkpoints, the images of a report."""

import json
import zipfile
from pathlib import Path

import pytest

from mmood.cli.main import main
from mmood.report.images import open_set, thumbnails
from mmood.report.runs import load_runs
from mmood.runs.run_files import _anchored
from mmood.sets.finding import is_known

PARTS = ("id", "rows", "means", "overlap")


@pytest.fixture
def photos(toy_root, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    return toy_root.parent / "images"


def results_of(flags, folder, *more):
    assert main(["test", "--config", "vitb16_zeroshot.yaml", *flags, *more, "--run_dir", str(folder)]) == 0
    return json.loads((folder / "results.json").read_text())


def test_numbers_are_those_of_packed_sets(photos, toy_flags, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "toy-far.zip", "w") as archive:
        for path in sorted((photos / "toy-far").iterdir()):
            archive.write(path, path.name)
    packed = results_of(toy_flags, tmp_path / "packed")
    sets = ["--data.id", f"folder:{photos / 'toy-test'}", "--data.root", str(tmp_path)]
    ood = f"{{near: ['{photos / 'toy-near'}'], far: ['zip:{tmp_path / 'toy-far.zip'}']}}"
    folders = results_of(toy_flags, tmp_path / "folders", *sets, "--data.ood", ood)
    assert {part: folders[part] for part in PARTS} == {part: packed[part] for part in PARTS}
    capsys.readouterr()
    own = results_of(toy_flags, tmp_path / "own", *sets, "--data.ood", ood, "--data.class_names", "null")
    said = " ".join(capsys.readouterr().err.split())
    assert "the classes are those of the ID set: blue square, green square, red square." in said
    assert own["provenance"]["class_names"]["count"] == 3
    (run,) = load_runs([tmp_path / "folders"])
    images = open_set(run, "toy-near")
    assert not images.reason
    assert set(thumbnails(images, [0, 3])) == {0, 3}


def test_paths_of_sets_are_kept_absolute_in_checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    for setting, kept in {
        "folder:a/b": f"folder:{tmp_path}/a/b",
        "x=zip:a/b": f"x=zip:{tmp_path}/a/b",
        "x=a/b": f"x={tmp_path}/a/b",
        "a/b": f"{tmp_path}/a/b",
        "a": "a",
        "https://host/a/b": "https://host/a/b",
    }.items():
        assert _anchored(setting) == kept


def test_a_report_reads_only_folders_that_were_indexed_here(photos):
    assert is_known("toy-test")
    assert not is_known(f"folder:{photos / 'toy-val-ood'}")
