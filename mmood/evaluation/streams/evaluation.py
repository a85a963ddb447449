"""All streams of an evaluation: spread over the ranks, measured where they ran, the same rows on every rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from jaxtyping import Int64

from mmood.errors import MmoodError
from mmood.evaluation.streams.order import StreamOrder, stream_order, subsample
from mmood.evaluation.streams.purity import SIDES, purity
from mmood.evaluation.streams.runner import StreamName, StreamScores, check_complete, run_stream
from mmood.evaluation.streams.settings import StreamSettings
from mmood.evaluation.streams.source import StreamSource
from mmood.metrics.functional import OoDMetrics, ood_metrics
from mmood.metrics.gather import gathered_objects
from mmood.output.console import Bar, progress_bar
from mmood.scores.test_time.base import AnyStreamScore
from mmood.shards.index import Keys


@dataclass(frozen=True)
class StreamSet:
    """An OoD set beside the ID set.

    Attributes:
        name: of the OoD set.
        group: of the OoD set.
        source: of the images of both.
        keys: of the ID and of the OoD images under evaluation.
        id_label: class of the ID image with each key, for the files alone.
    """

    name: str
    group: str
    source: StreamSource
    keys: tuple[Keys, Keys]
    id_label: Int64[np.ndarray, " id"]

    def sizes(self, settings: StreamSettings) -> tuple[int, int]:
        """Return the numbers of ID and of OoD images in a stream."""
        return subsample(len(self.keys[0]), len(self.keys[1]), settings.ratio)


@dataclass(frozen=True)
class StreamResult:
    """What is reported of one stream.

    Attributes:
        name: score, set and seed.
        group: of the set.
        metrics: of its ID images against its OoD images.
        counts: what the score says of its gates and memory at the end.
        purity: which share of the images in the memory is what it is taken for.
    """

    name: StreamName
    group: str
    metrics: OoDMetrics
    counts: Mapping[str, int]
    purity: Mapping[str, Mapping[str, int | float | None]]

    def as_dict(self) -> dict[str, object]:
        """Return counts and purity as plain data for `results.json`."""
        return {**asdict(self.name), "counts": dict(self.counts), "purity": {**self.purity}}


@dataclass(frozen=True)
class StreamRuns:
    """The streams of an evaluation.

    Attributes:
        scores: name -> fitted score.
        sets: the OoD sets in their order.
        settings: of the streams.
        keep: told the scores of every stream, on the rank that ran it.
    """

    scores: Mapping[str, AnyStreamScore]
    sets: Sequence[StreamSet]
    settings: StreamSettings
    keep: Callable[[StreamScores, StreamSet], object]

    def evaluate(self, rank: int, world: int, quiet: bool) -> list[StreamResult]:
        """Return the results of every stream, in the order score, set, seed; every rank must call this.

        Raises:
            MmoodError: a stream fails, on whichever rank.
        """
        own, fault = [], None
        own_units = self._units()[rank::world]
        images = sum(sum(entry.sizes(self.settings)) for _, _, sets in own_units for entry in sets)
        share = f" (rank 0 of {world})" if world > 1 else ""
        with progress_bar(f"streams{share}", images, quiet or rank > 0) as bar:
            try:
                for score, seed, sets in own_units:
                    own += self._run(score, seed, sets, bar)
            except MmoodError as error:
                # The other ranks wait in the gather below: all of them end with the same sentence.
                fault = str(error)
        gathered = gathered_objects([(own, fault)])
        if faults := [sentence for _, sentence in gathered if sentence is not None]:
            raise MmoodError(faults[0])
        results = [result for of_rank, _ in gathered for result in of_rank]
        scores, names = list(self.scores), [entry.name for entry in self.sets]
        return sorted(results, key=lambda r: (scores.index(r.name.score), names.index(r.name.set), r.name.seed))

    def _units(self) -> list[tuple[str, int, Sequence[StreamSet]]]:
        """Return what can run apart from one another: single streams, or all sets of a seed where memory is carried."""
        chains = [self.sets] if self.settings.carry else [[entry] for entry in self.sets]
        return [(score, seed, chain) for score in self.scores for seed in self.settings.drawn for chain in chains]

    def _run(self, name: str, seed: int, sets: Sequence[StreamSet], bar: Bar) -> list[StreamResult]:
        score = self.scores[name]
        score.reset(seed)
        results = []
        seen = [np.empty(0, dtype=np.bool_)]
        for entry in sets:
            stream, order = StreamName(name, entry.name, seed), self._order(entry, seed)
            done = partial(bar.advance, title=f"stream {stream}")
            scores = run_stream(score, stream, entry.source, order, self.settings.batch_size, done)
            check_complete(stream, scores.order, entry.sizes(self.settings))
            self.keep(scores, entry)
            seen.append(order.ood)
            members = score.members()
            found = purity({side: members[side].cpu().numpy() for side in SIDES}, np.concatenate(seen))
            metrics = ood_metrics(scores.of(ood=False), scores.of(ood=True))
            results.append(StreamResult(stream, entry.group, metrics, score.counts(), found))
        return results

    def _order(self, entry: StreamSet, seed: int) -> StreamOrder:
        return stream_order(*entry.keys, seed, self.settings.order, self.settings.ratio)
