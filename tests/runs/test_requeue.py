"""A job that is asked to make room at any place ends with the weights of one that is not, bit for bit."""

import os
import signal
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path

import pytest
import torch
from forked import mmood

from mmood.cli.main import main
from mmood.runs import requeue
from mmood.runs.requeue import EXIT_CODE, checkpoint_to_resume

ALIGN = "vitb16_align.yaml"
STEPS = 10
"""Of an epoch of the 40 training images in batches of 4."""


@pytest.fixture
def fit_flags(toy_flags) -> list[str]:
    return [
        *(*toy_flags, "--trainer.precision", "32-true", "--trainer.max_epochs", "3"),
        *("--data.train", "toy-train", "--data.val", "{id: 0.25, ood: {val: [toy-val-ood]}}", "--data.batch_size", "4"),
        *("--model.prompts", "a photo of a {}", "--trainer.enable_model_summary", "false"),
        *("--model.scores", "{mcm: {class_path: MCM, init_args: {temperature: 0.1}}}"),
    ]


@pytest.fixture
def job(monkeypatch):
    """Processes of SLURM job 17, in this process: the signal is raised where a test says."""
    monkeypatch.setattr("mmood.cli.main.listen", lambda command: None)
    monkeypatch.setattr(requeue, "_saving", threading.Event())
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    return monkeypatch


def fit(flags: list[str], folder: Path, job, ask_at: int | None, restarts: int = 0, config: str = ALIGN) -> int:
    """Train as the job does, asked to make room at the given one of the places where all processes agree."""
    place = count(1)
    job.setattr("mmood.runs.requeue_callback.asked", lambda: next(place) == ask_at)
    job.setenv("SLURM_RESTART_COUNT", str(restarts))
    try:
        return main(["fit", "--config", config, *flags, "--run_dir", str(folder)])
    except SystemExit as end:
        return end.code


def ends(folder: Path) -> dict[str, dict]:
    return {
        path.name: torch.load(path, weights_only=True, map_location="cpu")
        for path in sorted((folder / "checkpoints").glob("*.ckpt"))
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("config", "accumulate", "places"),
    [
        (ALIGN, 1, (3, 11)),
        ("vitb16_fft.yaml", 2, (5,)),
        pytest.param(ALIGN, 1, (10, 15), marks=pytest.mark.long),
        pytest.param("vitb16_fft.yaml", 2, (2, 8), marks=pytest.mark.long),
    ],
)
def test_ends_with_the_same_weights_wherever_it_is_asked(config, accumulate, places, fit_flags, job, tmp_path):
    # Each epoch has a place after every step but the last, and one before each of the two validation sets.
    flags = [*fit_flags, "--trainer.accumulate_grad_batches", str(accumulate)]
    assert fit(flags, tmp_path / "whole", job, None, config=config) == 0
    whole = ends(tmp_path / "whole")
    assert whole["last.ckpt"]["global_step"] == 3 * STEPS / accumulate
    for place in places:
        folder = tmp_path / str(place)
        assert fit(flags, folder, job, place, config=config) == EXIT_CODE
        saved = ends(folder)["requeue.ckpt"]
        assert saved["global_step"] < 3 * STEPS / accumulate
        assert fit(flags, folder, job, None, restarts=1, config=config) == 0
        cut = ends(folder)
        assert list(cut) == list(whole), "the same epochs were chosen, and requeue.ckpt is gone"
        for name, expected in whole.items():
            assert cut[name]["global_step"] == expected["global_step"]
            same = {
                key: torch.equal(value, cut[name]["state_dict"][key]) for key, value in expected["state_dict"].items()
            }
            assert all(same.values()), f"place {place}: {name} differs"
            scores = [
                [state.get("best_model_score") for state in end["callbacks"].values()] for end in (expected, cut[name])
            ]
            assert scores[0] == scores[1], "validation was left out or seen in part"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_several_turns_and_what_they_log(fit_flags, job, tmp_path):
    assert fit(fit_flags, tmp_path / "whole", job, None) == 0
    folder = tmp_path / "cut"
    assert [fit(fit_flags, folder, job, place, turn) for turn, place in enumerate((4, 5, 6, None))] == [
        EXIT_CODE
    ] * 3 + [0]
    whole, cut = (ends(each)["last.ckpt"]["state_dict"] for each in (tmp_path / "whole", folder))
    assert all(torch.equal(value, cut[key]) for key, value in whole.items())
    rows = [len(path.read_text().splitlines()) - 1 for path in sorted(folder.glob("logs/*/metrics.csv"))]
    assert sum(rows) == len(next((tmp_path / "whole").glob("logs/*/metrics.csv")).read_text().splitlines()) - 1


def checkpoint(path: Path, job: str | None, seconds: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"mmood": {"job": job}}, path)
    os.utime(path, (seconds, seconds))
    return path


def test_goes_on_from_the_newest_whole_checkpoint_of_the_job(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert checkpoint_to_resume(tmp_path / "none") is None
    old = checkpoint(tmp_path / "requeue.ckpt", "17", 1)
    assert checkpoint_to_resume(tmp_path) == old
    new = checkpoint(tmp_path / "epoch=4.ckpt", "17", 2)
    (tmp_path / "last.ckpt").symlink_to(new)
    checkpoint(tmp_path / "other.ckpt", "16", 3)
    checkpoint(tmp_path / "by-hand.ckpt", None, 4)
    assert checkpoint_to_resume(tmp_path) == new
    new.write_bytes(new.read_bytes()[:-100])
    assert checkpoint_to_resume(tmp_path) == old
    assert "epoch=4.ckpt is skipped" in capsys.readouterr().err
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    assert checkpoint_to_resume(tmp_path) is None
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert checkpoint_to_resume(tmp_path) is None


LISTENS = """
import sys, threading, time
from mmood.runs import requeue
requeue.GRACE = 0.5
requeue.listen(sys.argv[1])
print("ready", flush=True)
{wait}
print("went on", requeue.asked(), flush=True)
"""


@pytest.mark.parametrize(
    ("command", "job_name", "wait", "code", "said"),
    [
        ("fit", "mmood-fit", "lock = threading.Lock(); lock.acquire(); lock.acquire()", EXIT_CODE, ""),
        ("fit", "mmood-fit", "time.sleep(0.3)", 0, "went on True"),
        ("fit", "mmood-fit", "requeue.begin_saving(); time.sleep(1)", 0, "went on True"),
        ("embed", "mmood-embed", "time.sleep(5)", EXIT_CODE, ""),
        ("test", "mmood-test", "time.sleep(0.3)", 0, "went on False"),
        ("fit", "interactive", "time.sleep(5)", -signal.SIGUSR1, ""),
        ("fit", None, "time.sleep(5)", -signal.SIGUSR1, ""),
    ],
)
def test_what_the_signal_does(command, job_name, wait, code, said):
    environment = {**os.environ, "SLURM_JOB_ID": "17", "SLURM_JOB_NAME": job_name or ""}
    if job_name is None:
        del environment["SLURM_JOB_ID"]
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENS.format(wait=wait), command], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGUSR1)
    rest = process.communicate(timeout=20)[0].strip()
    assert (process.returncode, rest) == (code, said)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["fit", "embed"])
def test_the_commands_listen(command, fit_flags, tmp_path, monkeypatch, forked):
    monkeypatch.chdir(tmp_path)
    job = {"SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "mmood", "SLURM_RESTART_COUNT": None}
    flags = [*fit_flags, "--trainer.max_epochs", "1000"] if command == "fit" else [*fit_flags, "--chunk", "1"]
    flags += ["--run_dir", str(tmp_path / "run")] if command == "fit" else []
    arguments = [command, "--config", ALIGN, *flags]
    process = forked.start(mmood, arguments, environment={**job, "MMOOD_CACHE": str(tmp_path / "cache")})
    begun = "run/checkpoints/last.ckpt" if command == "fit" else "cache/features/*/*"
    for _ in range(600):
        if list(tmp_path.glob(begun)) or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    assert process.wait() == EXIT_CODE, process.err
    assert "SIGUSR1" in process.err
    assert (command == "fit") == bool(list(tmp_path.glob("run/checkpoints/requeue.ckpt")))
    assert not list(tmp_path.glob("hpc_ckpt*")), "Lightning's own handler was at work"


@pytest.mark.parametrize("script", sorted((Path(__file__).parents[2] / "configs" / "slurm").glob("*.sbatch")), ids=str)
def test_job_files_hand_slurm_s_numbers_to_the_trainer(script, tmp_path):
    """The job files with a srun that only says how it was called, and what comes of it."""
    for name, body in (("srun", 'printf "%s\\n" "$@"; exit "$CODE"'), ("scontrol", 'echo "scontrol $*"')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    numbers = {"SLURM_NNODES": "3", "SLURM_NTASKS_PER_NODE": "5", "SLURM_JOB_ID": "17", "SLURM_CPUS_PER_TASK": "2"}
    environment = {**os.environ, **numbers, "PATH": f"{tmp_path}:{os.environ['PATH']}", "MMOOD": "a container mmood"}
    command = script.stem
    for code in (0, 1, EXIT_CODE):
        ran = subprocess.run(
            ["bash", str(script), "--config", "a b.yaml"],
            env={**environment, "CODE": str(code)},
            capture_output=True,
            text=True,
        )
        words = ran.stdout.splitlines()
        assert ran.returncode == code, ran.stderr
        called = words[words.index("a") : words.index("5") + 1]
        flags = ["--config", "a b.yaml", "--trainer.num_nodes", "3", "--trainer.devices", "5"]
        assert called == ["a", "container", "mmood", command, *flags]
        assert ("scontrol requeue 17" in words) == (code == EXIT_CODE and command != "test")
    header = [line.split()[1] for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    assert "--requeue" in header
    assert ("--signal=SIGUSR1@120" in header) == (command != "test")
