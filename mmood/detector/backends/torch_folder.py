"""A detector folder that torch runs: written and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

import mmood.scores  # noqa: F401  (the scores that a folder may name)
from mmood.detector.backends.torch_scorer import TorchScorer, best_device, torch_scorer
from mmood.detector.calibration import CalibrationEmbeddings, write_embeddings
from mmood.detector.manifest import EncoderRecord, Manifest, check_new, write_manifest
from mmood.encoders import AbstractEncoder, EncoderSettings, build_encoder
from mmood.errors import MmoodError
from mmood.files import write_atomically
from mmood.scores.base import LinearHead
from mmood.scores.portable import Plain, PortableScore, packed, unpacked

SCORE_FILE = "score.safetensors"
ENCODER_FOLDER = "encoder"
_HEAD = "head."
_SCORE = "score."


def save_detector(
    manifest: Manifest,
    scorer: TorchScorer,
    embeddings: CalibrationEmbeddings,
    folder: Path,
    copy_weights: bool,
    write_more: Callable[[Path], object] = lambda _: None,
) -> None:
    """Write a calibrated detector that torch runs into a new or empty folder; see `Detector.save`.

    Args:
        manifest: what the detector is.
        scorer: what computes its scores.
        embeddings: of the calibration images.
        folder: where to.
        copy_weights: put the weights of the tower inside.
        write_more: writes other files of the detector into the folder.

    Raises:
        MmoodError: the folder holds other files, or a tower that was trained would be named.
    """
    if not copy_weights:
        check_named(bool(manifest.provenance.get("trained_tower")))
    check_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    graph = scorer.graph
    if copy_weights:
        from mmood.encoders.saving import save_encoder

        save_encoder(graph.encoder, folder / ENCODER_FOLDER)
    tensors = {f"{_SCORE}{name}": tensor for name, tensor in packed(graph.score).tensors.items()}
    tensors |= {f"{_HEAD}weight": graph.head.weight, f"{_HEAD}bias": graph.head.bias}
    write_atomically(folder / SCORE_FILE, save({name: own_copy(tensor) for name, tensor in tensors.items()}))
    write_embeddings(folder, embeddings)
    write_more(folder)
    encoder = replace(manifest.encoder, weights="copy" if copy_weights else "name")
    write_manifest(folder, replace(manifest, encoder=encoder).with_files(folder))


def load_torch_scorer(folder: Path, manifest: Manifest, device: str | None) -> TorchScorer:
    """Return what computes the scores of a detector folder.

    Raises:
        MmoodError: the weights are those of another tower, or tensors are missing or of another shape.
    """
    encoder = _encoder(folder, manifest.encoder)
    encoder.resize_by(manifest.preprocessing.resize)
    tensors = tensors_of(folder / SCORE_FILE)
    reads = manifest.head_reads
    head = LinearHead(reads, _of(tensors, f"{_HEAD}weight", folder), _of(tensors, f"{_HEAD}bias", folder))
    width = encoder.feature_dim if reads == "features" else encoder.embedding_dim
    if head.weight.shape != (len(manifest.class_names), width) or head.bias.shape != (len(manifest.class_names),):
        raise MmoodError(
            f"The head of the detector {folder} has the shape {tuple(head.weight.shape)}; with "
            f"{len(manifest.class_names)} classes and this tower it must be {(len(manifest.class_names), width)}."
        )
    learned = {name.removeprefix(_SCORE): tensor for name, tensor in tensors.items() if name.startswith(_SCORE)}
    record = manifest.score
    values = cast("dict[str, Plain]", record.values)
    score = unpacked(PortableScore(record.kind, record.settings, values, learned), encoder, f"The detector {folder}")
    try:
        scorer = torch_scorer(encoder, head, score, best_device(device))
        _try(scorer, encoder)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise MmoodError(f"The score of the detector {folder} does not fit its tower: {reason}.") from error
    return scorer


def check_named(trained_tower: bool) -> None:
    """Raise MmoodError if the weights of a tower are to be named and were trained."""
    if trained_tower:
        raise MmoodError("The tower was trained, so no name means its weights; use --weights copy.")


def _encoder(folder: Path, record: EncoderRecord) -> AbstractEncoder:
    settings = EncoderSettings(record.name, record.pretrained, record.image_size, patches=record.patches)
    if record.weights == "copy":
        from mmood.encoders.saving import saved_settings

        return build_encoder(saved_settings(settings, folder / ENCODER_FOLDER))
    encoder = build_encoder(settings)
    if (found := encoder.weights_hash()) != record.fingerprint:
        raise MmoodError(
            f"The detector {folder} belongs to the tower '{record.name}' with weights {record.fingerprint[:12]}, and "
            f"that name now has weights {found[:12]}; calibrate again, its threshold means nothing for another tower."
        )
    return encoder


def _try(scorer: TorchScorer, encoder: AbstractEncoder) -> None:
    """Score one black image, so that what does not fit shows now."""
    height, width = encoder.image_size
    scorer.score(torch.zeros(1, 3, height, width).numpy())


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file; MmoodError if it cannot be read."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except (OSError, SafetensorError) as error:
        raise MmoodError(f"{path} cannot be read as tensors: {error}.") from error


def _of(tensors: dict[str, Tensor], name: str, folder: Path) -> Tensor:
    if name not in tensors:
        raise MmoodError(f"The detector {folder} has no tensor '{name}' in its {SCORE_FILE}.")
    return tensors[name]


def own_copy(tensor: Tensor) -> Tensor:
    """Return a tensor as safetensors can write it: on the CPU, in one piece, sharing memory with no other."""
    return tensor.detach().cpu().contiguous().clone()
