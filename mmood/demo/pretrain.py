"""A tiny CLIP, pre-trained on the demo world: an open_clip model like any other, only small.

It learns contrastively from pictures of the whole world with captions as the web has them. It computes on one thread:
on one kind of processor and with one version of torch, the weights are a function of the recipe, whatever the number of
cores; elsewhere they differ in the last digits, which training enlarges.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mmood.demo.canvas import SIDE
from mmood.demo.world import CONCEPTS, VERSION, Progress, render, silent
from mmood.errors import MmoodError

_MODEL: dict[str, Any] = {
    "embed_dim": 64,
    # timm's smallest ResNet-like tower, 0.2 M parameters: learns faster on a CPU than a transformer of the same cost.
    "vision_cfg": {
        "timm_model_name": "test_byobnet",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": SIDE,
    },
    # The vocabulary is that of open_clip's tokenizer, so the table of its tokens is most of the model.
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
_PREPROCESS: dict[str, Any] = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
_BATCH = 256
_LEARNING_RATE = 2e-3
_WARM_UP = 0.1
_SHIFT = 3
_LARGEST_SCALE = math.log(100)  # CLIP's bound of the logit scale


@dataclass(frozen=True)
class Recipe:
    """What the weights are a function of.

    Attributes:
        seed: of the pictures, the first weights and the order.
        steps: batches of 256 pictures to learn from.
        pictures: different pictures, each with one caption.
        version: of the world.
    """

    seed: int = 0
    steps: int = 300
    pictures: int = 12_000
    version: int = VERSION


def build(folder: Path, recipe: Recipe, progress: Progress = silent) -> Path:
    """Pre-train the demo's CLIP into an open_clip folder (`local-dir:`) and return the folder.

    A folder with the same recipe is kept. It is written under another name and renamed in the end, so a folder of this
    name is whole. For tests, `build(path, Recipe(steps=20, pictures=600))` takes a few seconds.

    Raises:
        MmoodError: there are no steps or too few pictures for a batch.
    """
    if recipe.steps < 1 or recipe.pictures < _BATCH:
        raise MmoodError(f"The demo's CLIP needs at least 1 step and {_BATCH} images; got {recipe}.")
    if _is_built(folder, recipe):
        return folder
    images, tokens = _pictures(recipe, progress)
    with _one_thread():
        model = _pretrain(images, tokens, recipe, progress)
    _save(model, folder, recipe)
    return folder


def _is_built(folder: Path, recipe: Recipe) -> bool:
    file = folder / "recipe.json"
    return file.is_file() and json.loads(file.read_text(encoding="utf-8")) == asdict(recipe)


def _pictures(recipe: Recipe, progress: Progress) -> tuple[Tensor, Tensor]:
    """Return the images (N, 3, SIDE, SIDE) in bytes and the tokens of their captions (N, L)."""
    from open_clip import SimpleTokenizer

    images, captions = [], []
    count = min(recipe.pictures, recipe.steps * _BATCH)  # more would never be seen
    for index in range(count):
        picture = render("pretraining", CONCEPTS, index, recipe.seed)
        images.append(np.asarray(picture.image))
        captions.append(picture.caption)
        progress("rendering images with captions", index + 1, count)
    tokenizer = SimpleTokenizer(context_length=_MODEL["text_cfg"]["context_length"])
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), tokenizer(captions)


def _pretrain(images: Tensor, tokens: Tensor, recipe: Recipe, progress: Progress) -> Any:
    model = _new_model(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_rate(step / recipe.steps))
    for step, rows in enumerate(_batches(len(images), recipe.steps, generator)):
        loss = _loss(model, _augment(images[rows], generator), tokens[rows])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=_LARGEST_SCALE)
        progress("pre-training the CLIP", step + 1, recipe.steps)
    return model.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: the same sums everywhere, and on busy cores two threads mostly wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _new_model(seed: int) -> Any:
    from open_clip.model import CLIP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(**_MODEL)
    # Small convolutions run half as long again in the other layout.
    return model.to(memory_format=torch.channels_last).train()


def _share_of_rate(done: float) -> float:
    return done / _WARM_UP if done < _WARM_UP else 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))


def _batches(count: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the rows of each batch: epoch after epoch in a new order."""
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < _BATCH:
            order = torch.randperm(count, generator=generator)
        yield order[:_BATCH]
        order = order[_BATCH:]


def _augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return normalised images, all shifted by the same few pixels."""
    down, right = torch.randint(-_SHIFT, _SHIFT + 1, (2,), generator=generator).tolist()
    mean, std = (torch.tensor(_PREPROCESS[name]).view(3, 1, 1) for name in ("mean", "std"))
    return (images.roll((down, right), dims=(2, 3)).float() / 255 - mean) / std


def _loss(model: Any, images: Tensor, tokens: Tensor) -> Tensor:
    """Return CLIP's loss, with every picture of the same caption as a positive of that caption."""
    captions, caption_of = torch.unique(tokens, dim=0, return_inverse=True)
    embedding = model.encode_image(images, normalize=True)
    prototypes = model.encode_text(captions, normalize=True)
    logits = model.logit_scale.exp() * embedding @ prototypes.T
    positives = functional.one_hot(caption_of, len(captions)).T.float()
    to_text = functional.cross_entropy(logits, caption_of)
    to_image = functional.cross_entropy(logits.T, positives / positives.sum(dim=1, keepdim=True))
    return (to_text + to_image) / 2


def _save(model: Any, folder: Path, recipe: Recipe) -> None:
    from safetensors.torch import save

    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    config = {"model_cfg": _MODEL, "preprocess_cfg": _PREPROCESS}
    (temporary / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    (temporary / "recipe.json").write_text(json.dumps(asdict(recipe)) + "\n", encoding="utf-8")
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    (temporary / "open_clip_model.safetensors").write_bytes(save(weights))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
