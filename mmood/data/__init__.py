"""Data: indexed WebDataset shards, packing, benchmarks, the data module."""
