"""Linear heads on standardised features: the mathematics of probing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mmood.errors import MmoodError
from mmood.scores.base import Stored

ROWS = 8192
"""Rows of a store that are in memory as float32 at a time."""

EPSILON = 1e-6
"""Added to the variance: a constant feature then standardises to 0, where the reference code has 0 / 0."""


@dataclass(frozen=True)
class GridSettings:
    """Several heads trained in one run, one for each combination; the best on the ID validation set is the head.

    Attributes:
        lr: peak learning rates; None for the optimiser's own.
        weight_decay: weight decays; None for the optimiser's own.
        reads: kinds of rows, `features` and `embedding`; None for that of `model.reads` alone.
    """

    lr: list[float] | None = None
    weight_decay: list[float] | None = None
    reads: list[Stored] | None = None

    def __post_init__(self) -> None:
        if [] in (self.lr, self.weight_decay, self.reads):
            raise MmoodError("`model.grid` has an empty list; name at least one value, or leave the key out.")
        if self.reads is not None and len(set(self.reads)) < len(self.reads):
            raise MmoodError(f"`model.grid.reads` is {self.reads}; name each output once.")

    def options(self) -> list[dict[str, float]]:
        """Return what each head on one kind of rows changes in the optimiser's settings.

        >>> GridSettings(lr=[0.1, 0.01]).options()
        [{'lr': 0.1}, {'lr': 0.01}]
        """
        named = {"lr": self.lr, "weight_decay": self.weight_decay}
        given = {name: values for name, values in named.items() if values is not None}
        return [dict(zip(given, values, strict=True)) for values in product(*given.values())]


class ProbeHead(nn.Module):
    """K linear heads on z-scored rows of one kind: features before the projection, or embeddings.

    logits = W (x - mean) / sqrt(var + 1e-6) + b, with mean and variance per dimension over the training images
    ("embed_norm" of PLP, arXiv 2303.05828).

    Args:
        width: F.
        classes: C.
        heads: K.
        seed: of the heads' start, torch's default for a linear layer, the same for all K.
    """

    mean: Float[Tensor, " features"]
    scale: Float[Tensor, " features"]

    def __init__(self, width: int, classes: int, heads: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = nn.ModuleList([nn.Linear(width, classes)])
        for _ in range(heads - 1):
            self.heads.append(nn.Linear(width, classes))
            self.heads[-1].load_state_dict(self.heads[0].state_dict())

    def standardise(self, rows: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
        """Return the z-scores, float32."""
        return (rows.float() - self.mean) * self.scale

    def logits(self, rows: Float[Tensor, "rows features"], number: int = 0) -> Float[Tensor, "rows classes"]:
        """Return the logits of one head."""
        logits: Tensor = self.heads[number](self.standardise(rows))
        return logits

    def loss(self, rows: Float[Tensor, "rows features"], targets: Int[Tensor, " rows"]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy, summed over the heads: none has an influence on another's gradient."""
        inputs = self.standardise(rows)
        return torch.stack([functional.cross_entropy(head(inputs), targets) for head in self.heads]).sum()

    def folded(self, number: int = 0) -> tuple[Float[Tensor, "classes features"], Float[Tensor, " classes"]]:
        """Return weight and bias of one head on rows that are not standardised."""
        head = self.heads[number]
        assert isinstance(head, nn.Linear)
        weight = head.weight.detach() * self.scale
        return weight, head.bias.detach() - weight @ self.mean

    @torch.no_grad()
    def learn_statistics(self, images: Float[Tensor, "images features"], keys: Int[Tensor, " rows"]) -> None:
        """Take mean and variance (of the population) over these rows, in float64."""
        mean, var = mean_and_variance(images, keys)
        self.mean.copy_(mean)
        self.scale.copy_((var + EPSILON).rsqrt())

    @torch.no_grad()
    def right(
        self, images: Float[Tensor, "images features"], keys: Int[Tensor, " rows"], targets: Int[Tensor, " rows"]
    ) -> Int[Tensor, " heads"]:
        """Return on how many of these rows each head is right."""
        right = torch.zeros(len(self.heads), dtype=torch.int64)
        for positions in torch.split(torch.arange(len(keys)), ROWS):
            inputs = self.standardise(images[keys[positions]].to(self.mean.device))
            for number, head in enumerate(self.heads):
                right[number] += int((head(inputs).argmax(dim=1).cpu() == targets[positions]).sum())
        return right


def mean_and_variance(
    features: Float[Tensor, "images features"], keys: Int[Tensor, " rows"]
) -> tuple[Float[Tensor, " features"], Float[Tensor, " features"]]:
    """Return mean and population variance per dimension over some rows, float64, a chunk in memory at a time.

    >>> mean_and_variance(torch.tensor([[1.0], [3.0], [9.0]]), torch.tensor([0, 1]))
    (tensor([2.], dtype=torch.float64), tensor([1.], dtype=torch.float64))
    """
    mean = sum((rows.sum(dim=0) for rows in _chunks(features, keys)), torch.zeros(())) / len(keys)
    squares = ((rows - mean).square().sum(dim=0) for rows in _chunks(features, keys))
    return mean, sum(squares, torch.zeros(())) / len(keys)


def _chunks(features: Tensor, keys: Tensor) -> Iterator[Tensor]:
    for chunk in torch.split(keys, ROWS):
        yield features[chunk].double()
