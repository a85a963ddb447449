"""Which sets under evaluation are corrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mmood.data.catalog import ID_GROUPS, Member
from mmood.data.settings import DataPlan, ValSettings
from mmood.encoders.base import ImageTransform
from mmood.encoders.transforms import KeyedTransform, corrupted
from mmood.errors import MmoodError
from mmood.images.corruption import Corruption


class Corruptions:
    """The corruption of each set under evaluation.

    Args:
        corruption: of `data.corruption`; None for images as they are.
        members: returns the sets that are evaluated.

    Attributes:
        corruption: as given.
    """

    def __init__(self, corruption: Corruption | None, members: Callable[[], Iterable[Member]]) -> None:
        self.corruption = corruption
        self._members = members

    @property
    def label(self) -> str | None:
        """What results call the corruption; None where there is none."""
        return None if self.corruption is None else self.corruption.label()

    def of(self, name: str) -> Corruption | None:
        """Return the corruption of the set of this name; None where its images stay as they are."""
        if self.corruption is None:
            return None
        groups = {member.name: member.group for member in self._members()}
        return self.corruption.of_group(groups[name]) if name in groups else None

    def keyed(self, name: str, transform: ImageTransform) -> KeyedTransform | None:
        """Return what transforms the images of the set with its corruption; None where it has none."""
        corruption = self.of(name)
        return None if corruption is None else corrupted(transform, corruption)


def check_groups(corruption: Corruption | None, plan: DataPlan, val: ValSettings) -> None:
    """Raise MmoodError if a corruption is of groups that there are not."""
    known = {*ID_GROUPS, *(group for _, ood, _ in plan.tests() for group in ood), *(val.ood or {})}
    for group in (corruption and corruption.groups) or ():
        if group not in known:
            raise MmoodError(f"`data.corruption.groups` has '{group}'; the groups are {', '.join(sorted(known))}.")
