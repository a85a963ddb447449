"""Scores of pixels: masks as data, segmenters, observers with local adversarial attacks, metrics of pixels."""

MODULES = {
    "DenseZeroShot": "mmood.dense.zero_shot",
    "Observer": "mmood.dense.observer",
    "Segmenter": "mmood.dense.segmenter",
}
"""The modules of this room and their places, by which the command line knows a dense run."""
