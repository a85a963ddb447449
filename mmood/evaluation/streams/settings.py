"""What a stream of test images is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mmood.errors import MmoodError
from mmood.settings import check_choice, check_count
from mmood.settings.seeds import stream_seeds

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
            set begins again.
        seeds: of the order, the subsample and the scores' own generators; every stream runs once for each. None for
            three that follow from the run's (`--seed_everything`): 0, 1, 2 for 0, then 3, 4, 5 for 1.

    Raises:
        MmoodError: a value is impossible.
    """

    batch_size: int = 256
    order: Order = "shuffled"
    ratio: tuple[int, int] | None = None
    carry: bool = False
    seeds: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_count("`evaluation.stream.batch_size`", self.batch_size)
        check_choice("`evaluation.stream.order`", self.order, get_args(Order))
        for part in self.ratio or ():
            check_count(f"A part of `evaluation.stream.ratio` {list(self.ratio or ())}", part)
        for seed in self.drawn:
            check_count("A seed of `evaluation.stream.seeds`", seed, least=0)
        if not self.drawn or len(set(self.drawn)) < len(self.drawn):
            raise MmoodError(
                f"`evaluation.stream.seeds` is {list(self.drawn)}; give at least one seed, and each seed once."
            )

    @property
    def drawn(self) -> tuple[int, ...]:
        """The seeds, where none are set those of a run whose seed is 0."""
        return stream_seeds(0) if self.seeds is None else tuple(self.seeds)

    def as_dict(self) -> dict[str, object]:
        """Return the settings as plain data for `results.json`."""
        ratio = None if self.ratio is None else list(self.ratio)
        return {**vars(self), "ratio": ratio, "seeds": list(self.drawn)}


DEFAULT = StreamSettings()
