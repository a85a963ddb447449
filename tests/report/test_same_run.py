"""Files of different runs are never joined, whatever put them into one folder."""

import csv
import json
import shutil
import zipfile

import pytest

from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.report.runs import load_runs
from mmood.results.arrays import run_of_arrays


@pytest.fixture
def run(toy_runs, tmp_path):
    """A copy of a run folder, to be changed."""
    return shutil.copytree(toy_runs[0], tmp_path / "run")


def run_of(folder):
    return json.loads((folder / "results.json").read_text())["run"]


def test_every_file_of_a_run_bears_its_id(run):
    own = run_of(run)
    assert len(own) == 16
    assert (run / "config.test.yaml").read_text().startswith(f"# run {own}\n")
    assert own in (run / "results.md").read_text()
    assert own in (run / "results.tex").read_text()
    assert {row["run"] for row in csv.DictReader((run / "results.csv").open())} == {own}
    assert {run_of_arrays(path, "It") for path in (run / "scores").glob("*.npz")} == {own}


def test_two_runs_of_the_same_settings_have_different_ids(toy_runs):
    assert len({run_of(folder) for folder in toy_runs}) == len(toy_runs)


@pytest.mark.parametrize("name", ["scores/toy-near.npz", "config.test.yaml"])
def test_a_file_of_another_run_is_refused(name, run, toy_runs, capsys):
    shutil.copy(toy_runs[2] / name, run / name)
    assert main(["report", str(run)]) == 2
    said = capsys.readouterr().err
    assert name in said
    assert f"belongs to the run {run_of(toy_runs[2])}, and the results beside it to the run {run_of(run)}" in said


def test_a_file_without_an_id_is_refused_beside_results_with_one(run):
    with zipfile.ZipFile(run / "scores" / "toy-near.npz", "a") as archive:
        archive.comment = b""
    with pytest.raises(MmoodError, match="belongs to the run of no id"):
        load_runs([run])


def test_a_folder_from_before_runs_had_ids_is_read(run):
    results = json.loads((run / "results.json").read_text())
    del results["run"]
    (run / "results.json").write_text(json.dumps(results))
    config = (run / "config.test.yaml").read_text()
    (run / "config.test.yaml").write_text(config.partition("\n")[2])
    for path in (run / "scores").glob("*.npz"):
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = b""
    (found,) = load_runs([run])
    assert found.pairs()
    assert found.config


def test_a_test_without_scores_leaves_no_scores_of_the_one_before(toy_flags, tmp_path):
    # The new point would stand in the interval of the old scores: 92.00 [70.00, 89.33].
    folder = tmp_path / "run"
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--run_dir", str(folder)]
    assert main(arguments) == 0
    again = ["--model.prompts", "the nice {}", "--evaluation.save_scores", "false", "--overwrite", "true"]
    assert main([*arguments, *again]) == 0
    assert main(["report", str(folder), "--resamples", "50"]) == 0
    assert "[" not in (folder / "report.md").read_text().partition("\n## ")[2]


def test_a_kill_between_scores_and_results_joins_nothing(toy_flags, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--run_dir", str(folder)]
    assert main(arguments) == 0

    def kill(*_):
        raise MmoodError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("mmood.evaluation.callback.write_results", kill)
        assert main([*arguments, "--model.prompts", "the nice {}", "--overwrite", "true"]) == 2
    assert list((folder / "scores").glob("*.npz"))
    assert main(["report", str(folder)]) == 2
    assert "There are no results" in capsys.readouterr().err
