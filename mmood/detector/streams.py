"""A test-time score in production: images as they come, decided at once, with a memory that survives the process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL.Image import Image
from torch import Tensor

from mmood.detector.backends.from_module import from_module
from mmood.detector.backends.from_settings import module_from_settings
from mmood.detector.backends.torch_scorer import TorchScorer, in_joint_space
from mmood.detector.calibration import (
    Calibration,
    CalibrationEmbeddings,
    CalibrationRows,
    calibrate,
    calibration_pixels,
    read_embeddings,
    read_rows,
    summarised,
    write_rows,
)
from mmood.detector.face import BATCH, AbstractDecider
from mmood.detector.judging import Judged, all_broken, judged, readable
from mmood.detector.manifest import Manifest, check_files, read_manifest
from mmood.detector.pictures import Picture
from mmood.detector.scorer import Prepared, Scored
from mmood.detector.state_file import read_state, write_state
from mmood.encoders import EncodedImages
from mmood.errors import MmoodError
from mmood.images.rgb import Exif, to_rgb
from mmood.modules.base import AbstractDetector
from mmood.scores.base import Embedded
from mmood.scores.test_time.base import AbstractStreamScore, AnyStreamScore

MEMORY_FILE = "memory.safetensors"


@final
class StreamDetector(AbstractDecider):
    """Scores images one batch after another with a score that learns from them, and decides on them once calibrated.

    What comes in one batch is learned from together, so the numbers depend on how images are put into batches.

    The threshold moves with the memory: `decide` judges each batch before the score learns from it, and scores the
    calibration images with the same memory. So a new ID image is accepted with a probability of at least `id_recall`,
    whatever the memory has learned, as long as the image is exchangeable with the calibration images: neither these nor
    the image may have been in the stream before. How many OoD images are rejected is promised by nothing.

    It has state: one thread at a time.

    Args:
        manifest: what the detector is.
        scorer: of a stream score.
        embeddings: of the calibration images; None before `calibrated`.
        rows: the calibration images, encoded; None before `calibrated`.
    """

    def __init__(
        self,
        manifest: Manifest,
        scorer: TorchScorer,
        embeddings: CalibrationEmbeddings | None = None,
        rows: CalibrationRows | None = None,
    ) -> None:
        super().__init__(manifest, scorer, embeddings)
        self.graph = scorer.graph
        self.device = scorer.device
        self.score = _stream_score(scorer)
        self.rows = rows

    @classmethod
    def from_settings(
        cls, arguments: Sequence[str], score: str | None = None, checkpoint: str | Path | None = None
    ) -> Self:
        """Return the detector that `mmood test` would evaluate with these arguments.

        Args:
            arguments: as on the command line, such as `["--config", "vitb16_adaneg.yaml", "--data.root", "shards"]`.
            score: the name of a stream score in `model.scores`; None if there is only one.
            checkpoint: a fine-tuned model; its settings come first, as with `--ckpt_path`.

        Raises:
            MmoodError: the settings are wrong, or there is no such score.
        """
        detector, data = module_from_settings(arguments, checkpoint)
        return cls.from_module(detector, score, data.exif or "apply")

    @classmethod
    def from_module(cls, module: AbstractDetector, score: str | None = None, exif: Exif = "apply") -> Self:
        """Return the detector of a module with its weights, on its device; its scores are fitted now.

        Args:
            module: with the score.
            score: the name of a stream score; None if there is only one.
            exif: whether images are turned as their cameras noted, as `predict` does, or not, as `test` does.

        Raises:
            MmoodError: there is no such score, or one cannot be fitted.
        """
        name = _chosen(dict(module.stream_scores()), score)
        module.eval().fit_scores()
        return cls(*from_module(module, name, exif))

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Return the detector in a folder, with the memory that it was saved with.

        Args:
            folder: what `save` or `mmood calibrate` wrote.
            device: of torch, such as `cuda`; None for a GPU if there is one.

        Raises:
            MmoodError: it is not a detector with a test-time score, is damaged, or its tower is not there.
        """
        from mmood.detector.backends.torch_folder import load_torch_scorer

        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest.stream is None or manifest.calibration is None:
            raise MmoodError(f"{folder} decides without a memory ('{manifest.score.name}'); Detector.load reads it.")
        check_files(folder, manifest)
        rows = read_rows(folder, len(manifest.calibration.scores))
        loaded = cls(manifest, load_torch_scorer(folder, manifest, device), read_embeddings(folder), rows)
        loaded.load_state(folder / MEMORY_FILE)
        return loaded

    @property
    def calibration(self) -> Calibration:
        """Threshold and p-values under the memory as it is; MmoodError before `calibrated`."""
        if self.rows is None or self.manifest.calibration is None:
            raise MmoodError("The detector has no threshold yet; give it ID images: detector.calibrated(images).")
        return self._calibration(self.rows, self.manifest.calibration.id_recall)

    def decide(self, images: Sequence[Prepared]) -> Judged:
        """Return the decisions on the next batch, and the embeddings of its images; learn from these afterwards.

        Nothing is learned from images that are broken or have no finite embedding.

        Args:
            images: what `prepared` returned for each image.
        """
        pixels, calibration = readable(images), self.calibration
        if pixels is None:
            return all_broken(images)
        embedded = self._embed(torch.from_numpy(pixels).to(self.device))
        joint = in_joint_space(embedded)
        scores, logits, embedding = (_array(part) for part in (self._score(embedded), embedded.logits, joint))
        decisions = judged(images, Scored(scores, logits, embedding), calibration, self.manifest)
        finite = joint.isfinite().all(dim=-1)
        if finite.any():
            self._learn(_of(embedded, finite))
        return decisions

    def calibrated_on(self, images: Iterable[tuple[str, Picture]], id_recall: float, batch_size: int = BATCH) -> Self:
        """Return what `calibrated` does, for images that come one by one, each with what an error calls it.

        The score learns nothing from them. The stream goes on in the detector that is returned.
        """
        parts = [
            self._embed(torch.from_numpy(pixels).to(self.device))
            for pixels in calibration_pixels(self.scorer, images, self.manifest.exif, batch_size)
        ]
        features = np.concatenate([_array(part.features) for part in parts])
        joint = [_array(in_joint_space(part)) for part in parts]
        rows = CalibrationRows(features, None if parts[0].embedding is None else np.concatenate(joint))
        manifest = replace(self.manifest, calibration=self._calibration(rows, id_recall))
        return type(self)(manifest, self._torch, summarised(joint), rows)

    def reset(self, seed: int = 0) -> None:
        """Forget the stream; `seed` is that of the score's private generators."""
        self.score.reset(seed)

    def step(self, images: Sequence[Image] | Float[Tensor, "batch 3 height width"]) -> Float[Tensor, " batch"]:
        """Return the scores of the next batch, on the CPU, higher = more in-distribution, and learn from it.

        These are the scores of `mmood test`: a score with `update: before` has learned from the batch already.

        Args:
            images: PIL images of any mode, or a tensor that the detector's transform has made.

        Raises:
            ImageError: an image cannot be used; nothing was learned from its batch.
        """
        if not len(images):
            return torch.empty(0)
        if not isinstance(images, Tensor):
            transform, exif = self._torch.transform, self.manifest.exif
            images = torch.stack([transform(to_rgb(image, exif)) for image in images])
        return self._learn(self._embed(images.to(self.device))).float().cpu()

    def save(self, folder: str | Path, copy_weights: bool = True) -> None:
        """Write the calibrated detector into a new or empty folder, with its memory as it is.

        Args:
            folder: where to.
            copy_weights: put the weights of the tower inside; without, they are loaded by name and checked.

        Raises:
            MmoodError: it is not calibrated, the folder holds other files, or a tower that was trained would be named.
        """
        from mmood.detector.backends.torch_folder import save_detector

        manifest = replace(self.manifest, calibration=self.calibration)
        embeddings, rows = self.embeddings, self.rows
        assert embeddings is not None, "they come with the calibration"
        assert rows is not None, "they come with the calibration"

        def write_more(into: Path) -> None:
            write_rows(into, rows)
            self.save_state(into / MEMORY_FILE)

        save_detector(manifest, self._torch, embeddings, Path(folder), copy_weights, write_more)

    def save_state(self, path: str | Path) -> None:
        """Write what the score remembers to a safetensors file, whole or not at all."""
        write_state(Path(path), self.score.state(), self._belongs_to)

    def load_state(self, path: str | Path) -> None:
        """Go on where a stream was saved, in this process or another.

        Raises:
            MmoodError: there is no state, or it is one of another score, encoder, list of classes or of words.
        """
        self.score.load_state(read_state(Path(path), self._belongs_to))

    @property
    def _torch(self) -> TorchScorer:
        assert isinstance(self.scorer, TorchScorer)
        return self.scorer

    @property
    def _belongs_to(self) -> dict[str, object]:
        assert self.manifest.stream is not None, "it is that of a stream score"
        return dict(self.manifest.stream)

    def _calibration(self, rows: CalibrationRows, id_recall: float) -> Calibration:
        features = torch.from_numpy(rows.features).to(self.device)
        embedding = None if rows.embedding is None else torch.from_numpy(rows.embedding).to(self.device)
        logits = self.graph.logits(EncodedImages(features, embedding))
        return calibrate(_array(self._score(Embedded(features, logits, embedding))), id_recall)

    def _embed(self, images: Float[Tensor, "batch 3 height width"]) -> Embedded:
        # A score may differentiate what inference mode would have made for good.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return replace(self.graph.embed(images), pixels=lambda rows: images[rows.to(images.device)])

    def _score(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        with torch.autocast(self.device.type, enabled=False):
            scores: Tensor = self.score(embedded)
            return scores

    def _learn(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        with torch.autocast(self.device.type, enabled=False):
            return self.score.step(embedded)


def _stream_score(scorer: TorchScorer) -> AnyStreamScore:
    score = scorer.graph.score
    if not isinstance(score, AbstractStreamScore):
        raise MmoodError(f"{type(score).__name__} has no memory; Detector runs it.")
    return score


def _chosen(scores: dict[str, AnyStreamScore], name: str | None) -> str:
    known = ", ".join(scores) or "none"
    if name is None and len(scores) != 1:
        raise MmoodError(f"A StreamDetector runs one stream score, and model.scores has {known}; say which.")
    if name is not None and name not in scores:
        raise MmoodError(f"There is no stream score '{name}' in model.scores; there is {known}.")
    return next(iter(scores)) if name is None else name


def _of(embedded: Embedded, rows: Bool[Tensor, " batch"]) -> Embedded:
    """Return some images of a batch."""
    embedding = None if embedded.embedding is None else embedded.embedding[rows]
    place = rows.nonzero().squeeze(-1).cpu()
    found = Embedded(embedded.features[rows], embedded.logits[rows], embedding)
    return replace(found, pixels=lambda some: embedded.images(place[some]))


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = tensor.detach().float().cpu().numpy()
    return found
