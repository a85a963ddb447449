"""Detector folders and decisions: valid ones, and what must hold of one that is read."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import onnx
import torch
from mutation import damaged_bytes, damaged_json
from onnx import TensorProto, helper, numpy_helper
from open_clip import CLIP
from safetensors.torch import save_model

from mmood.detector.backends.onnx_scorer import GRAPH_FILE, INPUT
from mmood.detector.calibration import EMBEDDINGS_FILE, read_embeddings
from mmood.detector.detection import Job, Ranks, Table, find_images_of, read_rows, run_job
from mmood.detector.detector import Detector
from mmood.detector.manifest import MANIFEST_FILE, read_manifest, write_manifest
from mmood.detector.monitoring import Reference, Rule, monitor
from mmood.detector.serving.app import describe

NAMES = ("red square", "grüner Platz")
ROWS = 24
IMAGES = ("image.png", "image.gif") * 10
_CLIP = {
    "embed_dim": 4,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 8, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


def write_detectors(folder: Path) -> None:
    """Write a detector for torch, the same as a graph, a job that was killed, and decisions in every format."""
    folder.mkdir()
    (folder / "clip").mkdir()
    (folder / "clip/open_clip_config.json").write_text(json.dumps({"model_cfg": _CLIP, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    save_model(CLIP(**_CLIP), str(folder / "clip/open_clip_model.safetensors"))
    detector = Detector.from_names(NAMES, f"local-dir:{folder / 'clip'}", "mcm", device="cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (ROWS, 9, 11, 3), dtype=np.uint8)
    detector = detector.calibrated(list(pictures), id_recall=0.9)
    detector.save(folder / "torch")
    _write_onnx(folder / "torch", folder / "onnx")
    for suffix in (".csv", ".jsonl", ".parquet"):
        decisions = detector(list(pictures))
        table = Table(folder / f"decisions{suffix}")
        table.write(({"input": "a.png", **decision.as_dict()} for decision in decisions), None)
    np.save(Table(folder / "decisions.jsonl").embeddings, detector.embeddings.sample.astype(np.float16))
    _write_killed_job(folder)


def _write_onnx(torch_folder: Path, folder: Path) -> None:
    """Write a graph with the outputs of an exported detector; the mean of the image decides."""
    folder.mkdir()
    height, width = read_manifest(torch_folder).preprocessing.size
    constants = {"flat": np.array([0, -1]), "some": np.arange(4)}
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", [INPUT, "flat"], ["rows"]),
            helper.make_node("ReduceMean", ["rows"], ["score"], axes=[1], keepdims=0),
            helper.make_node("Gather", ["rows", "some"], ["embedding"], axis=1),
            helper.make_node("Slice", ["embedding", "zero", "two", "one"], ["logits"]),
            helper.make_node("ArgMax", ["logits"], ["negative"], axis=1, keepdims=0),
        ],
        "toy",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, height, width])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("negative", TensorProto.INT64, ["batch"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()]
        + [numpy_helper.from_array(np.array([n]), name) for name, n in (("zero", 0), ("two", 2), ("one", 1))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / GRAPH_FILE)
    (folder / EMBEDDINGS_FILE).write_bytes((torch_folder / EMBEDDINGS_FILE).read_bytes())
    document = json.loads((torch_folder / MANIFEST_FILE).read_text())
    (folder / MANIFEST_FILE).write_text(json.dumps({**document, "backend": "onnx"}))
    write_manifest(folder, read_manifest(folder).with_files(folder))


def _write_killed_job(folder: Path) -> None:
    """Leave the blocks of the second of two ranks, and nobody joins them."""
    job = _job(folder, folder.parent)
    assert run_job(job, Ranks(1, 2)) is None
    job.folder.rename(folder / "killed")


def _job(folder: Path, valid: Path) -> Job:
    images, _ = find_images_of([str(valid / name) for name in IMAGES], [])
    return Job(
        _detector(valid / "detectors/onnx"), "0" * 64, images, Table(folder / "out.jsonl"), 1, 1, embeddings=True
    )


@cache
def _detector(folder: Path) -> Detector:
    return Detector.load(folder)


def _use(detector: Detector) -> None:
    """Decide on images, and write what is said of them."""
    for decision in detector([np.full((9, 11, 3), grey, dtype=np.uint8) for grey in (0, 200)]):
        json.dumps(decision.as_dict(), ensure_ascii=False, allow_nan=False).encode()
        if decision.status == "ok":
            assert 0 < decision.p_value <= 1
            assert decision.class_name in detector.class_names
            assert decision.probability is None or 0 <= decision.probability <= 1
    describe(detector).model_dump_json().encode()


def read_onnx(folder: Path) -> None:
    """Load a folder whose `detector.json` is damaged."""
    _use(Detector.load(folder / "detectors/onnx"))


def read_torch(folder: Path) -> None:
    """Load a folder in which a file is damaged, by somebody who has put its new hash into `detector.json`."""
    place = folder / "detectors/torch"
    write_manifest(place, read_manifest(place).with_files(place))
    _use(Detector.load(place, "cpu"))


def read_calibration(folder: Path) -> None:
    """Read the embeddings of the calibration images."""
    found = read_embeddings(folder / "detectors/torch")
    assert found.sample.shape[1:] == found.mean.shape


def finish_job(folder: Path) -> None:
    """Go on with a killed job of which a file is damaged."""
    job = _job(folder / "detectors", folder.parent / "valid")
    shutil.rmtree(job.folder, ignore_errors=True)
    shutil.copytree(folder / "detectors/killed", job.folder)
    assert run_job(job, Ranks()) == job.table.path
    rows = list(read_rows(job.table.path))
    assert len(rows) == len(IMAGES)
    assert len(np.load(job.table.embeddings)) == sum(row["status"] == "ok" for row in rows)


def read_decisions(suffix: str) -> Callable[[Path], None]:
    """Return what compares a file of decisions with the detector."""

    def read(folder: Path) -> None:
        reference = Reference.read(folder / "detectors/torch")
        findings = monitor(reference, [folder / f"detectors/decisions{suffix}"], 10, Rule())
        assert sum(finding.images + finding.broken for finding in findings) >= 1
        for finding in findings:
            finding.window.encode()
            assert all(0 <= value <= 1 for value in finding.adjusted.values())

    return read


def damaged_document(content: bytes, rng: Random) -> bytes:
    """Return a document with the few values of a detector damaged, not its many calibration scores."""
    document = json.loads(content)
    scores = document.pop("calibration_scores")
    found = damaged_json(json.dumps(document).encode(), rng)
    if rng.randrange(4) == 0:
        return damaged_bytes(content, rng)
    return found.rstrip().removesuffix(b"}") + b', "calibration_scores": ' + json.dumps(scores).encode() + b"}"
