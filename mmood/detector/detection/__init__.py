"""`mmood detect`: from many inputs to a file of decisions."""

from mmood.detector.detection.job import Job, Ranks, parts_folder, run_job
from mmood.detector.detection.memory import job_memory
from mmood.detector.detection.sources import Sequenced, find_images_of, images_to_check
from mmood.detector.detection.tables import Table, counts, read_rows

__all__ = [
    "Job",
    "Ranks",
    "Sequenced",
    "Table",
    "counts",
    "find_images_of",
    "images_to_check",
    "job_memory",
    "parts_folder",
    "read_rows",
    "run_job",
]
