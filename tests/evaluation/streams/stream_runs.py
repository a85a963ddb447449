"""Runs of the command line in this process."""

import json
from pathlib import Path

from mmood.cli.main import main


def run(arguments: list[str], folder: Path) -> dict:
    """Run a command into a folder and return its results."""
    assert main([*arguments, "--run_dir", str(folder)]) == 0
    return json.loads((folder / "results.json").read_text())
