"""The protocol of test-time adaptive scores in words, and what their memories held, as a run recorded it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmood.results.blocks import label
from mmood.results.model import Results

_ORDERS = {"shuffled": "ID and OoD shuffled", "id-first": "all ID images first", "ood-first": "all OoD images first"}


@dataclass(frozen=True)
class StreamLine:
    """What a score's memory held at the end of the streams of a set, in the mean over seeds.

    Attributes:
        score: label of the score.
        set: the OoD set.
        counts: gate or memory -> mean number of images.
        purity: side (`id`, `ood`) -> mean number kept, and mean share of them that is what it is taken for; None if
            a memory is empty.
    """

    score: str
    set: str
    counts: Mapping[str, float]
    purity: Mapping[str, tuple[float, float | None]]


def protocol_sentences(results: Results) -> list[str]:
    """Return what the test-time adaptive scores of a run saw, in words; nothing for a run without them."""
    if not any(row.protocol == "test_time" for row in results.rows):
        return []
    protocol = _mapping(_mapping(results.provenance.get("streams")).get("protocol"))
    if not protocol:
        return ["Test-time adaptive scores learn from the test images that they score; their protocol is not recorded."]
    kept = "is carried from set to set" if protocol.get("carry") else "is reset before each set"
    order = _ORDERS.get(str(protocol.get("order")), str(protocol.get("order")))
    updates = _mapping(protocol.get("update"))
    learns = [
        f"{', '.join(names)} learn{'s' * (len(names) == 1)} from a batch {when} scoring it."
        for when in ("before", "after")
        if (names := [name for name, value in updates.items() if value == when])
    ]
    images = f"{order}, {_ratio(protocol.get('ratio'))}, batches of {protocol.get('batch_size')}"
    sentences = [
        "Test-time adaptive scores learn from the unlabelled images that they score: each OoD set in one stream with "
        f"the ID images, {images}; the state {kept}.",
        *learns,
        f"± is the sample standard deviation over the seeds of the stream: {_listed(protocol.get('seeds'))}.",
    ]
    return [" ".join(sentences)]


def run_protocols(runs: Mapping[str, Results]) -> list[str]:
    """Return the protocols of several runs by name, each said once, with the runs that it holds for."""
    names: dict[str, list[str]] = {}
    for name, results in runs.items():
        for sentence in protocol_sentences(results):
            names.setdefault(sentence, []).append(name)
    return [f"{', '.join(own)}. {sentence}" for sentence, own in names.items()]


def stream_lines(results: Results) -> list[StreamLine]:
    """Return counts and purity of the memories of a run, for each score and set."""
    runs: dict[tuple[str, str], list[Mapping[str, object]]] = {}
    recorded = _mapping(results.provenance.get("streams")).get("runs")
    for entry in map(_mapping, recorded if isinstance(recorded, list) else []):
        variant = entry.get("variant")
        name = label(str(entry.get("score")), variant if isinstance(variant, str) else None)
        runs.setdefault((name, str(entry.get("set"))), []).append(entry)
    return [
        StreamLine(score, of, _counts(own), {side: _purity(own, side) for side in ("id", "ood")})
        for (score, of), own in runs.items()
    ]


def _counts(runs: Sequence[Mapping[str, object]]) -> dict[str, float]:
    counts = [_mapping(run.get("counts")) for run in runs]
    return {name: _mean([_number(each.get(name)) for each in counts]) or 0.0 for name in counts[0]}


def _purity(runs: Sequence[Mapping[str, object]], side: str) -> tuple[float, float | None]:
    found = [_mapping(_mapping(run.get("purity")).get(side)) for run in runs]
    return _mean([_number(each.get("kept")) for each in found]) or 0.0, _mean(
        [_number(each.get("pure")) for each in found]
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _ratio(ratio: object) -> str:
    return f"ID:OoD {':'.join(map(str, ratio))}" if isinstance(ratio, list) else "all images of both"


def _listed(values: object) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) else "not recorded"


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
