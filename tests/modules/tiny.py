"""A tiny random CLIP, batches of noise and a trainer for them; importable by processes that a test starts."""

import copy
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import open_clip
import torch
from lightning.pytorch import Trainer
from PIL import Image
from safetensors.torch import save_model
from torch.utils.data import DataLoader

from mmood.encoders import EncoderSettings
from mmood.evaluation.callback import OoDCallback
from mmood.loading.batch import Batch
from mmood.modules.fine_tuning.alignment import AlignmentFineTune
from mmood.scores.logits import MCM
from mmood.shards.shard_index import ShardEntry, ShardIndex, load_index, save_index

VIT = {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
RESNET = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 32}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
CLASSES = ["cat", "dog", "red panda", "truck", "spoon"]


def save_tiny(folder: Path, vision: dict = VIT) -> EncoderSettings:
    """Write a random CLIP of 24 dimensions and return the settings that load it."""
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(**copy.deepcopy(config))
        # The lowest scale at which a random model's gradients are far above rounding.
        model.logit_scale.data.fill_(2.0)
    save_model(model, str(folder / "open_clip_model.safetensors"))
    return EncoderSettings(f"local-dir:{folder}")


def batches(number: int, size: int, side: int = 16) -> DataLoader:
    """Return a loader of batches of noise with labels and keys, always the same."""
    generator = torch.Generator().manual_seed(1)
    noise = [
        Batch(
            image=torch.randn(size, 3, side, side, generator=generator),
            label=torch.randint(len(CLASSES), (size,), generator=generator),
            key=torch.arange(step * size, (step + 1) * size),
        )
        for step in range(number)
    ]
    return DataLoader(noise, batch_size=None)


def write_shards(root: Path) -> ShardIndex:
    """Write 50 pictures of noise in two shards, if they are not there, and return their index."""
    if not root.exists():
        noise, entries = np.random.default_rng(0), []
        (root / "noise").mkdir(parents=True)
        for shard in range(2):
            path = root / "noise" / f"noise-{shard}.tar"
            with tarfile.open(path, "w") as tar:
                for key in range(25 * shard, 25 * shard + 25):
                    picture = io.BytesIO()
                    Image.fromarray(noise.integers(256, size=(24, 20, 3), dtype=np.uint8)).save(picture, "PNG")
                    for suffix, content in (("png", picture.getvalue()), ("cls", str(key % 5).encode())):
                        member = tarfile.TarInfo(f"{key:03d}.{suffix}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
            entries.append(ShardEntry(path.name, 25, hashlib.sha256(path.read_bytes()).hexdigest()))
        save_index(ShardIndex("noise", tuple(entries), classes=5, root=str(root)), root / "noise")
    return load_index(str(root), "noise")


def adamw(parameters):
    """Return an optimiser that moves a tiny model in a few steps."""
    # The bias of attention's keys has no gradient but rounding errors, and the usual eps of 1e-8 makes whole steps of them.
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1, eps=1e-4)


def tune(settings: EncoderSettings, alignment: float = 0.1, **more) -> AlignmentFineTune:
    """Return a module that fine-tunes the tiny model."""
    more = {"optimizer": adamw, **more}
    return AlignmentFineTune(settings, CLASSES, {"mcm": MCM()}, alignment, **more)


def trainer(steps: int, **more) -> Trainer:
    """Return a silent trainer on the CPU."""
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    where = {"accelerator": "cpu", "devices": 1, "num_sanity_val_steps": 0, "use_distributed_sampler": False}
    return Trainer(**{**where, **quiet, "max_steps": steps, **more})


def evaluating(folder: Path, **more) -> Trainer:
    """Return a silent trainer with an evaluation that shows nothing, whose run folder is below `folder`."""
    callbacks = [OoDCallback(save_scores=False, show=False)]
    return trainer(-1, callbacks=callbacks, default_root_dir=folder / "run", **more)


def weights(module) -> dict[str, torch.Tensor]:
    """Return copies of the encoder's tensors."""
    return {name: tensor.clone() for name, tensor in module.trained_state().items()}
