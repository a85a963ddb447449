"""The heads of ALPA (MODE, arXiv 2308.10239): queries, keys and values of each position of a map."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

_HIDDEN = 512
KEYS = 80
"""Width of queries, keys and values."""


class Projector(nn.Module):
    """A bias-free MLP for each position: W_2 relu(W_1 x), F -> 512 -> 80.

    Args:
        width: F.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, _HIDDEN, bias=False)
        self.second = nn.Linear(_HIDDEN, KEYS, bias=False)

    def forward(self, positions: Float[Tensor, "batch positions features"]) -> Float[Tensor, "batch positions dim"]:
        """Return (B, P, 80)."""
        projected: Tensor = self.second(self.first(positions).relu())
        return projected


class Projectors(nn.Module):
    """The heads of ALPA: queries, keys and values of each position.

    Args:
        width: F.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = Projector(width), Projector(width), Projector(width)

    def forward(self, positions: Float[Tensor, "batch positions features"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (B, P, 80) in float32."""
        return self.query(positions).float(), self.key(positions).float(), self.value(positions).float()
