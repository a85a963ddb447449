"""How scores read the ID bank: in float32 chunks, checked, with the logits of the module's head where asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeVar

from jaxtyping import Float
from torch import Tensor

from mmood.errors import MmoodError
from mmood.scores.base import AbstractScore, Bank, Embedded, LinearHead, Reference, Stored

Space = Literal["features", "embedding", "logits"]
Learned = TypeVar("Learned")

ROWS = 8192
"""Rows of the bank that are in memory as float32 at a time."""


def feature_head(reference: Reference) -> LinearHead:
    """Return the trained head on the features, on the CPU.

    Raises:
        MmoodError: the module has no head, or one that reads embeddings.
    """
    head = reference.head()
    if head is None:
        raise MmoodError(
            "This score needs a linear head on the features, but the module has none (its logits are cosines with "
            "text embeddings); use it with a probe."
        )
    if head.reads != "features":
        raise MmoodError(
            "This score needs a linear head on the features, but the module's head reads the embedding; train one "
            "with `reads: features`."
        )
    return _on_cpu(head)


def logit_head(reference: Reference) -> LinearHead:
    """Return what makes the module's logits, on the CPU: its trained head, or the text prototypes if it has none."""
    head = reference.head()
    if head is not None:
        return _on_cpu(head)
    prototypes = reference.prototypes
    return _on_cpu(LinearHead("embedding", prototypes, prototypes.new_zeros(len(prototypes))))


def _on_cpu(head: LinearHead) -> LinearHead:
    return LinearHead(head.reads, head.weight.detach().float().cpu(), head.bias.detach().float().cpu())


def output(embedded: Embedded, on: Space) -> Float[Tensor, "batch dim"]:
    """Return the output that a score works on.

    Raises:
        MmoodError: `on` is `embedding` and the encoder has none.
    """
    if on == "logits":
        return embedded.logits
    found = embedded.features if on == "features" else embedded.embedding
    return _present(found)


def stored(bank: Bank, on: Stored) -> Float[Tensor, "images dim"]:
    """Return the tensor of the bank that a score works on, as it is stored.

    Raises:
        MmoodError: `on` is `embedding` and the encoder has none.
    """
    return _present(bank.features if on == "features" else bank.embedding)


def bank_rows(
    reference: Reference, *spaces: Space, shots: int | None = None, transform: Literal["eval", "train"] = "eval"
) -> Iterator[tuple[Tensor, ...]]:
    """Yield (labels, rows of the first space, rows of the second, ...) of the ID bank, chunk by chunk, on the CPU.

    Labels are int64, rows float32; logits are made with `logit_head`.

    Args:
        reference: the ID side.
        spaces: what to read of each image.
        shots: images of each class; None for all.
        transform: `train` for images under the training transform.

    Raises:
        MmoodError: the bank is empty, a label is none of a class, a row holds a NaN or an infinite value, or there is
            no embedding to read.
    """
    bank = reference.bank(shots, transform)
    head = logit_head(reference) if "logits" in spaces else None
    on_disk: set[Stored] = {space for space in spaces if space != "logits"} | ({head.reads} if head else set())
    _check_labels(bank, len(reference.class_names))
    for start in range(0, len(bank.labels), ROWS):
        chunk = slice(start, start + ROWS)
        rows: dict[Space, Tensor] = {space: finite_rows(bank, space, chunk) for space in on_disk}
        if head is not None:
            rows["logits"] = head.logits(rows[head.reads])
        yield bank.labels[chunk].cpu(), *(rows[space] for space in spaces)


def finite_rows(bank: Bank, on: Stored, chunk: slice) -> Float[Tensor, "rows dim"]:
    """Return some rows of the bank in float32, on the CPU.

    Raises:
        MmoodError: a row holds a NaN or an infinite value; the message names set and key.
    """
    rows = stored(bank, on)[chunk].float().cpu()
    finite = rows.isfinite().all(dim=1)
    if not finite.all():
        key = int(bank.keys[chunk][int(finite.int().argmin())])
        raise MmoodError(
            f"The {on} of key {key} in {set_name(bank)} hold a NaN or an infinite value; "
            "encode this set again, with a wider number type if the values overflowed."
        )
    return rows


def set_name(bank: Bank) -> str:
    """Return how messages call the bank."""
    return f"the ID training set '{bank.identity['set']}'" if "set" in bank.identity else "the ID training set"


def fitted(owner: AbstractScore, learned: Learned | None) -> Learned:
    """Return what a score has learned.

    Raises:
        MmoodError: the score has not been fitted.
    """
    if learned is None:
        name = type(owner).__name__
        raise MmoodError(f"{name} is not fitted yet; call {name}.fit(reference) before scoring images.")
    return learned


def double(rows: Tensor) -> Tensor:
    """Return the rows in float64; from an Apple GPU, which has no float64, on the CPU."""
    return (rows.cpu() if rows.device.type == "mps" else rows).double()


def _present(found: Tensor | None) -> Tensor:
    if found is None:
        raise MmoodError("This encoder has no joint embedding (it is image-only); set the score's `reads` to features.")
    return found


def _check_labels(bank: Bank, classes: int) -> None:
    if len(bank.labels) == 0:
        raise MmoodError(f"There are no images in {set_name(bank)}, but this score learns from them.")
    low, high = int(bank.labels.min()), int(bank.labels.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise MmoodError(
            f"A label in {set_name(bank)} is {wrong}; with {classes} classes it must be in [0, {classes})."
        )
