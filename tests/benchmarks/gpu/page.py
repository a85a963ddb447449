"""The page, made from the numbers alone."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime

import lightning
import open_clip
import torch

import mmood
from gpu import ceilings, collectives, embedding, negatives, neighbours, precision, streams, training


def surroundings() -> dict[str, object]:
    """Return card, machine, versions and date."""
    card = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "card": card.name if card else "no GPU",
        "card_gib": card.total_memory / 2**30 if card else 0,
        "cards": torch.cuda.device_count(),
        "cores": len(os.sched_getaffinity(0)),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            "mmood": mmood.__version__,
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "open_clip": open_clip.__version__,
            "python": platform.python_version(),
        },
    }


def page(found: dict) -> str:
    """Return the page as Markdown."""
    around, limits = found["surroundings"], found["ceilings"]
    versions = ", ".join(f"{name} {version}" for name, version in around["versions"].items())
    head = [
        "# On a GPU",
        "",
        f"Measured on {around['date']} on {around['cards']} x {around['card']} ({around['card_gib']:.0f} GiB) with "
        f"{around['cores']} CPU cores; {versions}. `make gpu` measures all of it again and writes this page; it first "
        "runs the tests that need a GPU.",
    ]
    sections = [
        ceilings.lines(limits),
        training.lines(found["training"], limits),
        embedding.lines(found["embedding"]),
        neighbours.lines(found["neighbours"], limits),
        negatives.lines(found["negatives"], limits),
        streams.lines(found["streams"]),
        precision.lines(found["precision"]),
        collectives.lines(found["collectives"]),
    ]
    return "\n".join([*head, *("\n".join(["", *section]) for section in sections), ""])
