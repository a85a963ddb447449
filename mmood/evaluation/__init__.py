"""The exact evaluation: what the steps return, gathered once, measured, written."""
