"""Sets of torchvision as input of `mmood pack`."""

from __future__ import annotations

import inspect
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmood.errors import MmoodError, unknown
from mmood.shards.inputs import InputSample, fingerprint


class TorchvisionInput:
    """A torchvision set, stored as PNG as torchvision decodes it."""

    def __init__(self, dataset: Any, identity: str) -> None:
        self.dataset = dataset
        names = getattr(dataset, "classes", ())
        self.class_names: Sequence[str] = [str(name) for name in names] if isinstance(names, list) else []
        self.class_folders: Sequence[str] = ()
        self.fingerprint = fingerprint([identity, str(len(dataset))])

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> InputSample:
        image, label = self.dataset[position]
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        name = self.class_names[label] if self.class_names else ""
        return InputSample(buffer.getvalue(), int(label), name, "")


def from_torchvision(name: str, split: str, folder: Path, download: bool = False) -> TorchvisionInput:
    """Return a torchvision set by the name of its class.

    Args:
        name: a class of `torchvision.datasets` whose samples are (image, class index), such as CIFAR10 or SVHN.
        split: passed as `split`; for classes with a `train` flag, `train` or `test`.
        folder: where its files are.
        download: fetch them first.

    Raises:
        MmoodError: there is no such class, it has no such split, or its files are missing.
    """
    from torchvision import datasets

    if name not in datasets.__all__:
        raise unknown("torchvision set", name, datasets.__all__)
    kind = getattr(datasets, name)
    accepted = inspect.signature(kind).parameters
    options: dict[str, Any] = {"download": True} if download and "download" in accepted else {}
    if "split" in accepted:
        options["split"] = split
    elif "train" in accepted and split in ("train", "test"):
        options["train"] = split == "train"
    else:
        raise MmoodError(f"The torchvision set {name} has no split '{split}'.")
    try:
        return TorchvisionInput(kind(str(folder), **options), f"{name}/{split}")
    except (RuntimeError, ValueError, OSError) as error:
        raise MmoodError(f"The torchvision set {name} cannot be read from {folder}: {error}.") from error
