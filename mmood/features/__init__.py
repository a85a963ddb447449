"""Stored features: encoded once, read in place of images."""
