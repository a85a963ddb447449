"""Detectors outside of an evaluation: scores of images as they come."""
