"""What a detector says of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "broken"]


@dataclass(frozen=True)
class Decision:
    """The decision on one image; all but status and reason are None for an image that cannot be read.

    Attributes:
        status: `ok`, or `broken` for an image that cannot be decoded or scored: that is no sign of OoD.
        accepted: whether the image is taken for one of the ID classes.
        score: higher = more in-distribution.
        p_value: (1 + #{calibration scores <= score}) / (n + 1); the image is accepted above 1 - `id_recall`.
        class_name: the ID class with the largest logit, also where the image is rejected.
        probability: of that class among the ID classes; None where one class leaves nothing to compare.
        negative_label: the negative label nearest to the image; None for a score without any.
        reason: why an image is broken.
    """

    status: Status = "ok"
    accepted: bool | None = None
    score: float | None = None
    p_value: float | None = None
    class_name: str | None = None
    probability: float | None = None
    negative_label: str | None = None
    reason: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the fields as plain data, in the order of a row; `class` is what Python keeps for itself."""
        return {("class" if name == "class_name" else name): value for name, value in vars(self).items()}


FIELDS: tuple[str, ...] = tuple(Decision().as_dict())
"""The columns of a row, in order."""
