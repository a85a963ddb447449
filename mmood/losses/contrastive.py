"""The symmetric contrastive loss and the cross-modal alignment regulariser.

Throughout, `u_i` are B unit-norm image embeddings, `w_j` K unit-norm text embeddings, `s` the logit scale (1 /
temperature) and `S_ij = s u_i·w_j`. All of it is natural logarithms in the dtype of the embeddings: pass float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmood.errors import MmoodError


@dataclass(frozen=True)
class Pairs:
    """Which of K texts belongs to each of B images.

    Attributes:
        text: (B,) index of each image's own text.
        count: (K,) how often each text stands among the candidates of an image; None for once each. With the counts of
            a batch, K distinct texts give exactly the loss of B texts with repeats.
        image_class: (B,) class of each image, or None; with `text_class`, all pairs of one class are positives.
        text_class: (K,) class of each text, or None.
    """

    text: Int[Tensor, " images"]
    count: Int[Tensor, " texts"] | None = None
    image_class: Int[Tensor, " images"] | None = None
    text_class: Int[Tensor, " texts"] | None = None


def distinct_texts(ids: Int[Tensor, " images"]) -> tuple[Int[Tensor, " texts"], Pairs]:
    """Return the distinct ids, ascending, and the pairs with which their texts stand for all B of them.

    Equal texts have equal embeddings, so a text that comes m times adds `m exp(S_ij)` to the sum over texts: encoding
    it once and adding `log m` to its logit changes no value and no gradient.

    >>> texts, pairs = distinct_texts(torch.tensor([7, 3, 7]))
    >>> texts.tolist(), pairs.text.tolist(), pairs.count.tolist()
    ([3, 7], [1, 0, 1], [1, 2])
    """
    texts, index, count = torch.unique(ids, return_inverse=True, return_counts=True)
    return texts, Pairs(index, count)


def contrastive_loss(
    image: Float[Tensor, "images dim"],
    text: Float[Tensor, "texts dim"],
    scale: Float[Tensor, ""] | float,
    pairs: Pairs | None = None,
) -> Float[Tensor, ""]:
    """Return the symmetric contrastive loss `1/2 (CE_I + CE_T)` of CLIP (arXiv 2103.00020) and FLYP (arXiv 2212.00638).

    `CE_I = mean_i [LSE_j S_ij - S_ii]` and `CE_T = mean_i [LSE_j S_ji - S_ii]`. The targets are the diagonal although
    classes repeat in a batch, so the loss cannot fall below the mean log multiplicity. With classes in `pairs`, S_ii
    becomes the LSE over all pairs of the image's class (the log of the probability of *any* text of the class), which
    takes that floor away. Uniform targets over the same pairs would change nothing while a class has one text.

    >>> u = torch.eye(2)
    >>> round(contrastive_loss(u, u, 1.0).item(), 4)
    0.3133

    Args:
        image: (B, D) unit-norm image embeddings.
        text: (K, D) unit-norm text embeddings; K = B without `pairs`.
        scale: the logit scale, already exponentiated.
        pairs: which text belongs to which image; None for text i to image i.

    Raises:
        MmoodError: there are no `pairs` and the numbers of images and texts differ.
    """
    pairs = _checked(image, text, pairs)
    logits = scale * (image @ text.T)
    return (_evidence(logits, pairs) - _positives(logits, pairs)).mean()


def alignment_regulariser(
    image: Float[Tensor, "images dim"],
    text: Float[Tensor, "texts dim"],
    scale: Float[Tensor, ""] | float,
    pairs: Pairs | None = None,
) -> Float[Tensor, ""]:
    """Return the cross-modal alignment regulariser `1/2 (R_I + R_T)` of CMA (arXiv 2503.18817); it is negative.

    `R_I = mean_i [-LSE_j S_ij]` and `R_T = mean_i [-LSE_j S_ji]`, positives included. Up to a constant (see
    `log_partition`), R_I is the negative log-likelihood of the image embeddings under a mixture of von Mises-Fisher
    densities around the texts, for a fixed scale; docs/alignment.md derives it. Arguments and errors are those of
    `contrastive_loss`.

    >>> u = torch.eye(2)
    >>> round(alignment_regulariser(u, u, 1.0).item(), 4)
    -1.3133
    """
    pairs = _checked(image, text, pairs)
    return -_evidence(scale * (image @ text.T), pairs).mean()


def alignment_loss(
    image: Float[Tensor, "images dim"],
    text: Float[Tensor, "texts dim"],
    scale: Float[Tensor, ""],
    weight: float,
    pairs: Pairs | None = None,
    detach_scale: bool = False,
) -> Float[Tensor, ""]:
    """Return CMA's loss `1/2 (CE_I + λ R_I) + 1/2 (CE_T + λ R_T)` (arXiv 2503.18817).

    It equals `mean_i[-S_ii] + (1 - λ) 1/2 (mean_i LSE_j S_ij + mean_i LSE_j S_ji)`: InfoNCE whose repulsion is scaled
    by 1 - λ. λ = 0 is FLYP; λ = 1 attracts only, and collapses.

    >>> u, s = torch.eye(2), torch.tensor(1.0)
    >>> bool(alignment_loss(u, u, s, 0.0) == contrastive_loss(u, u, s))
    True

    Args:
        image: (B, D) unit-norm image embeddings.
        text: (K, D) unit-norm text embeddings; K = B without `pairs`.
        scale: the logit scale, already exponentiated.
        weight: λ.
        pairs: which text belongs to which image; None for text i to image i.
        detach_scale: stop the gradient to `scale` inside R. The likelihood that R stands for has a fixed scale; without
            the stop, R also pushes a learnt scale upwards.

    Raises:
        MmoodError: there are no `pairs` and the numbers of images and texts differ.
    """
    pairs = _checked(image, text, pairs)
    cosines = image @ text.T
    logits = scale * cosines
    evidence = _evidence(logits, pairs)
    regulariser = _evidence(scale.detach() * cosines, pairs) if detach_scale and weight else evidence
    return (evidence - _positives(logits, pairs) - weight * regulariser).mean()


def _checked(image: Tensor, text: Tensor, pairs: Pairs | None) -> Pairs:
    if pairs is not None:
        return pairs
    if len(image) != len(text):
        raise MmoodError(
            f"There are {len(image)} images and {len(text)} texts; give `pairs` to say which belong together."
        )
    return Pairs(torch.arange(len(image), device=image.device))


def _evidence(logits: Tensor, pairs: Pairs) -> Tensor:
    """Return (B,): the mean of the log-sum-exp over the texts of image i and over the images of its text."""
    return (_counted(logits, pairs).logsumexp(dim=1) + logits.logsumexp(dim=0)[pairs.text]) / 2


def _positives(logits: Tensor, pairs: Pairs) -> Tensor:
    """Return (B,): the logit of the own pair, or the mean over both sides of the LSE over all pairs of its class."""
    if pairs.image_class is None or pairs.text_class is None:
        return logits.gather(1, pairs.text[:, None]).squeeze(1)
    other = pairs.image_class[:, None] != pairs.text_class
    same = pairs.text_class[pairs.text]
    images = _counted(logits, pairs).masked_fill(other, -torch.inf).logsumexp(dim=1)
    # A text without an image of its class would have an empty sum; only the own texts of images are asked for.
    columns = logits[:, pairs.text].masked_fill(pairs.image_class[:, None] != same, -torch.inf)
    return (images + columns.logsumexp(dim=0)) / 2


def _counted(logits: Tensor, pairs: Pairs) -> Tensor:
    return logits if pairs.count is None else logits + pairs.count.to(logits.dtype).log()
