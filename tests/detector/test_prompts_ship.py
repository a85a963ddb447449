"""Learned prompts ship: a detector of a checkpoint, and of a folder of prompts, says what `mmood test` writes."""

import json

import numpy as np
import pytest

from mmood.cli.main import main
from mmood.detector.detector import Detector

SHORT = "{context: {tokens: 4, class_specific: true}, negatives: 3, crops: 3, positives: 2}"


@pytest.mark.parametrize("score", ["local_prompt", "mcm"])
def test_a_prompt_learner_ships_from_its_checkpoint_and_from_its_folder(score, toy_flags, toy_root, tmp_path):
    fit = ["fit", "--config", "vitb16_localprompt.yaml", *toy_flags, "--data.train", "toy-train"]
    fit += ["--model.method.init_args", SHORT, "--trainer.precision", "32-true", "--trainer.max_epochs", "1"]
    assert main([*fit, "--run_dir", str(tmp_path / "fit")]) == 0
    kinds = {"local_prompt": "LocalPromptScore", "mcm": "MCM"}
    scores = json.dumps({score: {"class_path": kinds[score]}})
    settings = ["--model.prompts", f"learned:{tmp_path / 'fit/prompts'}", "--model.scores", scores]
    settings = ["--config", "vitb16_zeroshot.yaml", *toy_flags, *settings]
    checkpoint = ["--ckpt_path", str(tmp_path / "fit/checkpoints/last.ckpt")]
    assert main(["test", *checkpoint, "--run_dir", str(tmp_path / "test")]) == 0
    with np.load(tmp_path / "test/scores/toy-near.npz") as found:
        expected = found[score]
    images = sorted((toy_root.parent / "images" / "toy-near").iterdir())
    for name, arguments in (("own", checkpoint), ("folder", settings)):
        calibrate = ["calibrate", *arguments, "--score", score, "--fraction", "0.6", "--out", str(tmp_path / name)]
        assert main(calibrate) == 0
        detector = Detector.load(tmp_path / name, "cpu")
        np.testing.assert_allclose([one.score for one in detector(images)], expected, rtol=1e-4, atol=1e-4)
