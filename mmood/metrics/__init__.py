"""Exact metrics of OoD detection: pure functions, and the torchmetrics stores on top of them."""
