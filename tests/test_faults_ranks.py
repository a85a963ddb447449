"""A rank is killed: the others end soon and with a word, nothing half-written counts, and a restart completes the work.

The sets come through a script that stops while a file `gate` exists, so that a rank is killed at a known place. `test` is
launched as a user does, with Lightning's watch over the processes that it starts. The ranks of `embed` and `fit` are
started as `torchrun` or SLURM does, so that nobody tells the one that is left.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from forked import mmood

from mmood.cli.main import main

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

START = 240  # seconds for two processes to come to the gate, on a machine that does other things too
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
END = 60  # seconds until a run without one of its ranks must be over

SCRIPT = """
case "$1" in {blocked}) while [ -e {gate} ]; do touch {gate}.reached; sleep 0.1; done;; esac
exec cat {root}/"$1"
"""


class Gated:
    """A run over gated sets."""

    def __init__(self, folder, root):
        self.folder, self.gate, self.root = folder, folder / "gate", root
        self.reached = Path(f"{self.gate}.reached")
        self.process = None

    def sets(self, blocked):
        script = self.folder / "serve.sh"
        script.write_text(SCRIPT.format(blocked=blocked, gate=self.gate, root=self.root))
        return f"pipe:sh {script} {{}}"

    def start(self, arguments):
        command = [sys.executable, "-m", "mmood", *arguments, *TWO]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.said = self.folder / "stderr"
        with self.said.open("w") as said:
            self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        return self.process

    def until(self, arrived, running=None):
        """Wait for the run to come to a place; `running` are forked ranks, in place of what `start` started."""
        end = time.monotonic() + START
        while not arrived():
            for process in running or [self.process]:
                assert process.poll() is None, process.err if running else self.said.read_text()
            assert time.monotonic() < end, "the run does not come to the gate"
            time.sleep(0.05)

    def kill_second(self, ranks):
        """Kill the second of two forked ranks and open the gate; return how the first one ended."""
        ranks[1].kill()
        self.gate.unlink()
        return ranks[0].finished(END)

    def kill(self, rank):
        """Kill a rank; return exit code and last words once both processes are gone."""
        pids = {0: self.process.pid, 1: _second_rank(self.process.pid)}
        os.kill(pids[rank], signal.SIGKILL)
        end = time.monotonic() + END
        while self.process.poll() is None or _alive(pids[1]):
            assert time.monotonic() < end, "the run does not end"
            time.sleep(0.1)
        self.gate.unlink()
        return self.process.returncode, self.said.read_text()


def _second_rank(parent):
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            mother = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if mother == parent and b"LOCAL_RANK=1" in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:  # it ended
            continue
    raise AssertionError("there is no second rank")


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def gated(tmp_path, toy_root):
    run = Gated(tmp_path, toy_root)
    yield run
    run.gate.unlink(missing_ok=True)
    if run.process is not None:
        run.process.kill()
        run.process.wait()


def with_root(flags, root, toy_root):
    return [root if flag == str(toy_root) else flag for flag in flags]


@pytest.mark.parametrize(
    ("rank", "word"),
    [
        (1, "ended early|Child process with PID"),
        (0, "mmood: The main process of this run ended early, so rank 1 stops too"),
    ],
)
def test_test_without_a_rank(gated, toy_root, toy_flags, tmp_path, rank, word):
    flags = [*with_root(toy_flags, gated.sets("toy-near/*.tar"), toy_root), "--data.features", "off"]
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *flags, "--run_dir", str(tmp_path / "run")]
    gated.gate.touch()
    gated.start(arguments)
    gated.until(gated.reached.exists)
    code, said = gated.kill(rank)
    assert code != 0
    assert re.search(word, said)
    assert not list((tmp_path / "run").rglob("results.*"))
    assert not list((tmp_path / "run").rglob("*.npz"))
    assert main(arguments) == 0
    again = json.loads((tmp_path / "run" / "results.json").read_text())
    assert main([*arguments[:-1], str(tmp_path / "other")]) == 0
    whole = json.loads((tmp_path / "other" / "results.json").read_text())
    assert again["rows"] == whole["rows"]


def test_embed_without_a_rank(gated, toy_root, toy_flags, tmp_path, forked):
    flags = with_root(toy_flags, gated.sets("toy-near/*.tar"), toy_root)
    arguments = ["embed", "--config", "vitb16_zeroshot.yaml", *flags, "--data.features", str(tmp_path / "stores")]
    gated.gate.touch()
    ranks = forked.start_ranks(mmood, [*arguments, *TWO])
    gated.until(gated.reached.exists, ranks)
    ended = gated.kill_second(ranks)
    assert ended.code != 0
    assert "mmood: Another process of this run ended early" in ended.err
    assert "Traceback" not in ended.err
    # The set that was encoded is whole, the one under way does not pass for one.
    (manifest,) = (tmp_path / "stores").glob("*/manifest.json")
    assert manifest.parent.name.startswith("toy-test.")
    written = manifest.stat().st_mtime_ns
    assert main(arguments) == 0
    assert manifest.stat().st_mtime_ns == written
    assert main([*arguments[:-1], str(tmp_path / "others")]) == 0
    whole = sorted((tmp_path / "others").glob("*/features.safetensors"))
    assert len(whole) == 3
    for path in whole:
        assert path.read_bytes() == (tmp_path / "stores" / path.parent.name / path.name).read_bytes()
        assert not (tmp_path / "stores" / path.parent.name / "parts").exists()


CONFIG = """
model:
  class_path: AlignmentFineTune
  init_args:
    alignment: 0.001
    scores: {mcm: {class_path: MCM, init_args: {temperature: 0.5}}}
    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.001}}
trainer: {precision: 32-true, logger: false, max_epochs: 5}
"""


def test_fit_without_a_rank(gated, toy_root, toy_flags, tmp_path, forked):
    (tmp_path / "fit.yaml").write_text(CONFIG)
    flags = [
        *with_root(toy_flags, gated.sets("toy-train/*.tar"), toy_root),
        *("--data.train", "toy-train", "--data.batch_size", "4", "--data.val.id", "0.25", "--data.ood", "{near: [toy-near]}"),
    ]  # fmt: skip
    arguments = ["fit", "--config", str(tmp_path / "fit.yaml"), *flags]
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    ranks = forked.start_ranks(mmood, [*arguments, *TWO, "--run_dir", str(tmp_path / "run")])
    gated.until(last.exists, ranks)
    gated.gate.touch()
    gated.until(gated.reached.exists, ranks)
    ended = gated.kill_second(ranks)
    assert ended.code != 0
    assert "mmood: Another process of this run ended early" in ended.err
    assert forked.ranks([*arguments, "--run_dir", str(tmp_path / "run"), "--ckpt_path", str(last)]).code == 0
    assert forked.ranks([*arguments, "--run_dir", str(tmp_path / "other")]).code == 0
    own, whole = (
        torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=True) for run in ("run", "other")
    )
    assert own["global_step"] == whole["global_step"]
    assert own["state_dict"].keys() == whole["state_dict"].keys()
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(own["state_dict"][name], tensor), name
