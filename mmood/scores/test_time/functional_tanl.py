"""TANL as pure functions: activation of words, their ranking, the score over all leading words, Otsu's threshold.

B images, C ID names, M words. Logits are cosines divided by the temperature, ID names first.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from mmood.scores.functional_negatives import grouped_log_odds

Scores = Float[Tensor, " batch"]
Over = Literal["all", "words"]


def activations(logits: Float[Tensor, "batch texts"], classes: int, over: Over = "all") -> Float[Tensor, "batch words"]:
    """Return how strongly each image activates each word: its softmax probability.

    Args:
        logits: (B, C + M).
        classes: C.
        over: the softmax runs over `all` texts, or over the `words` alone.

    >>> activations(torch.tensor([[0.0, 0.0, 0.0, 0.0]]), classes=2)
    tensor([[0.2500, 0.2500]])
    """
    if over == "words":
        return logits[:, classes:].softmax(-1)
    return logits.softmax(-1)[:, classes:]


def mixed_activation(
    queue: Float[Tensor, " words"] | None, batch: Float[Tensor, "new words"], alpha: float = 0.95
) -> Float[Tensor, " words"]:
    """Return alpha times the mean of the queue plus 1 - alpha times that of the batch; of the other if one is empty.

    Both empty, it is zero.

    Args:
        queue: mean activation of the images in it; None if it is empty.
        batch: activations.
        alpha: weight of the queue.

    >>> mixed_activation(torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 1.0]]), alpha=0.75)
    tensor([0.7500, 0.2500])
    """
    if queue is None:
        return batch.mean(0) if len(batch) else batch.new_zeros(batch.shape[1])
    return alpha * queue + (1 - alpha) * batch.mean(0) if len(batch) else queue


def pushed(queue: Shaped[Tensor, "kept ..."], new: Shaped[Tensor, "new ..."], length: int) -> Shaped[Tensor, "now ..."]:
    """Return a queue of at most `length` rows with new ones behind, the oldest dropped.

    >>> pushed(torch.tensor([1, 2, 3]), torch.tensor([4, 5]), length=4)
    tensor([2, 3, 4, 5])
    """
    stay = min(len(queue), max(0, length - len(new)))
    return torch.cat([queue[len(queue) - stay :], new[-length:]])


def ranking(difference: Float[Tensor, " words"], count: int) -> Int64[Tensor, " leading"]:
    """Return the `count` words with the largest Act_OoD - Act_ID, largest first; of equal ones the earlier first.

    >>> ranking(torch.tensor([0.1, 0.3, 0.1]), count=2)
    tensor([1, 0])
    """
    return difference.sort(descending=True, stable=True).indices[:count]


def tanl_log_odds(
    positive: Float[Tensor, "batch classes"], ranked: Float[Tensor, "batch leading"], step: int = 1
) -> Scores:
    """Return log S - log(1 - S) of TANL's S (arXiv 2603.25250).

    S is the mean over m = step, 2 step, ... of P / (P + N(m)), with P the sum of exp over the ID names and N(m) that
    over the first m words. As P / (P + N(m)) is the sigmoid of a difference of log-sum-exps, one cumulative
    log-sum-exp gives all m.

    Args:
        positive: (B, C) logits of the ID names.
        ranked: (B, m) logits of the leading words in their order.
        step: difference between consecutive m; 0 for all leading words together, which is NegLabel's score on them.

    >>> tanl_log_odds(torch.zeros(1, 1), torch.zeros(1, 1))
    tensor([0.])
    """
    names = positive.logsumexp(-1)
    if step == 0:
        return names - ranked.logsumexp(-1)
    return grouped_log_odds(names, ranked.logcumsumexp(-1)[:, step - 1 :: step])


def tanl(positive: Float[Tensor, "batch classes"], ranked: Float[Tensor, "batch leading"], step: int = 1) -> Scores:
    """Return TANL's S itself, in [0, 1]; the arguments are those of `tanl_log_odds`.

    >>> tanl(torch.zeros(1, 1), torch.zeros(1, 2))
    tensor([0.4167])
    """
    return tanl_log_odds(positive, ranked, step).sigmoid()
