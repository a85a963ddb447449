"""A detector of a network that scores pixels: from the trained module, into a folder, and back."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from safetensors.torch import save
from torch import Tensor

from mmood import __version__
from mmood.classes.names import class_names_hash
from mmood.dense.detector import AbstractDenseDetector
from mmood.dense.functional import Pooling
from mmood.dense.observer import Observer
from mmood.dense.scores import AbstractDenseScore
from mmood.dense.segmenter import Architecture, NetworkSettings, Segmenter
from mmood.dense.transforms import MEAN, STD
from mmood.detector.backends.dense_scorer import DenseScorer
from mmood.detector.backends.torch_folder import SCORE_FILE, own_copy, tensors_of
from mmood.detector.backends.torch_scorer import best_device
from mmood.detector.calibration import CalibrationEmbeddings, write_embeddings
from mmood.detector.manifest import (
    ClassProbability,
    DenseRecord,
    EncoderRecord,
    Manifest,
    ScoreRecord,
    check_new,
    write_manifest,
)
from mmood.encoders.weights import weights_hash
from mmood.errors import MmoodError, unknown
from mmood.files import write_atomically
from mmood.images.preprocessing import Preprocessing

_NETWORK, _SCORE = "network.", "score."
_MODULES: dict[str, type[Segmenter | Observer]] = {"Segmenter": Segmenter, "Observer": Observer}


def from_dense_module(
    module: AbstractDenseDetector,
    name: str,
    image_size: tuple[int, int],
    pooling: Pooling,
    pooled_share: float,
    provenance: dict[str, object],
) -> tuple[Manifest, DenseScorer]:
    """Return the detector of a score of pixels, not calibrated yet.

    Args:
        module: with its weights, on its device, its scores fitted.
        name: of the score.
        image_size: (height, width) at which the network runs.
        pooling: how the score of an image comes from those of its pixels.
        pooled_share: which share of the pixels it comes from.
        provenance: more of it.

    Raises:
        MmoodError: the module has no network of its own to ship.
    """
    kind, network = type(module).__name__, shippable(module).network_settings
    score = dict(module.named_scores())[name]
    preprocessing = Preprocessing(image_size, MEAN, STD, "bilinear", "squash")
    manifest = Manifest(
        backend="torch",
        score=ScoreRecord(name, type(score).__name__, score.settings(), {}),
        class_names=tuple(module.class_names),
        negative_labels=(),
        prompts=(),
        preprocessing=preprocessing,
        exif="apply",
        probability=ClassProbability("softmax", 1.0, 0.0),
        encoder=EncoderRecord(network.architecture, None, None, weights_hash(module), "copy", "tokens"),
        head_reads="features",
        calibration=None,
        provenance={
            "mmood": __version__,
            "module": kind,
            "trained_tower": True,
            "class_names_sha256": class_names_hash(module.class_names),
            **provenance,
        },
        files={},
        dense=DenseRecord(kind, network.architecture, network.width, pooling, pooled_share),
    )
    return manifest, DenseScorer(module, score, pooling, pooled_share, preprocessing)


def shippable(module: AbstractDenseDetector) -> Segmenter | Observer:
    """Return a module that has a network of its own to ship; MmoodError for another one."""
    if not isinstance(module, Segmenter | Observer):
        kinds = " and ".join(_MODULES)
        raise MmoodError(f"{type(module).__name__} cannot be shipped; of the models that score pixels, {kinds} can.")
    return module


def save_dense_detector(
    manifest: Manifest, scorer: DenseScorer, embeddings: CalibrationEmbeddings, folder: Path
) -> None:
    """Write a calibrated detector into a new or empty folder; see `Detector.save`."""
    check_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{_NETWORK}{name}": tensor for name, tensor in scorer.module.state_dict().items()}
    tensors |= {f"{_SCORE}{name}": tensor for name, tensor in scorer.score_of_pixels.learned().items()}
    write_atomically(folder / SCORE_FILE, save({name: own_copy(tensor) for name, tensor in tensors.items()}))
    write_embeddings(folder, embeddings)
    write_manifest(folder, manifest.with_files(folder))


def load_dense_scorer(folder: Path, manifest: Manifest, device: str | None) -> DenseScorer:
    """Return what computes the scores of a detector folder.

    Raises:
        MmoodError: network or score are not known, or tensors are missing or of another shape.
    """
    record, where = manifest.dense, f"The detector {folder}"
    assert record is not None, "the caller has checked it"
    tensors = tensors_of(folder / SCORE_FILE)
    score = _score(manifest.score, _below(_SCORE, tensors), where)
    network = NetworkSettings(cast(Architecture, record.architecture), record.width)
    names, scores = list(manifest.class_names), {manifest.score.name: score}
    if record.module not in _MODULES:
        raise MmoodError(f"{where}: {unknown('module', record.module, _MODULES)}")
    try:
        module = _MODULES[record.module](names, scores, network=network)
        module.load_state_dict(_below(_NETWORK, tensors))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise MmoodError(f"{where} does not hold the weights of its {record.architecture}: {reason}.") from error
    module.to(best_device(device)).eval()
    return DenseScorer(module, score, record.pooling, record.pooled_share, manifest.preprocessing)


def _score(record: ScoreRecord, learned: dict[str, Tensor], where: str) -> AbstractDenseScore:
    kinds = {kind.__name__: kind for kind in AbstractDenseScore.__subclasses__()}
    if record.kind not in kinds:
        error = unknown("score of pixels", record.kind, kinds)
        raise MmoodError(f"{where}: {error} A score of your own must be imported before the detector is loaded.")
    try:
        return kinds[record.kind](**record.settings).restored(learned)
    except TypeError as error:
        raise MmoodError(f"{where} does not fit the score {record.kind} of this version of mmood: {error}.") from error


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
