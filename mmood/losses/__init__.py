"""Losses of fine-tuning, and the geometry and statistics of embeddings on the unit sphere; all pure."""

from mmood.losses.alpa import aligned_similarities, alpa_loss, supcon_loss, supervised_contrastive_loss
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
    "aligned_similarities",
    "alignment",
    "alignment_loss",
    "alignment_regulariser",
    "alpa_loss",
    "contrastive_loss",
    "distinct_texts",
    "log_partition",
    "mean_cosine",
    "modality_gap",
    "supcon_loss",
    "supervised_contrastive_loss",
    "uniformity",
]
