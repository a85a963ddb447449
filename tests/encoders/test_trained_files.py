"""Checkpoints of open_clip's own training, in every place where a user may name them."""

import argparse
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmood.encoders.base import EncoderSettings
from mmood.encoders.loading import check_open_clip, load_model
from mmood.errors import MmoodError


@pytest.fixture
def trained(toy_model, tmp_path):
    """A function that saves the toy model as a training does, into a folder with its configuration; and its weights."""
    source = Path(toy_model.removeprefix("local-dir:"))
    weights = load_file(source / "open_clip_model.safetensors")

    def save(name, prefix="", **more):
        folder = tmp_path / "trained"
        folder.mkdir(exist_ok=True)
        shutil.copy(source / "open_clip_config.json", folder)
        state = {f"{prefix}{key}": tensor for key, tensor in weights.items()}
        torch.save({"epoch": 5, "state_dict": state, **more}, folder / name)
        return EncoderSettings(f"local-dir:{folder}")

    return save, weights


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_the_weights_are_those_that_were_trained(trained, prefix):
    save, weights = trained
    settings = save("epoch_5.pt", prefix)
    check_open_clip(settings)
    state = load_model(settings).state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in weights.items())


def test_several_checkpoints_are_refused(trained):
    save, _ = trained
    save("epoch_1.pt")
    with pytest.raises(MmoodError, match=r"has 2 checkpoints \(epoch_1.pt, epoch_2.pt"):
        check_open_clip(save("epoch_2.pt"))


def test_pickled_arguments_are_refused_in_our_own_words(trained):
    save, _ = trained
    with pytest.raises(MmoodError, match=r"pickled objects \(argparse\.Namespace\)") as refused:
        load_model(save("epoch_5.pt", args=argparse.Namespace(lr=1)))
    assert "weights_only" not in str(refused.value)
