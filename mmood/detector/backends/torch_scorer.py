"""Scores by torch: encoder, head and fitted score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from PIL.Image import Image
from torch import Tensor, nn

from mmood.detector.scorer import Pixels, Scored
from mmood.encoders import AbstractEncoder, EncodedImages, ImageTransform
from mmood.scores.base import AbstractScore, Embedded, LinearHead
from mmood.scores.local import AbstractLocalScore


class ScoringGraph(nn.Module):
    """From a batch of prepared images to what `Scored` holds, as tensors.

    Args:
        encoder: the encoder.
        head: gives the logits.
        score: fitted.
    """

    def __init__(self, encoder: AbstractEncoder, head: LinearHead, score: AbstractScore) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.score = score
        texts = score.negative_labels()
        # Not `negative`: the graph of ONNX names constants by attributes, and an output has that name.
        self.labels = None if texts is None else texts.negative
        self.local = score if isinstance(score, AbstractLocalScore) else None
        self.grid = None if self.local is None else encoder.patch_grid()

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> tuple[Tensor, ...]:
        """Return scores, logits, unit-norm embeddings, the number of the nearest negative label (-1 without any).

        A score that has a map adds the scores of the patches. An image-only encoder has no joint space: there the
        embedding is the normalised features.
        """
        embedded = self.embed(images)
        scores, *found = self.judge(embedded)
        return (scores, embedded.logits, *found)

    def judge(self, embedded: Embedded) -> tuple[Tensor, ...]:
        """Return what `forward` does, without the logits, of what the score reads."""
        scores = self.score(embedded).float()
        joint = in_joint_space(embedded)
        found = (scores, joint, self._nearest(joint))
        if self.local is None or self.grid is None:
            return found
        return (*found, self.local.patch_scores(embedded).reshape(-1, *self.grid))

    def embed(self, images: Float[Tensor, "batch 3 height width"]) -> Embedded:
        """Return what the score reads of a batch."""
        needs = self.score.needs
        encoded = self.encoder.encode_image(images, "patches" in needs, "feature_map" in needs)
        logits = self.logits(encoded)
        return Embedded(encoded.features, logits, encoded.embedding, encoded.patches, encoded.feature_map)

    def logits(self, encoded: EncodedImages) -> Float[Tensor, "batch classes"]:
        """Return the logits of encoded images."""
        rows = encoded.features if self.head.reads == "features" else encoded.embedding
        assert rows is not None, "checked when the head was taken"
        return self.head.logits(rows)

    def _nearest(self, embedding: Float[Tensor, "batch dim"]) -> Int64[Tensor, " batch"]:
        if self.labels is None:
            return embedding[:, 0].long() * 0 - 1
        return (embedding @ self.labels.T).argmax(dim=1)


def in_joint_space(embedded: Embedded) -> Float[Tensor, "batch dim"]:
    """Return unit-norm embeddings; of an image-only encoder, which has no joint space, the normalised features."""
    if embedded.embedding is not None:
        return embedded.embedding
    return nn.functional.normalize(embedded.features, dim=-1)


@final
@dataclass(frozen=True)
class TorchScorer:
    """A scorer on a device of torch.

    Attributes:
        graph: on the device, in eval mode.
        transform: the encoder's eval transform.
        device: where it computes.
    """

    graph: ScoringGraph
    transform: ImageTransform
    device: torch.device

    @property
    def on_cpu(self) -> bool:
        """Whether torch computes on the CPU."""
        return self.device.type == "cpu"

    def prepare(self, image: Image) -> Float32[np.ndarray, "3 height width"]:
        """Return an RGB image under the eval transform."""
        pixels: np.ndarray = self.transform(image).numpy()
        return pixels

    def score(self, pixels: Pixels) -> Scored:
        """Return the arrays of a batch."""
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            embedded = self.graph.embed(torch.from_numpy(pixels).to(self.device))
            # With very many classes the tables of a score are large, so a batch is judged in parts.
            parts = [self.graph.judge(part) for part in embedded.parts()]
            scores, embedding, nearest, *patches = (torch.cat(column) for column in zip(*parts, strict=True))
        return Scored(
            scores.cpu().numpy(),
            embedded.logits.float().cpu().numpy(),
            embedding.float().cpu().numpy(),
            None if self.graph.labels is None else nearest.cpu().numpy(),
            patches[0].cpu().numpy() if patches else None,
        )


def torch_scorer(encoder: AbstractEncoder, head: LinearHead, score: AbstractScore, device: torch.device) -> TorchScorer:
    """Return the scorer of a fitted score, everything on the device and in eval mode."""
    graph = ScoringGraph(encoder, head.to(device), score).to(device).eval()
    if graph.labels is not None:
        graph.labels = graph.labels.to(device)
    return TorchScorer(graph.requires_grad_(False), encoder.transform(), device)


def best_device(name: str | None) -> torch.device:
    """Return a device by name; without one a GPU if there is one."""
    if name is not None:
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
