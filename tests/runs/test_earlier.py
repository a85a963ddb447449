"""A run folder keeps what is in it: another run is refused, follows another stage, or puts it aside."""

import json
import re

import pytest

from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.runs.earlier import put_aside, refuse_earlier
from mmood.runs.folder import run_folder

RESULTS = ("results.json", "results.csv", "results.md", "results.tex", "config.test.yaml", "scores/toy-test.npz")


@pytest.fixture(autouse=True)
def no_job(monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.mark.parametrize(
    ("stage", "left", "refused"),
    [
        ("test", "results.json", True),
        ("validate", "results.json", True),
        ("fit", "checkpoints/last.ckpt", True),
        ("predict", "predictions.csv", True),
        ("test", "checkpoints/last.ckpt", False),  # fit, then test into the same folder
        ("fit", "results.json", False),
        ("predict", "results.json", False),
        ("test", "predictions.csv", False),
        ("test", "scores/toy-test.npz", False),  # of a run that was killed: no results, so nothing to lose
        ("test", "config.test.yaml", False),
    ],
)
def test_a_stage_refuses_to_replace_its_own_results_alone(stage, left, refused, tmp_path):
    write(tmp_path, left)
    if not refused:
        refuse_earlier(tmp_path, stage, None)
        return
    with pytest.raises(MmoodError, match=re.escape(left) + ".* --run_dir, or set --overwrite true"):
        refuse_earlier(tmp_path, stage, None)


def test_a_folder_that_is_not_there_is_free(tmp_path):
    refuse_earlier(tmp_path / "none", "test", None)


@pytest.mark.parametrize(("restarts", "refused"), [("0", True), ("1", False)])
def test_a_requeued_job_goes_on_in_its_folder(restarts, refused, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    write(tmp_path, "checkpoints/last.ckpt")
    if refused:
        with pytest.raises(MmoodError):
            refuse_earlier(tmp_path, "fit", None)
    else:
        refuse_earlier(tmp_path, "fit", None)
        put_aside(tmp_path, "fit", None)
        assert (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_a_training_goes_on_from_a_checkpoint_of_its_own_folder_and_of_no_other(tmp_path):
    write(tmp_path, "run/checkpoints/last.ckpt", "other/checkpoints/last.ckpt")
    refuse_earlier(tmp_path / "run", "fit", str(tmp_path / "run/checkpoints/last.ckpt"))
    with pytest.raises(MmoodError, match=r"last\.ckpt of an earlier run"):
        refuse_earlier(tmp_path / "run", "fit", str(tmp_path / "other/checkpoints/last.ckpt"))


def test_what_is_put_aside_is_kept_until_the_next_time(tmp_path):
    write(tmp_path, *RESULTS, "predictions.csv", "checkpoints/last.ckpt")
    put_aside(tmp_path, "test", None)
    assert all((tmp_path / "previous" / name).read_text() == name for name in RESULTS)
    assert not any((tmp_path / name).exists() for name in RESULTS)
    assert (tmp_path / "predictions.csv").exists()
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()
    write(tmp_path, "results.json", "scores/other.npz")
    put_aside(tmp_path, "validate", None)
    assert [path.name for path in (tmp_path / "previous" / "scores").iterdir()] == ["other.npz"]


def test_a_second_test_is_refused_before_anything_is_built_and_overwrites_on_demand(toy_flags, tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--run_dir", str(folder)]
    assert main(arguments) == 0
    before = {name: (folder / name).read_bytes() for name in RESULTS}
    # The encoder is never looked for.
    assert main([*arguments, "--model.prompts", "the nice {}", "--model.encoder.name", "local-dir:/nowhere"]) == 2
    assert "holds results.json of an earlier run" in capsys.readouterr().err
    assert {name: (folder / name).read_bytes() for name in RESULTS} == before
    overwrite = ["--model.prompts", "the nice {}", "--overwrite", "true", "--evaluation.save_scores", "false"]
    assert main([*arguments, *overwrite]) == 0
    results = json.loads((folder / "results.json").read_text())
    assert results["provenance"]["settings"]["prompts"] == ["the nice {}"]
    assert not (folder / "scores").exists()
    assert {name: (folder / "previous" / name).read_bytes() for name in RESULTS} == before
    # The config that such a run leaves asks for a folder of its own when it is run again.
    assert main(["test", "--config", str(folder / "config.test.yaml")]) == 2
    assert "holds results.json of an earlier run" in capsys.readouterr().err


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run_folder("~/runs/x", "name") == tmp_path / "runs" / "x"
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("flag", ["--name", "--run_dir"])
def test_a_nul_character_is_refused_in_a_sentence(flag, toy_flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, flag, "a\0b"]) == 2
    assert f"{flag} is 'a\\x00b'; the name of a folder cannot contain a NUL character." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../up", "/up", "a/../../b"])
def test_a_name_that_leaves_the_folder_of_runs_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MmoodError, match="leaves the folder runs/; set --run_dir"):
        run_folder(None, name)
    assert list(tmp_path.iterdir()) == []
