"""The data of a run: benchmarks, catalogue, the data module."""
