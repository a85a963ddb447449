"""Scores that learn from the unlabelled test stream."""

from mmood.scores.test_time.adaneg import AdaNeg
from mmood.scores.test_time.ants import ANTS
from mmood.scores.test_time.base import AbstractStreamScore
from mmood.scores.test_time.coevo import CoEvo
from mmood.scores.test_time.interneg import InterNeg
from mmood.scores.test_time.tanl import TANL
from mmood.scores.test_time.tins import TINS

__all__ = ["ANTS", "TANL", "TINS", "AbstractStreamScore", "AdaNeg", "CoEvo", "InterNeg"]
