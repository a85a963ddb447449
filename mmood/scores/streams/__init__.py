"""Scores that learn from the unlabelled test stream."""

from mmood.scores.streams.base import AbstractStreamScore

__all__ = ["AbstractStreamScore"]
