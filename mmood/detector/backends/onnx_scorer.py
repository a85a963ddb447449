"""Scores by onnxruntime: the graph of `mmood export`, and its transform in numpy. Torch is not imported."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float32
from PIL.Image import Image

from mmood.detector.manifest import Manifest
from mmood.detector.scorer import Pixels, Scored
from mmood.errors import MmoodError
from mmood.images.preprocessing import Preprocessing

GRAPH_FILE = "model.onnx"
INPUT = "images"
OUTPUTS = ("score", "logits", "embedding", "negative")
PATCHES = "patches"
"""The fifth output, of a score that has a map."""


@final
@dataclass(frozen=True)
class OnnxScorer:
    """A scorer on the CPU.

    Attributes:
        session: onnxruntime's; its `run` may be called by several threads.
        preprocessing: what the transform does.
        has_negatives: whether the graph's numbers of negative labels mean anything.
        outputs: of the graph.
    """

    session: Any
    preprocessing: Preprocessing
    has_negatives: bool
    outputs: tuple[str, ...]

    @property
    def on_cpu(self) -> bool:
        """True: the session has no other device."""
        return True

    def prepare(self, image: Image) -> Float32[np.ndarray, "3 height width"]:
        """Return an RGB image under the eval transform."""
        return self.preprocessing.pixels(image)

    def score(self, pixels: Pixels) -> Scored:
        """Return the arrays of a batch."""
        scores, logits, embedding, negative, *patches = self.session.run(self.outputs, {INPUT: pixels})
        return Scored(
            scores, logits, embedding, negative if self.has_negatives else None, patches[0] if patches else None
        )


def load_onnx_scorer(folder: Path, manifest: Manifest) -> OnnxScorer:
    """Return what computes the scores of a folder that `mmood export` wrote.

    Raises:
        MmoodError: onnxruntime is not installed, or the graph is not that of a detector.
    """
    if GRAPH_FILE not in manifest.files:
        raise MmoodError(f"The detector {folder} does not list its {GRAPH_FILE}.")
    return load_graph(folder / GRAPH_FILE, manifest)


def load_graph(path: Path, manifest: Manifest) -> OnnxScorer:
    """Return what computes the scores of a graph; see `load_onnx_scorer`."""
    require_onnxruntime()
    import onnxruntime

    manifest.preprocessing.check_without_torch()
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        known = {output.name for output in session.get_outputs()}
        outputs = (*OUTPUTS, PATCHES) if PATCHES in known else OUTPUTS
        scorer = OnnxScorer(session, manifest.preprocessing, bool(manifest.negative_labels), outputs)
        scored = scorer.score(np.zeros((1, 3, *manifest.preprocessing.size), dtype=np.float32))
    except Exception as error:  # onnxruntime raises classes of its own, derived from Exception
        raise MmoodError(f"{path} is not the graph of a detector: {str(error).splitlines()[0]:.200}") from error
    if scored.logits.shape != (1, len(manifest.class_names)) or scored.scores.shape != (1,):
        raise MmoodError(
            f"{path} gives logits of the shape {scored.logits.shape} with {len(manifest.class_names)} class names."
        )
    return scorer


def require_onnxruntime() -> None:
    """Raise MmoodError if onnxruntime is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise MmoodError("A detector of `mmood export` needs onnxruntime; pip install 'mmood[onnx]'.")
