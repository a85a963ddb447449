"""Callbacks: the exact evaluation, and the files of a run."""

from mmood.callbacks.ood import OoDCallback
from mmood.callbacks.run_files import RunFiles

__all__ = ["OoDCallback", "RunFiles"]
