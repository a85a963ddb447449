"""A softmax, with what several scores read of it: each part is computed once, when it is first asked for.

Tables of all classes are worked on in place where possible: fresh memory costs more time than the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.scores.stable import log1p, log_sigmoid

Rows = Float[Tensor, "*rows"]
Classes = Float[Tensor, "*rows classes"]


@final
@dataclass(frozen=True)
class Softmax:
    """p = softmax(z) over the last dimension.

    The largest p is kept apart from the others: its complement is summed, never subtracted from 1, and nothing
    underflows because of it. The others are taken relative to the second largest.

    Attributes:
        scaled: z.
    """

    scaled: Classes

    @classmethod
    def of(cls, logits: Classes, temperature: float = 1.0) -> Self:
        """Return the softmax of logits / T."""
        return cls(logits / temperature)

    @cached_property
    def log_odds(self) -> Rows:
        """The log-odds of the largest p: log p - log(1 - p); +inf with one class."""
        return self._largest - self._log_others

    @cached_property
    def log_sum_exp(self) -> Rows:
        """Log sum_c exp(z_c)."""
        return self._largest - log_sigmoid(self.log_odds)

    @cached_property
    def entropy(self) -> Rows:
        """-sum_c p_c log p_c, in nats."""
        odds = self.log_odds
        largest = -log_sigmoid(odds).exp() * log_sigmoid(odds)
        # log p_c = (z_c - second) + (second - LSE), neither above 0: nothing cancels. 0 * -inf would be NaN.
        below = torch.where(self._exponentials > 0, self._below_second, 0.0).mul_(self._exponentials)
        others = below.sum(dim=-1) + self._sum * self._second_log_p
        return largest - self._second_log_p.exp() * others

    def others(self) -> Classes:
        """Return p_c of all classes but the largest, in whose place stands 0; each at most 1/2."""
        return self._exponentials * self._second_log_p.exp().unsqueeze(-1)

    def log_others(self) -> Classes:
        """Return log p_c of all classes but the largest, in whose place stands -inf."""
        return self._below_second + self._second_log_p.unsqueeze(-1)

    @cached_property
    def _top(self) -> tuple[Tensor, Tensor]:
        largest, where = self.scaled.max(dim=-1, keepdim=True)
        return largest, where

    @property
    def _largest(self) -> Rows:
        return self._top[0].squeeze(-1)

    @cached_property
    def _without_largest(self) -> tuple[Rows, Classes]:
        """The second largest z, and all but the largest relative to it; in place of the largest stands -inf."""
        others = self.scaled.scatter(-1, self._top[1], -torch.inf)
        # A constant that cancels, so no gradient needs it. Finite, so that classes at -inf stay there relative to it.
        second = others.detach().amax(dim=-1).clamp_min(torch.finfo(self.scaled.dtype).min)
        return second, others.sub_(second.unsqueeze(-1))

    @property
    def _second(self) -> Rows:
        return self._without_largest[0]

    @property
    def _below_second(self) -> Classes:
        return self._without_largest[1]

    @cached_property
    def _exponentials(self) -> Classes:
        return self._below_second.exp()

    @cached_property
    def _sum(self) -> Rows:
        return self._exponentials.sum(dim=-1)

    @cached_property
    def _log_others(self) -> Rows:
        return self._second + self._sum.log()

    @cached_property
    def _second_log_p(self) -> Rows:
        return self._second - self.log_sum_exp


def binary_log_products(softmax: Softmax, top: int | None) -> tuple[Rows, Classes]:
    """Return log p (1 - p) of the largest p, and of the `top` - 1 largest others (all for None).

    >>> largest, others = binary_log_products(Softmax(torch.zeros(1, 2)), None)
    >>> largest.exp(), others.exp()
    (tensor([0.2500]), tensor([[0.0000, 0.2500]]))
    """
    odds, log_p = softmax.log_odds, softmax.log_others()
    if top is None or top >= log_p.shape[-1]:
        p = softmax.others()
    else:
        log_p = log_p.topk(top - 1, dim=-1).values
        p = log_p.exp()
    # The gradient of the exponential needs p itself.
    return log_sigmoid(odds) + log_sigmoid(-odds), log_p + log1p(-p)
