"""Measure everything, and write the page from what was measured: `make gpu`.

PYTHONPATH=tests/benchmarks python -m gpu [--page docs/gpu.md] [--json gpu.json] [--only NAME ...]
PYTHONPATH=tests/benchmarks python -m gpu --from gpu.json    the page again, from numbers that are there
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from gpu import ceilings, collectives, embedding, negatives, neighbours, precision, streams, training
from gpu.page import page, surroundings

# A new measurement is a module and a line here, and its section a line in `page`.
MODULES = {
    "ceilings": ceilings,
    "training": training,
    "embedding": embedding,
    "neighbours": neighbours,
    "negatives": negatives,
    "streams": streams,
    "precision": precision,
    "collectives": collectives,
}


def measured(sizes: dict[str, object]) -> dict[str, object]:
    """Return what the named measurements find in these sizes, with the machine they ran on."""
    found: dict[str, object] = {"surroundings": surroundings()}
    for name, size in sizes.items():
        start = time.perf_counter()
        found[name] = MODULES[name].measure(size)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return found


def main() -> int:
    """Run the measurements and write the page; without a GPU say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=Path("docs/gpu.md"))
    parser.add_argument("--json", type=Path, help="keep the numbers here")
    parser.add_argument("--from", type=Path, dest="earlier", help="take the numbers from here")
    parser.add_argument("--only", nargs="+", choices=list(MODULES), default=list(MODULES))
    options = parser.parse_args()
    if options.earlier is None and not torch.cuda.is_available():
        print("There is no CUDA device here; docs/gpu.md stays as it is.")
        return 0
    earlier = json.loads(options.earlier.read_text()) if options.earlier else {}
    found = earlier or measured({name: MODULES[name].Size() for name in options.only})
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    if set(MODULES) <= set(found):
        options.page.write_text(page(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
