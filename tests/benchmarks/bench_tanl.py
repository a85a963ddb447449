"""TANL over a stream of stored embeddings, against a loop as the method is written: `python tests/benchmarks/bench_tanl.py`.

By default 20,000 embeddings of 512 dimensions, half ID, 1,000 names, 10,000 words, batches of 256. The loop by hand
sums the first m words for every m, averages both queues anew in every batch, and tries every threshold of Otsu's in a
Python loop. It takes a few batches of the stream from the state that ours has there, the two in turn on one thread;
the median of the ratios of their CPU time is printed, next to the largest difference of the probabilities.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmood.scores.base import Embedded
from mmood.scores.test_time.tanl import TANL, Fitted

CLASSES, WORDS, DIM, BATCH, LEADING = 1_000, 10_000, 512, 256, 1_000


class ByHand:
    """The method with its defaults, float32, from the state of a score."""

    def __init__(self, texts: Tensor, score: TANL) -> None:
        assert score.memory_ is not None
        self.texts, memory = texts, score.memory_
        self.past = memory.past.tolist()
        self.queues = [list(memory.id_activation), list(memory.ood_activation)]

    def activation(self, side: int, new: Tensor) -> Tensor:
        old = torch.stack(self.queues[side]).mean(0) if self.queues[side] else None
        if old is None:
            return new.mean(0) if len(new) else torch.zeros(WORDS)
        return 0.95 * old + 0.05 * new.mean(0) if len(new) else old

    def score(self, logits: Tensor, new_id: Tensor, new_ood: Tensor) -> Tensor:
        difference = self.activation(1, new_ood) - self.activation(0, new_id)
        leading = difference.sort(descending=True, stable=True).indices[:LEADING]
        exponentials = (logits - logits.amax(-1, keepdim=True)).exp()
        names, words = exponentials[:, :CLASSES].sum(-1), exponentials[:, CLASSES + leading]
        return torch.stack([names / (names + words[:, :m].sum(-1)) for m in range(1, LEADING + 1)]).mean(0)

    def threshold(self) -> float:
        ordered = sorted(self.past)
        total, below, best, found = sum(ordered), 0.0, -1.0, 0.5
        for count, (value, following) in enumerate(itertools.pairwise(ordered), 1):
            below += value
            rest = len(ordered) - count
            between = count * rest * ((total - below) / rest - below / count) ** 2
            if value != following and between > best:
                best, found = between, (value + following) / 2
        return found

    def step(self, images: Tensor) -> Tensor:
        """Return S of a batch."""
        logits = 100 * images @ self.texts.T
        activation = logits.softmax(-1)[:, CLASSES:]
        before = self.score(logits, activation[:0], activation[:0])
        self.past = (self.past + before.tolist())[-20_000:]
        t = self.threshold()
        new = activation[before > t + 0.2 * (1 - t)], activation[before < t - 0.2 * t]
        found = self.score(logits, *new)
        self.queues = [(queue + list(rows))[-300:] for queue, rows in zip(self.queues, new, strict=True)]
        return found


def inputs(images: int) -> tuple[Tensor, Tensor]:
    """Return the texts, and images near a class or near a word, so that gates open and queues fill."""
    generator = torch.Generator().manual_seed(0)
    texts = normalize(torch.randn(CLASSES + WORDS, DIM, generator=generator), dim=-1)
    near = torch.randint(len(texts), (images,), generator=generator)
    is_id = torch.rand(images, generator=generator) < 0.5
    near = torch.where(is_id, near % CLASSES, CLASSES + near % WORDS)
    noise = normalize(torch.randn(images, DIM, generator=generator), dim=-1)
    return texts, normalize(texts[near] + 1.5 * noise, dim=-1)


def timed(call: Callable[[], Tensor]) -> tuple[Tensor, float]:
    start = time.process_time()
    found = call()
    return found, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--points", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    texts, stream = inputs(given.images)
    score, none = TANL(), texts.new_empty(0)
    score.fitted_ = Fitted(texts, CLASSES, WORDS, none.view(0, WORDS), none)
    score.reset()
    batches = list(stream.split(BATCH))
    compared = {round((point + 0.5) * len(batches) / given.points) for point in range(given.points)}
    ours, theirs, bare, gap, total = [], [], [], 0.0, 0.0
    for number, images in enumerate(batches):
        batch = Embedded(images, images, images)
        if number in compared:
            by_hand = ByHand(texts, score)
            expected, taken = timed(lambda loop=by_hand, rows=images: loop.step(rows))
            theirs.append(taken)
            bare.append(timed(lambda rows=images: rows @ texts.T)[1])
        found, taken = timed(lambda rows=batch: score.step(rows))
        total += taken
        if number in compared:
            ours.append(taken)
            gap = max(gap, float((found.sigmoid() - expected).abs().max()))
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    print(
        f"{ratio:.2f} of the loop by hand ({statistics.median(ours) * 1e3:.0f} ms against "
        f"{statistics.median(theirs) * 1e3:.0f} ms a batch, {len(ours)} batches compared; the product with all texts "
        f"alone takes {statistics.median(bare) * 1e3:.0f} ms); the stream of {len(stream):,} took {total:.0f} s; "
        f"largest difference of the probability {gap:.1e}; {score.counts()}"
    )


if __name__ == "__main__":
    main()
