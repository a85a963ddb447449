"""Scores that learn from the unlabelled test stream."""

from mmood.scores.test_time.adaneg import AdaNeg
from mmood.scores.test_time.base import AbstractStreamScore
from mmood.scores.test_time.coevo import CoEvo
from mmood.scores.test_time.interneg import InterNeg
from mmood.scores.test_time.tanl import TANL

__all__ = ["TANL", "AbstractStreamScore", "AdaNeg", "CoEvo", "InterNeg"]
