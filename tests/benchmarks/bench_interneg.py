"""What InterNeg's step does outside the text tower, and what batches save: `tests/benchmarks/bench_interneg.py`.

Text tower of ViT-B/16 (12 layers, 512 wide) with random weights, 1,000 ID names, 2,000 negatives, a batch of 256 images
of which 32 are inverted; more would only raise the tower's share. The step is repeated with a stand-in for the tower
that costs almost nothing: its time is the time outside the tower. The single form inverts one image at a time, the whole
form passes each text from its beginning, the uncut form keeps the padding, too; these on fewer images. Sides take turns in one run, medians count, by CPU time
without a GPU. `--cuda` runs on a GPU; `--small` leaves out the read-out `mean`, and compares the forms on two images.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from open_clip import CLIP
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmood.encoders.prompts import load_templates
from mmood.encoders.shared_beginnings import Begun, Endings
from mmood.encoders.texts import begin_frozen, cut, encode_frozen, end_frozen
from mmood.scores import InterNeg
from mmood.scores.base import Embedded
from mmood.scores.test_time.interneg import Fitted
from mmood.scores.test_time.inversion import Inversion, Prompts, invert, read_prompts
from mmood.scores.text_tower import Tokens

CLASSES, NEGATIVES, BATCH, GATED, DIM, ROUNDS = 1000, 2000, 256, 32, 512, 3
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
VISION = {"image_size": 32, "layers": 1, "width": 64, "head_width": 64, "patch_size": 16}


class Tower:
    """What InterNeg asks of a reference once it is fitted."""

    def __init__(self, device: torch.device, cut: bool = True) -> None:
        from open_clip import get_tokenizer

        torch.manual_seed(0)
        self.model: nn.Module = CLIP(DIM, VISION, TEXT).eval().to(device)
        self.tokenizer, self.device, self.cut = get_tokenizer("ViT-B-16"), device, cut

    def tokens(self, texts: list[str]) -> Tokens:
        ids = self.tokenizer(texts).to(self.device)
        ids = cut(self.model, ids) if self.cut else ids
        return Tokens(ids, self.model.token_embedding(ids).detach())

    def encode_tokens(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        return normalize(encode_frozen(self.model, embeddings, ids), dim=-1)

    def begin(self, beginnings: Tensor, lengths: Tensor) -> Begun | None:
        with torch.no_grad():
            return begin_frozen(self.model, beginnings, lengths) if self.cut else None

    def encode_endings(self, begun: Begun, endings: Endings) -> Tensor:
        return normalize(end_frozen(self.model, begun, endings), dim=-1)


def unit(rows: int, device: torch.device, seed: int) -> Tensor:
    return normalize(torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed)), dim=-1).to(device)


class NoTower(Tower):
    """Stands in for the tower at almost no cost: what is left of a step is what the tower does not take."""

    def encode_endings(self, begun: Begun, endings: Endings) -> Tensor:
        return normalize(endings.embeddings.mean(dim=1), dim=-1)


def fitted(tower: Tower, settings: Inversion) -> InterNeg:
    """Return a score that knows random embeddings in place of a list."""
    score = InterNeg(inversion=settings)
    positive, negative = unit(CLASSES, tower.device, 1), unit(NEGATIVES, tower.device, 2)
    prompts = read_prompts(tower, settings.templates)  # type: ignore[arg-type]
    # Proxies equal to the names: b = 1, and every inversion is admissible, so the bank fills as fast as it can.
    score.fitted_ = Fitted(positive, positive, negative, prompts, tower)  # type: ignore[arg-type]
    score.reset()
    return score


def now(device: torch.device) -> float:
    """Return seconds on the clock: of the processor, unless a GPU works."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def medians(calls: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = now(device)
            call()
            times[name].append(now(device) - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    device = torch.device("cuda" if "--cuda" in sys.argv else "cpu")
    torch.set_num_threads(1)
    small = "--small" in sys.argv
    tower, few, rounds = (Tower(device), 2, 2) if small else (Tower(device), 8, ROUNDS)
    print(f"templates: {len(load_templates('openai-80'))}, device: {device}")
    batch = unit(BATCH, device, 3)
    embedded = Embedded(torch.empty(BATCH, 0), torch.empty(BATCH, CLASSES), batch)
    for read_out in ("last",) if small else ("last", "mean"):
        settings = Inversion(read_out=read_out, chunk=256 if device.type == "cuda" else 64)  # type: ignore[arg-type]
        scores = {name: fitted(which, settings) for name, which in {"step": tower, "outside": NoTower(device)}.items()}
        for score in scores.values():
            score.beta = float(score(embedded).sort().values[GATED - 1].sigmoid()) + 1e-6
        times = medians(
            {name: lambda s=score: (s.reset(), s.step(embedded)) for name, score in scores.items()},
            1 if small or read_out == "mean" else rounds,
            device,
        )
        print(
            f"read_out {read_out}: a step of {BATCH} images takes {times['step']:.2f} s, of which "
            f"{times['outside'] / times['step']:.2%} outside the tower; {scores['step'].counts()}",
            flush=True,
        )
    settings = Inversion(read_out="last")
    long = Tower(device, cut=False)
    short_prompts, long_prompts = (read_prompts(t, settings.templates) for t in (tower, long))  # type: ignore[arg-type]

    def go(which: Tower, prompts: Prompts, images: Tensor) -> None:
        invert(images, prompts, which, settings, torch.Generator().manual_seed(0))

    times = medians(
        {
            "batched": lambda: go(tower, short_prompts, batch[:few]),
            "single": lambda: [go(tower, short_prompts, row[None]) for row in batch[:few]],
            "whole": lambda: go(tower, replace(short_prompts, begun=None), batch[:few]),
            "uncut": lambda: go(long, long_prompts, batch[:few]),
        },
        rounds,
        device,
    )
    for name in ("single", "whole", "uncut"):
        print(f"{few} images, {name}: {times[name] / times['batched']:.2f} times the batched form")


if __name__ == "__main__":
    main()
