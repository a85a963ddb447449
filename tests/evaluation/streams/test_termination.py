"""SIGTERM while a stream runs: every process ends, with a sentence and without results."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# A step that says that it is there, and then takes longer than anybody waits.
SCRIPT = """
import os, sys, time
from pathlib import Path
import running_mean
from mmood.cli.main import main

def step(self, embedded):
    Path(sys.argv[1], os.environ.get("LOCAL_RANK", "0")).write_text(str(os.getpid()))
    time.sleep(600)

running_mean.RunningMean.step = step
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.ddp
def test_a_stream_ends_at_sigterm(flags, tmp_path):
    script, there, folder = tmp_path / "slow.py", tmp_path / "there", tmp_path / "run"
    script.write_text(SCRIPT)
    there.mkdir()
    devices = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, str(script), str(there), "test", *flags, *devices, "--run_dir", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    with (tmp_path / "stderr").open("w") as said:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said)
    until(lambda: all((there / str(rank)).exists() for rank in range(2)), process, 240)
    pids = [int((there / str(rank)).read_text()) for rank in range(2)]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    until(lambda: not any(map(alive, pids)), None, 30)
    assert "mmood: test was stopped by SIGTERM. No results were written." in (tmp_path / "stderr").read_text()
    assert not (folder / "results.json").exists()


def until(arrived, process, seconds):
    end = time.monotonic() + seconds
    while not arrived():
        assert process is None or process.poll() is None, "the run ended by itself"
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
