"""What `--ckpt_path` names: a file, a URL, or one of Lightning's words. Nothing of the file is read here."""

from __future__ import annotations

from pathlib import Path

from mmood.errors import MmoodError

# Lightning's own words for a checkpoint, resolved by the trainer.
_WORDS = ("best", "last", "hpc")
_REGISTRY = "registry"


def is_word(path: str) -> bool:
    """Return whether `ckpt_path` is one of Lightning's keywords; a file of that name takes precedence."""
    return (path in _WORDS or path.startswith(_REGISTRY)) and not Path(path).is_file()


def check_file(path: Path, what: str) -> None:
    """Raise MmoodError if there is no such file; `what` begins the sentence."""
    if not path.is_file():
        raise MmoodError(f"{what} {path} does not exist; name a checkpoint file.")
