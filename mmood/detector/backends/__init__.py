"""What computes the scores behind a detector: torch or onnxruntime.

There is nothing to import from here: `onnx_scorer` must not import torch, and everything else does.
"""
