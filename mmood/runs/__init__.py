"""Runs: their folders, checkpoints, signals and requeueing."""
