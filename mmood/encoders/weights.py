"""Weights: seeded random ones, their fingerprint, and the sentences for weights that cannot be had."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from mmood.errors import MmoodError

RANDOM_SEED = 0
# How torch names the class of an object that it does not unpickle.
_PICKLED = re.compile(r"GLOBAL ([\w.]+)")

LOAD_ERRORS = (
    AssertionError,
    EOFError,
    ImportError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    UnpicklingError,
    ValueError,
    SafetensorError,
)
"""What open_clip, timm, torch and safetensors raise for a damaged file, a foreign one, or one of another model."""


@contextmanager
def seeded() -> Iterator[None]:
    """Draw from a fixed seed on the CPU inside the block, and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        yield


def named_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return what `state_dict` holds, without its hooks, which would shard weights again that a device holds whole.

    >>> list(named_weights(nn.BatchNorm1d(3)))
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """
    found: dict[str, Tensor] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        own = [*module.named_parameters(prefix, recurse=False), *module.named_buffers(prefix, recurse=False)]
        left_out = {f"{prefix}.{name}".removeprefix(".") for name in module._non_persistent_buffers_set}
        found |= {name: tensor.detach() for name, tensor in own if name not in left_out}
    return found


def weights_hash(model: nn.Module) -> str:
    """Return the sha256 (hex) over (name, type, shape, bytes) of a model's state dict, sorted by name.

    It does not depend on the device. It is computed again at every call (about a second per gigabyte): a remembered
    hash would outlive a training step.

    >>> a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> weights_hash(a) == weights_hash(b), weights_hash(a) == weights_hash(a)
    (False, True)
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(named_weights(model).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # Bytes of one tensor at a time; flattened first because a scalar has no byte view.
        # A copy, because FSDP frees the memory of gathered weights, and memory that numpy has seen cannot be freed.
        plain = tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def unreachable(what: str, cause: Exception) -> MmoodError:
    """Return the sentence for weights (or a configuration) that can neither be downloaded nor found in the cache."""
    # open_clip wraps the hub's own words, several sentences of them; the first says what happened.
    words = str(cause).rpartition("Last error: ")[2].strip() or type(cause).__name__
    reason = words.splitlines()[0].split(". ")[0].rstrip(".")
    return MmoodError(
        f"{what} could not be downloaded and is not in the cache ({reason}); on a machine without a "
        "network set HF_HOME to a filled Hugging Face cache and HF_HUB_OFFLINE=1, or use a saved folder as "
        "'local-dir:FOLDER'."
    )


def unloadable(what: str, cause: Exception) -> MmoodError:
    """Return the sentence for weights that are there but do not fit the architecture, or are not plain weights."""
    if isinstance(cause, UnpicklingError) or "weights_only" in str(cause):
        found = _PICKLED.search(str(cause))
        kind = f" ({found[1]})" if found else ""
        return MmoodError(
            f"{what} could not be loaded: the file holds pickled objects{kind} besides tensors, which may run code "
            "when they are read. If you trust it, read it once yourself and save its tensors alone: "
            "torch.save({'state_dict': checkpoint['state_dict']}, FILE)."
        )
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
    return MmoodError(f"{what} could not be loaded: {' '.join(lines[:3])[:400].rstrip('.!')}.")
