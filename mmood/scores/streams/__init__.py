"""Scores that learn from the unlabelled test stream."""

from mmood.scores.streams.adaneg import AdaNeg
from mmood.scores.streams.base import AbstractStreamScore
from mmood.scores.streams.coevo import CoEvo
from mmood.scores.streams.interneg import InterNeg
from mmood.scores.streams.tanl import TANL

__all__ = ["TANL", "AbstractStreamScore", "AdaNeg", "CoEvo", "InterNeg"]
