"""Flags for runs with the stream score of this folder."""

import pytest

STREAMS = "{class_path: running_mean.RunningMean}"


@pytest.fixture
def flags(toy_flags) -> list[str]:
    """A test of MCM and of two stream scores, in batches of 8, with two seeds."""
    scores = f"{{mcm: {{class_path: MCM}}, running: {STREAMS}, late: {{class_path: running_mean.RunningMean, "
    scores += "init_args: {update: after}}}"
    settings = ["--evaluation.stream.batch_size", "8", "--evaluation.stream.seeds", "[0, 5]"]
    return ["--config", "vitb16_zeroshot.yaml", *toy_flags, "--model.scores", scores, *settings]
