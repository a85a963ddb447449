"""Checkpoints of open_clip's own training: where they are, and their weights under the names of the model."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmood.errors import MmoodError

SAVED = ("*.safetensors", "*.bin", "*.pth")
"""The weights that open_clip finds in a folder by itself."""
TRAINED = "*.pt"
"""What its training writes (`epoch_5.pt`)."""

# What `torch.compile` puts before the names of a model or a part of it; open_clip strips that of DDP alone.
_COMPILED = "_orig_mod."


def trained_file(folder: Path) -> Path | None:
    """Return the checkpoint of a training in a model's folder; None if the folder holds saved weights or nothing.

    Raises:
        MmoodError: there are several.
    """
    found = sorted(folder.glob(TRAINED))
    if not found or any(path for pattern in SAVED for path in folder.glob(pattern)):
        return None
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:4])
        raise MmoodError(f"The folder '{folder}' has {len(found)} checkpoints ({names} ...); keep one in it.")
    return found[0]


@contextlib.contextmanager
def under_plain_names(path: Path) -> Iterator[Path]:
    """Yield the file, or for the checkpoint of a compiled training one of the block with the names of the model.

    Raises:
        Exception: what torch raises for a file that it cannot read.
    """
    weights = None if path.suffix == ".safetensors" else _weights(path)
    if weights is None or not any(_COMPILED in name for name in weights):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="mmood-weights-") as folder:
        plain = Path(folder) / "weights.pt"
        torch.save({_plain(name): tensor for name, tensor in weights.items()}, plain)
        yield plain


def _weights(path: Path) -> Mapping[str, Tensor] | None:
    """Return the weights of a checkpoint, memory-mapped; None for a file of another form, such as TorchScript."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, OSError, EOFError, ValueError):  # another reader may take it, or says what is wrong
        return None
    weights = content.get("state_dict", content) if isinstance(content, Mapping) else None
    return weights if isinstance(weights, Mapping) and all(isinstance(name, str) for name in weights) else None


def _plain(name: str) -> str:
    """Return a name without what wraps the model or a part of it.

    >>> _plain("module._orig_mod.visual.proj"), _plain("visual._orig_mod.proj")
    ('visual.proj', 'visual.proj')
    """
    return name.removeprefix("module.").replace(_COMPILED, "").removeprefix("module.")
