"""From the scores of ID images to a threshold and p-values, and what else is kept of these images."""

from mmood.detector.calibration.conformal import (
    Band,
    Calibration,
    benjamini_hochberg,
    calibrate,
    check_rate,
    coverage_band,
    least_images,
    rank_of,
)
from mmood.detector.calibration.embeddings import (
    EMBEDDINGS_FILE,
    CalibrationEmbeddings,
    read_embeddings,
    summarised,
    write_embeddings,
)
from mmood.detector.calibration.rows import ROWS_FILE, CalibrationRows, read_rows, write_rows
from mmood.detector.calibration.scores import calibration_pixels, calibration_scores
from mmood.detector.calibration.ties import ties_at_threshold

__all__ = [
    "EMBEDDINGS_FILE",
    "ROWS_FILE",
    "Band",
    "Calibration",
    "CalibrationEmbeddings",
    "CalibrationRows",
    "benjamini_hochberg",
    "calibrate",
    "calibration_pixels",
    "calibration_scores",
    "check_rate",
    "coverage_band",
    "least_images",
    "rank_of",
    "read_embeddings",
    "read_rows",
    "summarised",
    "ties_at_threshold",
    "write_embeddings",
    "write_rows",
]
