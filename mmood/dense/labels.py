"""What the numbers in a mask mean: ID classes, OoD, or nothing that counts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from mmood.errors import MmoodError

OOD, IGNORED = -1, -2
"""The targets of pixels that are OoD, and of pixels that count nowhere."""

MOST_CLASSES = 254
"""More ID classes than this do not fit into a byte beside `OOD` and `IGNORED`."""

_UNKNOWN = -3
_VALUES = 256


@dataclass(frozen=True)
class MaskLabels:
    """The labels of a set with masks.

    Attributes:
        names: the name of each label, in the order of the numbers in the masks.
        ood: labels whose pixels are OoD: never trained on, positive in a test.
        ignored: labels whose pixels count nowhere, such as void; these may also lie beyond the names, such as 255.
    """

    names: tuple[str, ...]
    ood: frozenset[int] = frozenset()
    ignored: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for key, labels, most in (
            ("data.ood_labels", self.ood, len(self.names) - 1),
            ("data.ignore_labels", self.ignored, _VALUES - 1),
        ):
            if wrong := sorted(label for label in labels if not 0 <= label <= most):
                raise MmoodError(f"`{key}` has {wrong[0]}; the labels of these masks are whole numbers in [0, {most}].")
        if both := sorted(self.ood & self.ignored):
            raise MmoodError(f"The label {both[0]} is in both `data.ood_labels` and `data.ignore_labels`.")
        if len(self.id_labels) > MOST_CLASSES:
            raise MmoodError(
                f"There are {len(self.id_labels)} ID classes of pixels; at most {MOST_CLASSES} are possible."
            )
        if not self.id_labels:
            raise MmoodError("No label is left as an ID class; check `data.ood_labels` and `data.ignore_labels`.")

    @functools.cached_property
    def id_labels(self) -> tuple[int, ...]:
        """The labels that are ID classes, ascending; class c is the label `id_labels[c]`."""
        return tuple(label for label in range(len(self.names)) if label not in self.ood | self.ignored)

    @property
    def id_names(self) -> tuple[str, ...]:
        """The names of the ID classes, in the order of the classes."""
        return tuple(self.names[label] for label in self.id_labels)

    @functools.cached_property
    def _targets(self) -> Int64[np.ndarray, " values"]:
        table = np.full(_VALUES, _UNKNOWN, dtype=np.int64)
        table[list(self.id_labels)] = np.arange(len(self.id_labels))
        table[list(self.ood)] = OOD
        table[list(self.ignored)] = IGNORED
        return table

    def targets(self, labels: Int64[np.ndarray, "height width"]) -> Int64[np.ndarray, "height width"]:
        """Return for every pixel its class in [0, C), `OOD` or `IGNORED`.

        Raises:
            MmoodError: a label has no name and is not ignored.
        """
        targets: Int64[np.ndarray, "height width"] = self._targets[labels]
        if (unknown := targets == _UNKNOWN).any():
            raise MmoodError(
                f"the mask has the label {labels[unknown][0]}, but there are {len(self.names)} names; add it to "
                "`data.label_names` or `data.ignore_labels`"
            )
        return targets


def mask_labels(names: Sequence[str], ood: Sequence[int], ignored: Sequence[int]) -> MaskLabels:
    """Return the labels from settings; MmoodError if they contradict each other."""
    return MaskLabels(tuple(names), frozenset(ood), frozenset(ignored))
