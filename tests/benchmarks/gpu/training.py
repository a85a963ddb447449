"""A CMA step of ViT-B/16 in bf16: against the card's matrix rate, and against a loop by hand on open_clip."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench_alignment import build, loop_by_hand, noise, settings, stepper
from torch.utils.flop_counter import FlopCounterMode

from gpu.clock import in_turn, peak_gib, shares
from mmood.modules.fine_tuning.alignment import AlignmentFineTune


@dataclass(frozen=True)
class Size:
    """Images of a batch, ID classes, images of a chunk, and whether to compile where that is measured."""

    batch: int = 512
    classes: int = 1000
    chunk: int = 128
    compiled: bool = True


TINY = Size(4, 5, 2, compiled=False)


def measure(size: Size) -> dict[str, object]:
    """Return seconds, operations, peak memory and what the time goes to, for each form of the step."""
    classes = [f"thing {number}" for number in range(size.classes)]
    with tempfile.TemporaryDirectory() as folder:
        encoder = settings(Path(folder) / "clip")
        forms: dict[str, Callable[[], AlignmentFineTune]] = {
            "pairs": lambda: build(encoder, classes),
            "distinct": lambda: build(encoder, classes, "distinct"),
            "chunks": lambda: build(encoder, classes, "distinct", size.chunk),
            "compiled": lambda: build(encoder, classes, "pairs", compiled=size.compiled),
        }
        peaks = {name: _peak(make, size) for name, make in forms.items()}
        modules = {name: make() for name, make in forms.items()}
        batch = noise(size.batch, size.classes, modules["pairs"])
        steps = {name: stepper(module, batch) for name, module in modules.items()}
        peaks["by_hand"] = _peak(lambda: build(encoder, classes), size, by_hand=classes)
        steps["by_hand"] = loop_by_hand(build(encoder, classes), batch, classes)
        operations = {name: _operations(steps[name]) for name in steps if name != "compiled"}
        # What is compiled is counted wrongly, and does what `pairs` does.
        operations["compiled"] = operations["pairs"]
        return {
            "batch": size.batch,
            "classes": size.classes,
            "chunk": size.chunk,
            "texts": len(batch["label"].unique()),
            "seconds": in_turn(steps),
            "operations": operations,
            "peak_gib": peaks,
            "shares": {name: shares(steps[name]) for name in steps},
        }


def _operations(step: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def _peak(make: Callable[[], AlignmentFineTune], size: Size, by_hand: list[str] | None = None) -> float:
    """Return what the second step takes, all but the weights: gradients, states of the optimiser, activations."""
    module = make()
    batch = noise(size.batch, size.classes, module)
    step = stepper(module, batch) if by_hand is None else loop_by_hand(module, batch, by_hand)

    def steps() -> None:
        step()
        step()

    return peak_gib(steps)


NAMES = {
    "by_hand": "a loop by hand on open_clip, a text for each image",
    "pairs": "mmood, `texts: pairs` (a text for each image)",
    "distinct": "mmood, `texts: distinct`, as in vitb16_align.yaml",
    "compiled": "mmood, `texts: pairs`, `execution.compile`",
    "chunks": "mmood, `texts: distinct`, `execution.chunk`",
}


def lines(found: dict, ceilings: dict) -> list[str]:
    """Return the section."""
    taken, operations = found["seconds"], found["operations"]
    share = {name: operations[name] / taken[name] / ceilings["bf16"] for name in NAMES}
    rows = [
        f"| {meaning} | {found['batch'] / taken[name]:,.0f} | {1000 * taken[name]:,.0f} ms | "
        f"{taken[name] / taken['by_hand']:.3f} | {operations[name] / 1e12:,.1f} TFLOP | {share[name]:.0%} | "
        f"{found['peak_gib'][name]:.1f} GiB |"
        for name, meaning in NAMES.items()
    ]
    return [
        "## Training: a step of CMA",
        "",
        f"Both towers of ViT-B/16 with random weights, {found['batch']} images of 224 pixels, {found['texts']} of "
        f"{found['classes']} classes among them, bf16-mixed, AdamW; chunks of {found['chunk']}. Medians of five steps "
        "in turn; memory is that of gradients, optimiser and activations, without the weights.",
        "",
        "| step | images/s | time | of the loop's | work | share of the bf16 rate | peak memory |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *rows,
        "",
        "Where the time goes:",
        "",
        *_spent(found["shares"]),
        "",
        "The bound is not the matrix rate: most of a step is what stands between the products (norms, activations, "
        "residuals, casts to bf16 and back), which moves whole activations through the card's memory. The loop by "
        "hand does the same, and encodes the padding of each text besides. `execution.compile` fuses a part of it.",
    ]


def _spent(shares: dict[str, dict[str, float]]) -> list[str]:
    """Return a table of what the device does in a step."""
    kinds = list(next(iter(shares.values())))
    rows = [
        f"| {NAMES[name]} | " + " | ".join(f"{share:.0%}" for share in shares[name].values()) + " |" for name in NAMES
    ]
    return [f"| step | {' | '.join(kinds)} |", "|---|" + "--:|" * len(kinds), *rows]
