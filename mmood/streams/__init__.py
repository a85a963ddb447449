"""Test-time streams: in which order a score that learns from the test images meets them, and what came of it.

`StreamDetector` (in `mmood.streams.detector`) runs such a score on images as they come.
"""

from mmood.streams.settings import StreamSettings

__all__ = ["StreamSettings"]
