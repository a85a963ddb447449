"""Losses of image-text fine-tuning, and the geometry and statistics of embeddings on the unit sphere; all pure."""

from mmood.losses.contrastive import (
    Pairs,
    alignment_loss,
    alignment_regulariser,
    contrastive_loss,
    distinct_texts,
)
from mmood.losses.geometry import alignment, modality_gap, uniformity
from mmood.losses.hypersphere import log_partition, mean_cosine

__all__ = [
    "Pairs",
    "alignment",
    "alignment_loss",
    "alignment_regulariser",
    "contrastive_loss",
    "distinct_texts",
    "log_partition",
    "mean_cosine",
    "modality_gap",
    "uniformity",
]
