"""The results of several passes of an evaluation, each over other weights, as one."""

from __future__ import annotations

from collections.abc import Sequence

from mmood.evaluation.store import SetScores, joined_scores
from mmood.results.model import Results, joined_results


class Variants:
    """The passes of an evaluation.

    Args:
        names: how results call the weights of each pass, in order; none where there is one pass.

    Attributes:
        current: the name of the pass under way; None where passes have no names.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        self.current: str | None = None
        self._passes: dict[str | None, dict[str, tuple[Results, dict[str, SetScores]]]] = {}

    def begin(self, name: str) -> None:
        """Note that the pass of this name is next."""
        self.current = name

    @property
    def last(self) -> bool:
        """Whether this is the last pass."""
        return not self.names or self.current == self.names[-1]

    def joined(
        self, results: Results, found: dict[str, SetScores], benchmark: str | None = None
    ) -> tuple[Results, dict[str, SetScores]]:
        """Return the results of this pass together with those of the earlier ones; each benchmark for itself.

        The arrays of `found` have the name of the pass in theirs.
        """
        if self.current is None:
            return results, found
        name, passes = self.current, self._passes.setdefault(benchmark, {})
        passes[name] = results, found
        joined = {of: joined_scores([scores[of] for _, scores in passes.values()]) for of in found}
        if len(passes) == 1:
            return results, joined
        return joined_results({name: of_pass for name, (of_pass, _) in passes.items()}), joined
