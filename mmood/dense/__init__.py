"""Scores of pixels: masks as data, segmenters, observers with local adversarial attacks, metrics of pixels."""

MODULES = ("Segmenter", "Observer", "DenseZeroShot")
"""The modules of this room, by which the command line knows a dense run."""
