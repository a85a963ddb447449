"""`detector.json`: what a detector folder is, by a schema that is checked field by field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np

from mmood.detector.calibration import Calibration, rank_of, ties_at_threshold
from mmood.errors import MmoodError
from mmood.files import parse_json, read_limited, write_atomically
from mmood.files.fields import Fields
from mmood.images.preprocessing import Preprocessing, Resize
from mmood.images.rgb import Exif

SCHEMA = 1
MANIFEST_FILE = "detector.json"
MAX_SIDE = 4096
MAX_WIDTH = 8
"""Of a network, relative to the published one: a file of others must not ask for all the memory."""

Backend = Literal["torch", "onnx"]
Plain = Mapping[str, object]
Pooling = Literal["max", "top_share", "quantile"]
"""How the score of an image comes from those of its pixels: see `mmood.dense.functional.pooled`, which needs torch."""


@dataclass(frozen=True)
class ScoreRecord:
    """The score: its name in the config, its class, the arguments of its constructor and what it has learned."""

    name: str
    kind: str
    settings: Plain
    values: Plain


@dataclass(frozen=True)
class EncoderRecord:
    """The tower.

    Attributes:
        name, pretrained, image_size: as in the settings of the encoder.
        fingerprint: sha256 of the weights.
        weights: `copy` if they are in the folder, `name` if they are loaded by name and checked.
        patches: `value` or `tokens`, the patch embeddings that the score gets if it reads any.
    """

    name: str
    pretrained: str | None
    image_size: int | None
    fingerprint: str
    weights: str
    patches: Literal["value", "tokens"]


# So many logits become probabilities at a time: tables of very many classes in float64 are large.
_MOST_LOGITS = 2**22


@dataclass(frozen=True)
class DenseRecord:
    """A network that scores pixels, in the place of a tower.

    Attributes:
        module: `Segmenter` or `Observer`.
        architecture, width: as in the settings of the network.
        pooling, pooled_share: how the score of an image comes from those of its pixels.
    """

    module: str
    architecture: str
    width: float
    pooling: Pooling
    pooled_share: float


@dataclass(frozen=True)
class ClassProbability:
    """How logits become the probability of a class: `softmax` or `sigmoid` of scale * logit + bias."""

    link: str
    scale: float
    bias: float

    def of(self, logits: np.ndarray) -> np.ndarray | None:
        """Return the probability of the class with the largest logit of each row; None if one class is all there is."""
        images, classes = logits.shape
        if classes == 1 and self.link == "softmax":
            return None
        step = max(1, _MOST_LOGITS // classes)
        return np.concatenate([self._of(logits[start : start + step]) for start in range(0, max(images, 1), step)])

    def _of(self, logits: np.ndarray) -> np.ndarray:
        scaled = self.scale * logits.astype(np.float64) + self.bias
        largest = scaled.max(axis=1)
        if self.link == "sigmoid":
            return np.asarray(1 / (1 + np.exp(-largest)))
        return np.asarray(1 / np.exp(scaled - largest[:, None]).sum(axis=1))


@dataclass(frozen=True)
class FileRecord:
    """Size and sha256 of a file of the folder."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Return the record of a file as it is now."""
        with path.open("rb") as file:
            return cls(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True)
class Manifest:
    """Everything about a detector but its large arrays.

    Attributes:
        backend: what runs it.
        score: the score.
        class_names: of the ID classes, in the order of the logits.
        negative_labels: in the order of the score's embeddings; empty for a score without any.
        prompts: templates of the class names; empty where the logits are those of a trained head.
        preprocessing: what the transform does.
        exif: whether images are turned as their cameras noted.
        probability: of a class.
        encoder: the tower; of a network that scores pixels, its architecture and weights.
        head_reads: `features` or `embedding`; without a meaning for a network that scores pixels.
        calibration: scores and recall; None before `calibrate`.
        provenance: for a reader; nothing is computed from it.
        files: the other files of the folder, by relative path.
        stream: of a test-time score, what a saved memory must belong to; None for a score of single images.
        patch_range: scores of patches between which the colours of a map change; None for a score without a map.
        dense: of a network that scores pixels; None for a tower.
    """

    backend: Backend
    score: ScoreRecord
    class_names: tuple[str, ...]
    negative_labels: tuple[str, ...]
    prompts: tuple[str, ...]
    preprocessing: Preprocessing
    exif: Exif
    probability: ClassProbability
    encoder: EncoderRecord
    head_reads: Literal["features", "embedding"]
    calibration: Calibration | None
    provenance: Plain
    files: Mapping[str, FileRecord]
    stream: Plain | None = None
    patch_range: tuple[float, float] | None = None
    dense: DenseRecord | None = None

    def with_files(self, folder: Path) -> Manifest:
        """Return the manifest with the records of all files that lie in the folder now."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_FILE)
        return replace(self, files={path.relative_to(folder).as_posix(): FileRecord.of(path) for path in paths})


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `detector.json`, the last file of a folder."""
    calibration = manifest.calibration
    assert calibration is not None, "only what is calibrated is written"
    document = {
        "schema": SCHEMA,
        "backend": manifest.backend,
        "score": vars(manifest.score),
        "orientation": "higher is more in-distribution",
        "id_recall": calibration.id_recall,
        "threshold": shortest(calibration.threshold),
        **({} if (ties := ties_at_threshold(calibration)) is None else {"ties": ties}),
        "class_names": manifest.class_names,
        "negative_labels": manifest.negative_labels,
        "prompts": manifest.prompts,
        "preprocessing": vars(manifest.preprocessing),
        "exif": manifest.exif,
        "probability": vars(manifest.probability),
        "encoder": vars(manifest.encoder),
        "head_reads": manifest.head_reads,
        "provenance": manifest.provenance,
        "files": {path: vars(record) for path, record in manifest.files.items()},
        **({} if manifest.stream is None else {"stream": manifest.stream}),
        **({} if manifest.patch_range is None else {"patch_range": manifest.patch_range}),
        **({} if manifest.dense is None else {"dense": vars(manifest.dense)}),
        "calibration_scores": [shortest(score) for score in calibration.scores.tolist()],
    }
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / MANIFEST_FILE, f"{text}\n".encode())


def read_manifest(folder: Path) -> Manifest:
    """Return what a detector folder says of itself.

    Raises:
        MmoodError: there is no such folder, or a field of its `detector.json` is missing or impossible.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise MmoodError(f"There is no detector at {folder}: it has no {MANIFEST_FILE}; `mmood calibrate` writes one.")
    top = Fields(parse_json(read_limited(path, str(path)), str(path)), str(path))
    if (schema := top.whole("schema")) != SCHEMA:
        raise MmoodError(f"{path} has schema {schema}; this version of mmood reads schema {SCHEMA}.")
    return Manifest(
        backend=cast(Backend, top.one_of("backend", ("torch", "onnx"))),
        score=_score(top.child("score")),
        class_names=_class_names(top),
        negative_labels=top.texts("negative_labels"),
        prompts=top.texts("prompts"),
        preprocessing=_preprocessing(top.child("preprocessing")),
        exif=cast(Exif, top.one_of("exif", ("apply", "ignore"))),
        probability=_probability(top.child("probability")),
        encoder=_encoder(top.child("encoder")),
        head_reads="features" if top.one_of("head_reads", ("features", "embedding")) == "features" else "embedding",
        calibration=_calibration(top),
        provenance=top.mapping("provenance"),
        files=_files(top.child("files")),
        stream=top.mapping("stream") if top.has("stream") else None,
        patch_range=_patch_range(top) if top.has("patch_range") else None,
        dense=_dense(top.child("dense")) if top.has("dense") else None,
    )


def shortest(value: float) -> float:
    """Return a float32 number as the shortest decimal that means it.

    >>> shortest(float(np.float32(0.1)))
    0.1
    """
    return float(str(np.float32(value)))


def _score(fields: Fields) -> ScoreRecord:
    return ScoreRecord(fields.text("name"), fields.text("kind"), fields.mapping("settings"), fields.mapping("values"))


def _patch_range(top: Fields) -> tuple[float, float]:
    found = top.numbers("patch_range")
    if len(found) != 2 or found[0] > found[1]:
        raise MmoodError(f"{top.where} has patch_range {list(found)!s:.80}; it is two numbers, the smaller one first.")
    return found[0], found[1]


def _class_names(top: Fields) -> tuple[str, ...]:
    names = top.texts("class_names")
    if not names:
        raise MmoodError(f"{top.where} has no class_names; a detector has at least one class.")
    return names


def _preprocessing(fields: Fields) -> Preprocessing:
    size = [
        int(side)
        for side in fields.value(
            "size",
            lambda v: isinstance(v, list) and len(v) == 2 and all(type(s) is int and 0 < s <= MAX_SIDE for s in v),
            f"height and width from 1 to {MAX_SIDE}",
        )
    ]
    mean, std = fields.numbers("mean"), fields.numbers("std")
    if len(mean) != 3 or len(std) != 3 or 0 in std:
        raise MmoodError(
            f"{fields.where} has mean {list(mean)!s:.80} and std {list(std)!s:.80}; each is three numbers, std not 0."
        )
    fill = fields.whole("fill")
    resize = cast(Resize, fields.one_of("resize", ("pillow", "torch"))) if fields.has("resize") else "pillow"
    mode = fields.text("resize_mode")
    found = Preprocessing((size[0], size[1]), mean, std, fields.text("interpolation"), mode, fill, resize)
    found.check()
    return found


def _probability(fields: Fields) -> ClassProbability:
    link = fields.one_of("link", ("softmax", "sigmoid"))
    return ClassProbability(link, fields.number("scale"), fields.number("bias"))


def _encoder(fields: Fields) -> EncoderRecord:
    return EncoderRecord(
        fields.text("name"),
        fields.text_or_null("pretrained"),
        fields.whole_or_null("image_size"),
        fields.text("fingerprint"),
        fields.one_of("weights", ("copy", "name")),
        # Before there was a choice, patches were tokens.
        "value" if "patches" in fields.raw and fields.one_of("patches", ("value", "tokens")) == "value" else "tokens",
    )


def _dense(fields: Fields) -> DenseRecord:
    width = fields.value(
        "width",
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0 < v <= MAX_WIDTH,
        f"above 0 and at most {MAX_WIDTH}",
    )
    return DenseRecord(
        fields.text("module"),
        fields.text("architecture"),
        float(width),
        cast(Pooling, fields.one_of("pooling", ("max", "top_share", "quantile"))),
        fields.share("pooled_share"),
    )


def _calibration(top: Fields) -> Calibration:
    scores = np.array(top.numbers("calibration_scores"), dtype=np.float32)
    recall, threshold = top.share("id_recall"), top.number("threshold")
    if not 0 < recall < 1 or not np.isfinite(scores).all() or (np.diff(scores) < 0).any():
        raise MmoodError(
            f"{top.where} has no ascending finite calibration_scores, or an id_recall that is not in (0, 1)."
        )
    if not 1 <= rank_of(len(scores), recall) <= len(scores):
        raise MmoodError(f"{top.where} has {len(scores)} calibration_scores, too few for id_recall {recall:g}.")
    found = Calibration(scores, recall)
    if np.float32(threshold) != np.float32(found.threshold):
        raise MmoodError(
            f"{top.where} has threshold {threshold:g}, and its calibration_scores give {found.threshold:g}; "
            "calibrate again to change it."
        )
    return found


def _files(fields: Fields) -> dict[str, FileRecord]:
    found = {}
    for path in fields.raw:
        parts = path.split("/")
        if path.startswith("/") or "\\" in path or not all(parts) or ".." in parts or "." in parts:
            raise MmoodError(f"{fields.where} names {path!r:.80}, which lies outside of the folder.")
        record = fields.child(path)
        found[path] = FileRecord(record.count("size"), record.text("sha256"))
    return found


def check_new(folder: Path) -> None:
    """Raise MmoodError if a folder is a file or holds something."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise MmoodError(f"{folder} is there already; a detector is written into a new or empty folder.")


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise MmoodError if a file of the folder is missing, of another size or of another content."""
    for path in manifest.files:
        check_file(folder, manifest, path)


def check_file(folder: Path, manifest: Manifest, path: str) -> None:
    """Raise MmoodError if this file of the folder is missing, of another size or of another content."""
    file, record = folder / path, manifest.files.get(path)
    if record is None:
        raise MmoodError(f"The detector {folder} does not list its {path}.")
    if not file.is_file():
        raise MmoodError(f"The detector {folder} is incomplete: its file {path} is missing.")
    if (size := file.stat().st_size) != record.size:
        raise MmoodError(f"The detector {folder} is damaged: {path} has {size} bytes and should have {record.size}.")
    if FileRecord.of(file).sha256 != record.sha256:
        raise MmoodError(f"The detector {folder} is damaged: {path} is not the file that was written.")


def manifest_hash(folder: Path) -> str:
    """Return the sha256 (hex) of a `detector.json`, which holds the hashes of all other files."""
    return FileRecord.of(folder / MANIFEST_FILE).sha256
