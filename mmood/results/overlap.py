"""What a run found out about test images that are ID or training images, in words."""

from __future__ import annotations

from collections.abc import Mapping

from mmood.results.model import Results


def overlap_sentences(results: Results) -> list[str]:
    """Return a sentence for each set with copies of ID images, and for each that could not be compared."""
    copies = [
        f"{one.copies:,} of {one.n:,} images of {one.set} are in {one.id_set}: "
        + ("the model was trained on them." if one.trained_on else "counting them as OoD is wrong.")
        for one in results.overlap
        if one.copies
    ]
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in results.overlap:
        if one.reason is not None:
            reasons.setdefault((one.id_set, one.reason), []).append(one.set)
    unknown = [
        f"It is unknown whether {', '.join(sets)} contain images of {id_set}: {reason}"
        for (id_set, reason), sets in reasons.items()
    ]
    return [*copies, *unknown]


def run_overlaps(runs: Mapping[str, Results]) -> list[str]:
    """Return the sentences of several runs by name, each said once, with the runs that it holds for."""
    names: dict[str, list[str]] = {}
    for name, results in runs.items():
        for sentence in overlap_sentences(results):
            names.setdefault(sentence, []).append(name)
    return [f"{', '.join(own)}. {sentence}" for sentence, own in names.items()]
