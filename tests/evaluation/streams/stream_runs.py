"""Runs of the command line, in this process and in others."""

import json
import os
import subprocess
import sys
from pathlib import Path

from mmood.cli.main import main


def run(arguments: list[str], folder: Path) -> dict:
    """Run a command into a folder and return its results."""
    assert main([*arguments, "--run_dir", str(folder)]) == 0
    return json.loads((folder / "results.json").read_text())


def start(arguments: list[str], folder: Path) -> subprocess.CompletedProcess:
    """Run a command in processes of its own."""
    command = [sys.executable, "-m", "mmood", *arguments, "--run_dir", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.run(command, env=environment, timeout=300, check=False, capture_output=True, text=True)
