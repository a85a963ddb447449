"""Test-time streams: in which order a score that learns from the test images meets them, and what came of it."""
