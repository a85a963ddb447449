"""Imports that take a third less CPU: without the collector, and without `scipy.signal` before it is used."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

NAME = "scipy.signal"


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import inside the block without the garbage collector, which would look at all new functions time and again.

    What came counts as old afterwards: looked at seldom.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Frozen and unfrozen, all objects are in the oldest generation.
        gc.freeze()
        gc.unfreeze()
        if collecting:
            gc.enable()


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
    """Import `scipy.signal` only when something of it is used; nothing to do where it is imported already.

    torchmetrics imports it, which takes 1.5 s of CPU, for a name that mmood does not use.
    """
    if NAME not in sys.modules and importlib.util.find_spec("scipy") is not None:
        sys.modules[NAME] = _Later(NAME)
