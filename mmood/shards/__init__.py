"""Shards: their index, reading and packing them, and other forms in which images come."""
