"""What a stream of test images is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mmood.errors import MmoodError

Order = Literal["shuffled", "id-first", "ood-first"]


@dataclass(frozen=True)
class StreamSettings:
    """How scores that learn from the test stream meet the images: the ID set and one OoD set at a time.

    Attributes:
        batch_size: images per step of a score.
        order: `shuffled` (ID and OoD mixed), `id-first` or `ood-first`; within ID and OoD the seed decides.
        ratio: parts of ID and of OoD, such as `[1, 100]`: both are subsampled by seed, as little as possible, so that
            it holds exactly; null for all images of both.
        carry: keep what a score learned from one OoD set to the next, in the order of the settings; by default every
            set begins anew.
        seeds: of the order, the subsample and the scores' own generators; every stream runs once for each.

    Raises:
        MmoodError: a value is impossible.
    """

    batch_size: int = 256
    order: Order = "shuffled"
    ratio: tuple[int, int] | None = None
    carry: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise MmoodError(f"`evaluation.stream.batch_size` is {self.batch_size}; it must be at least 1.")
        if self.order not in get_args(Order):
            raise MmoodError(
                f"`evaluation.stream.order` is '{self.order}'; it must be one of {', '.join(get_args(Order))}."
            )
        if self.ratio is not None and min(self.ratio) < 1:
            raise MmoodError(
                f"`evaluation.stream.ratio` is {list(self.ratio)}; it must be two whole numbers from 1, ID and OoD."
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise MmoodError(
                f"`evaluation.stream.seeds` is {list(self.seeds)}; it must be at least one seed, each from 0 and once."
            )

    def as_dict(self) -> dict[str, object]:
        """Return the settings as plain data for `results.json`."""
        ratio = None if self.ratio is None else list(self.ratio)
        return {**vars(self), "ratio": ratio, "seeds": list(self.seeds)}


DEFAULT = StreamSettings()
