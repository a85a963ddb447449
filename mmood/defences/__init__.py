"""Defences of a detector, and what can be proven of them."""

from mmood.defences.certificate import Order, certified_order, fewest_copies, ordered_bounds
from mmood.defences.settings import Direction, SmoothingSettings
from mmood.defences.smoothing import Smoother, noise_of

__all__ = [
    "Direction",
    "Order",
    "Smoother",
    "SmoothingSettings",
    "certified_order",
    "fewest_copies",
    "noise_of",
    "ordered_bounds",
]
