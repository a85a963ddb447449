"""Where mmood keeps what can be computed again."""

from __future__ import annotations

import os
from pathlib import Path

from mmood.files.reading import user_path


def cache_folder(kind: str) -> Path:
    """Return the folder of one kind of files in the cache: $MMOOD_CACHE/KIND, or ~/.cache/mmood/KIND."""
    return user_path(os.environ.get("MMOOD_CACHE") or "~/.cache/mmood").absolute() / kind
