"""Scores that learn from the unlabelled test stream."""

from mmood.scores.streams.adaneg import AdaNeg
from mmood.scores.streams.base import AbstractStreamScore
from mmood.scores.streams.coevo import CoEvo
from mmood.scores.streams.interneg import InterNeg

__all__ = ["AbstractStreamScore", "AdaNeg", "CoEvo", "InterNeg"]
