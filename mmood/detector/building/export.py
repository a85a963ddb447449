"""A detector as an ONNX graph of tower, head and score, checked on real images before it is written."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mmood.detector.backends.onnx_scorer import GRAPH_FILE, INPUT, OUTPUTS, PATCHES, OnnxScorer, load_graph
from mmood.detector.backends.torch_scorer import TorchScorer
from mmood.detector.calibration import write_embeddings
from mmood.detector.detector import Detector
from mmood.detector.manifest import check_new, write_manifest
from mmood.detector.pictures import Picture, rgb
from mmood.detector.scorer import batched
from mmood.errors import ImageError, MmoodError

Precision = Literal["float32", "int8"]
MOST_IMAGES = 256
_BATCH = 16
_EXTERNAL = 2**30


@dataclass(frozen=True)
class Difference:
    """How an exported detector differs from the one it was made of.

    Attributes:
        images: how many were compared.
        score: largest difference of a score.
        relative: largest difference of a score, divided by the spread (5 % to 95 %) of the calibration scores.
        decisions: how many images are accepted by one and rejected by the other.
    """

    images: int
    score: float
    relative: float
    decisions: int


@dataclass(frozen=True)
class Tolerance:
    """What an export may differ by.

    Attributes:
        relative: largest difference of a score, in units of the spread of the calibration scores.
        decisions: share of the images with another decision.
    """

    relative: float
    decisions: float


TOLERANCES: dict[Precision, Tolerance] = {"float32": Tolerance(1e-3, 0.0), "int8": Tolerance(1.0, 0.02)}


def export_detector(
    detector: Detector, out: Path, images: Iterable[Picture], precision: Precision, tolerance: Tolerance
) -> Difference:
    """Write a detector folder that onnxruntime runs, and return how it differs on real images.

    Args:
        detector: one that torch runs.
        out: a new or empty folder.
        images: real images; those that cannot be read are passed over, and 256 are enough.
        precision: of the weights.
        tolerance: what is refused above.

    Raises:
        MmoodError: a package is missing, the score has no graph, there are no images, or the difference is too large.
    """
    _require_onnx()
    check_new(out)
    scorer = detector.scorer
    if not isinstance(scorer, TorchScorer) or detector.embeddings is None:
        raise MmoodError("Only a calibrated detector of `mmood calibrate` can be exported.")
    detector.manifest.preprocessing.check_without_torch()
    out.mkdir(parents=True, exist_ok=True)
    _write_graph(scorer, detector, out / GRAPH_FILE, precision)
    exported = load_graph(out / GRAPH_FILE, detector.manifest)
    difference = _compare(detector, exported, images)
    if difference.relative > tolerance.relative or difference.decisions > tolerance.decisions * difference.images:
        for file in out.iterdir():
            file.unlink()
        raise MmoodError(
            f"The exported detector is not the same: over {difference.images} images its scores differ by up to "
            f"{difference.score:.2g} ({difference.relative:.2g} of their spread; at most {tolerance.relative:g} is "
            f"tolerated), and {difference.decisions} decisions differ (at most {tolerance.decisions:.1%})."
        )
    write_embeddings(out, detector.embeddings)
    record = {"precision": precision, **vars(difference)}
    provenance = {**detector.manifest.provenance, "export": record}
    manifest = replace(detector.manifest, backend="onnx", provenance=provenance)
    write_manifest(out, manifest.with_files(out))
    return difference


def _write_graph(scorer: TorchScorer, detector: Detector, path: Path, precision: Precision) -> None:
    height, width = detector.manifest.preprocessing.size
    # Two images: a graph made of one would take the batch for a constant.
    example = torch.zeros(2, 3, height, width, device=scorer.device)
    batch = {INPUT: {0: torch.export.Dim("batch")}}
    try:
        with warnings.catch_warnings(), _quiet(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                scorer.graph,
                (example,),
                dynamo=True,
                dynamic_shapes=batch,
                input_names=[INPUT],
                output_names=list(OUTPUTS) if scorer.graph.local is None else [*OUTPUTS, PATCHES],
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever the layer that it does not know raises
        raise MmoodError(
            f"{detector.manifest.score.kind} over '{detector.manifest.encoder.name}' has no ONNX graph "
            f"({_first_line(error)}); all static scores of mmood have one, over towers whose layers ONNX has."
        ) from error
    assert program is not None
    size = sum(tensor.numel() * tensor.element_size() for tensor in scorer.graph.state_dict().values())
    if precision == "float32":
        program.save(str(path), external_data=size > _EXTERNAL)
        return
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / GRAPH_FILE
        program.save(str(whole), external_data=size > _EXTERNAL)
        _quantise(whole, path)


def _quantise(source: Path, target: Path) -> None:
    """Write a graph with weights in int8: of the matrix products, activations are quantised as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])


def _compare(detector: Detector, exported: OnnxScorer, images: Iterable[Picture]) -> Difference:
    calibration = detector.calibration
    own, other = [], []
    for batch in batched(islice(images, MOST_IMAGES), _BATCH):
        pairs = []
        for picture in batch:
            pixels = detector.prepared(picture)
            if not isinstance(pixels, ImageError):
                pairs.append((pixels, exported.prepare(rgb(picture, detector.manifest.exif))))
        if pairs:
            own.append(detector.scorer.score(np.stack([first for first, _ in pairs])).scores)
            other.append(exported.score(np.stack([second for _, second in pairs])).scores)
    if not own:
        raise MmoodError("There is no image that can be read to check the export on; give some with --images.")
    first, second = np.concatenate(own), np.concatenate(other)
    low, high = np.quantile(calibration.scores, [0.05, 0.95])
    score = float(np.abs(first - second).max()) if np.isfinite(second).all() else float("inf")
    differ = int((calibration.accepts(first) != calibration.accepts(second)).sum())
    return Difference(len(first), score, score / max(float(high - low), 1e-12), differ)


def _require_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise MmoodError(f"`mmood export` needs {', '.join(missing)}; pip install 'mmood[onnx]'.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's and the quantiser's log to errors inside the block."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def _first_line(error: BaseException) -> str:
    """Return what the innermost cause says."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
