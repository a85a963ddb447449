"""Importing without `scipy.signal`, of which torchmetrics takes 1.5 s of CPU for a name that mmood does not use."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

NAME = "scipy.signal"


class _Later(ModuleType):
    """Stands for `scipy.signal` until more of it is asked for than whether it has `hamming`.

    torchmetrics asks that at its import, to add the name for a package of audio metrics.
    """

    hamming = None
    # `inspect.getmodule` asks every module for its file.
    __file__ = None

    def __getattr__(self, name: str) -> object:
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return getattr(importlib.import_module(NAME), name)


def import_scipy_signal_late() -> None:
    """Import `scipy.signal` only when something of it is used; nothing to do where it is imported already."""
    if NAME not in sys.modules and importlib.util.find_spec("scipy") is not None:
        sys.modules[NAME] = _Later(NAME)
