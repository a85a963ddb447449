"""`mmood serve`: a detector behind HTTP."""

from mmood.detector.serving.app import build_app
from mmood.detector.serving.limits import Batching, Limits

__all__ = ["Batching", "Limits", "build_app"]
