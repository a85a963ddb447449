"""Scores by the nearest descriptors of the ID training images: MODE's decision, and a form of it for CLIP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.approximate import InvertedLists, require_faiss
from mmood.scores.bank import fitted, set_name
from mmood.scores.base import AbstractScore, Embedded, Output, Reference
from mmood.scores.descriptors import Local, LocalDescriptors
from mmood.scores.functional_scales import REGIONS, region_means
from mmood.scores.neighbours import Neighbours, Search, inverted_lists
from mmood.scores.surroundings import Surroundings
from mmood.settings import check_count
from mmood.settings.requirements import Requirement


class AbstractCrossScale(AbstractScore):
    """S = max over six descriptors of -D_k, in [-4, 0]: D_k is the squared distance to the k-th nearest descriptor.

    The six are unit-norm means over the four quadrants, the whole and the centre of an image. The bank holds those of
    all ID training images together, so a quadrant may be near to a whole ("cross-scale"). Where a mean is exactly 0, so
    is its descriptor, and its distance from any other counts as 2.

    Args:
        k: which neighbour; 10 as in MODE.
        shots: training images of each class; None for all.
        search: `exact` or `approximate`, see `KNN`.
    """

    reads: ClassVar[Local]
    neighbours_: Neighbours | InvertedLists | None = None
    descriptors_: LocalDescriptors | None = None

    def __init__(self, k: int = 10, shots: int | None = None, search: Search = "exact") -> None:
        super().__init__()
        name = type(self).__name__
        check_count(f"{name}.k", k)
        check_count(f"{name}.shots", shots, null="all images")
        if search == "approximate":
            require_faiss(f"{name}.search: approximate")
        self.k, self.shots, self.search = k, shots, search
        # faiss finds the neighbours outside of autograd.
        self.differentiable = search == "exact"

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the ID training images."""
        return (around.training_images(),)

    def fit(self, reference: Reference) -> Self:
        """Take hold of the descriptors of the bank (no copy).

        Raises:
            MmoodError: the bank has fewer than k descriptors, or the tower gives no map.
        """
        head = reference.local_head if self.reads == "feature_map" else None
        descriptors = LocalDescriptors(self.reads, region_means(*reference.encoder.map_grid()), head)
        bank = reference.bank(self.shots, descriptors=descriptors)
        assert bank.descriptors is not None, "they were asked for"
        rows = bank.descriptors.flatten(0, 1)
        if len(rows) < self.k:
            raise MmoodError(
                f"{type(self).__name__}.k is {self.k}, but {set_name(bank)} has only {len(rows)} descriptors "
                f"({REGIONS} an image); choose a smaller k."
            )
        exact = Neighbours(rows, torch.ones(len(rows)))
        self.neighbours_ = inverted_lists(exact) if self.search == "approximate" else exact
        self.descriptors_ = descriptors
        return self

    def forward(self, embedded: Embedded) -> Float[Tensor, " batch"]:
        """Return the largest -D_k of the descriptors of each image."""
        positions = embedded.positions(self.reads)
        self.descriptors_ = fitted(self, self.descriptors_).to(positions.device)
        queries = self.descriptors_.of(positions).flatten(0, 1)
        bank: Neighbours | InvertedLists = fitted(self, self.neighbours_)  # type: ignore[assignment]
        self.neighbours_ = bank = bank.to(queries.device)
        similarity: Tensor = bank.nearest(queries, self.k)[:, -1].reshape(-1, REGIONS)
        return 2 * similarity.amax(dim=1) - 2


@final
class CSD(AbstractCrossScale):
    """MODE's cross-scale decision (arXiv 2308.10239), on the last feature map: the max over six of -D_10.

    Of a network that `MultiScale` has trained, this is MODE; of any other it is the same decision without its training.
    Where the tower stayed frozen, the map is that of the trained value head (that form is ours). S = max over the four
    quadrants, the whole and the centre of -D_k, in [-4, 0]; D_k is the squared L2 distance of unit-norm descriptors to
    the k-th nearest of all 6 N descriptors of the training images.

    Args:
        k: which neighbour; 10 as in the paper.
        shots: training images of each class; None for all.
        search: `exact` or `approximate`, see `KNN`.
    """

    reads: ClassVar[Local] = "feature_map"
    needs: frozenset[Output] = frozenset({"feature_map"})


@final
class CrossScaleKNN(AbstractCrossScale):
    """The cross-scale decision on the patch embeddings of a vision-language model, without training. It is not MODE.

    Ours: the decision of MODE (arXiv 2308.10239; see `CSD`) on unit-norm patches in the joint space, by default those
    of the value path (`model.encoder.patches`).

    Args:
        k: which neighbour.
        shots: training images of each class; None for all.
        search: `exact` or `approximate`, see `KNN`.
    """

    reads: ClassVar[Local] = "patches"
    needs: frozenset[Output] = frozenset({"patches"})
