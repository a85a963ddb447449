"""Scores by the nearest ID training images: exact, in chunks over a bank that may be memory-mapped."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from mmood.errors import MmoodError
from mmood.scores import functional
from mmood.scores.approximate import PER_LIST, InvertedLists, lists_of, require_faiss
from mmood.scores.bank import ROWS, bank_rows, double, finite_rows, fitted, output, set_name, stored
from mmood.scores.base import AbstractScore, Bank, Embedded, Reference, Stored
from mmood.scores.functional_neighbours import inverse_norms, nearest_products, nearest_similarities
from mmood.scores.stable import with_gradient
from mmood.scores.surroundings import Surroundings
from mmood.settings import check_count, check_number
from mmood.settings.requirements import Requirement

Scores = Float[Tensor, " batch"]
Search = Literal["exact", "approximate"]


@dataclass(frozen=True)
class Neighbours:
    """A bank to search: rows as they are stored and a factor for each.

    A GPU gets both once, the rows in the precision of the store (1.28M x 768 halves: 2 GB). Rows that would take more
    than half of the memory that it has left stay where they are, and every batch reads them from there.
    """

    rows: Float[Tensor, "images dim"]
    scale: Float[Tensor, " images"]

    def to(self, device: torch.device) -> Neighbours:
        """Return the bank on a device, as far as it fits."""
        fits = self.rows.device == device or 2 * self.rows.nbytes <= memory_left(device)
        return Neighbours(self.rows.to(device) if fits else self.rows, self.scale.to(device))

    def nearest(self, queries: Float[Tensor, "batch dim"], k: int) -> Float[Tensor, "batch k"]:
        """Return the k largest products of each query with rows times their factors, largest first."""
        if with_gradient(queries):
            return nearest_products(queries, self.rows, self.scale, k)
        return nearest_similarities(queries, self.rows, self.scale, k)


class KNN(AbstractScore):
    """Cosine similarity with the nearest ID training images, in [-1, 1].

    k = 1 is 1-NN of PLP (arXiv 2303.05828) on features before projection; with k > 1 the score is the similarity of
    the k-th neighbour (arXiv 2204.06507, whose distance of unit vectors orders images alike) or the mean of the k
    nearest. PLP averages exp(cos) over the k instead; for k = 1 the order is the same.

    Warning:
        With few training images a class that has none near an image looks like OoD; state `shots` beside the number.

    Args:
        k: how many neighbours.
        reads: `features` before projection or the joint `embedding`; both are L2-normalised here, not standardised.
        average: with k > 1, the mean of the k similarities instead of the k-th.
        shots: training images of each class; None for all.
        search: `exact` compares with every image, from the disk if need be; `approximate` with about a sixteenth of
            them, in memory, by faiss (`pip install 'mmood[faiss]'`): for millions of images on a CPU. What it finds is
            never more similar than the exact neighbour, up to the rounding of its half precision.
    """

    neighbours_: Neighbours | InvertedLists | None = None

    def __init__(
        self,
        k: int = 1,
        reads: Stored = "features",
        average: bool = False,
        shots: int | None = None,
        search: Search = "exact",
    ) -> None:
        super().__init__()
        check_count("KNN.k", k)
        check_count("KNN.shots", shots, null="all images")
        if search == "approximate":
            require_faiss("KNN.search: approximate")
        self.k, self.reads, self.average, self.shots, self.search = k, reads, average, shots, search
        self.needs = frozenset({reads})
        # faiss finds the neighbours outside of autograd.
        self.differentiable = search == "exact"

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the ID training images."""
        return (around.training_images(),)

    def fit(self, reference: Reference) -> Self:
        """Take hold of the bank (no copy) and learn the norm of each image.

        Raises:
            MmoodError: the bank has fewer than k images, a value that is not finite, or no embedding to read.
        """
        bank = reference.bank(self.shots)
        _enough(bank, self.k, "KNN")
        chunks = (finite_rows(bank, self.reads, slice(i, i + ROWS)) for i in range(0, len(bank.keys), ROWS))
        scale = torch.cat([inverse_norms(rows) for rows in chunks])
        exact = Neighbours(stored(bank, self.reads), scale)
        self.neighbours_ = inverted_lists(exact) if self.search == "approximate" else exact
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return the similarity of the k-th neighbour, or the mean of the k nearest."""
        queries = normalize(output(embedded, self.reads), dim=1)
        bank: Neighbours | InvertedLists = fitted(self, self.neighbours_)  # type: ignore[assignment]
        self.neighbours_ = bank = bank.to(queries.device)
        nearest = bank.nearest(queries, self.k)
        return nearest.mean(dim=1) if self.average else nearest[:, -1]


class NNGuide(AbstractScore):
    """Nearest-neighbour guidance: the energy of an image times that of the training images it looks like.

    E(x) * mean over the k largest of E(x_i) cos(x, x_i), with the energy E = T logsumexp(logits / T) and x_i in the
    bank (arXiv 2309.14888).

    Warning:
        The product orders images as meant while energies are positive: for cosines at T = 1 they always are
        with 3 classes or more; logits of a trained head may break it.

    Args:
        k: how many neighbours; 10 as in the paper for ImageNet.
        reads: `features` before projection or the joint `embedding`, for the cosine.
        temperature: divides the logits.
        shots: training images of each class; None for all. The paper takes 1 % of ImageNet, 13 of each class.
    """

    neighbours_: Neighbours | None = None

    def __init__(
        self, k: int = 10, reads: Stored = "features", temperature: float = 1.0, shots: int | None = None
    ) -> None:
        super().__init__()
        check_count("NNGuide.k", k)
        check_count("NNGuide.shots", shots, null="all images")
        check_number("NNGuide.temperature", temperature, above=0)
        self.k, self.reads, self.temperature, self.shots = k, reads, temperature, shots
        self.needs = frozenset({reads, "logits"})

    def requirements(self, around: Surroundings) -> Iterable[Requirement]:
        """Return the ID training images."""
        return (around.training_images(),)

    def fit(self, reference: Reference) -> Self:
        """Learn norm and energy of each image of the bank.

        Raises:
            MmoodError: the bank has fewer than k images, a value that is not finite, or no embedding to read.
        """
        bank = reference.bank(self.shots)
        _enough(bank, self.k, "NNGuide")
        scale = torch.cat(
            [
                self._energy(logits) * inverse_norms(rows)
                for _, rows, logits in bank_rows(reference, self.reads, "logits", shots=self.shots)
            ]
        )
        self.neighbours_ = Neighbours(stored(bank, self.reads), scale)
        return self

    def forward(self, embedded: Embedded) -> Scores:
        """Return energy times guidance."""
        queries = normalize(output(embedded, self.reads), dim=1)
        self.neighbours_ = fitted(self, self.neighbours_).to(queries.device)
        nearest = self.neighbours_.nearest(queries, self.k)
        return self._energy(embedded.logits) * nearest.mean(dim=1)

    def _energy(self, logits: Float[Tensor, "batch classes"]) -> Scores:
        return functional.energy(double(logits), self.temperature).float().to(logits.device)


def memory_left(device: torch.device) -> float:
    """Return how many bytes this process can still take on a device; of anything but a CUDA device, all it asks for."""
    if device.type != "cuda":
        return math.inf
    free, total = torch.cuda.mem_get_info(device)
    own = torch.cuda.memory_allocated(device)
    limit = torch.cuda.get_per_process_memory_fraction(device) * total
    return min(free + torch.cuda.memory_reserved(device) - own, limit - own)


def inverted_lists(bank: Neighbours) -> InvertedLists:
    """Return the bank for approximate search; the centroids are learned from rows spread evenly over it."""
    count, width = bank.rows.shape
    wanted = min(count, PER_LIST * lists_of(count))
    spread = torch.linspace(0, count - 1, wanted, dtype=torch.float64).round().long()
    sample = bank.rows[spread].float().cpu() * bank.scale[spread, None]
    starts = range(0, count, ROWS)
    chunks = (bank.rows[i : i + ROWS].float().cpu() * bank.scale[i : i + ROWS, None] for i in starts)
    return InvertedLists.of(count, width, sample, chunks)


def _enough(bank: Bank, k: int, name: str) -> None:
    if len(bank.keys) < k:
        raise MmoodError(f"{name}.k is {k}, but {set_name(bank)} has only {len(bank.keys)} images; choose a smaller k.")
