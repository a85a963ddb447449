"""AdaNeg over a stream of stored embeddings, against a direct form: `python tests/benchmarks/bench_adaneg.py`.

60,000 embeddings of 512 dimensions (50,000 ID, 10,000 OoD, shuffled), C 1,000, M 10,000, L 10, batches of 256. The
direct form takes the method as it is written: every group's softmax, a loop over the images of a batch, the dense
memory of (C + M) x (L + 1) x D, normalised anew in each batch. It is run on a few batches of the stream from the
state that ours has there, the two in turn on one thread, and compared per batch by the processor's time: the median of
the ratios is printed, next to the largest difference of the probabilities. Images lie between a text and noise, so that
both gates pass most of them.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmood.scores.base import Embedded
from mmood.scores.functional_negatives import group_order
from mmood.scores.test_time import AdaNeg
from mmood.scores.test_time.adaneg import Fitted
from mmood.scores.test_time.adaptive_prototypes import AdaptivePrototypes
from mmood.scores.test_time.image_proxies import Kind, Proxies

CLASSES, WORDS, DIM, LENGTH, GROUPS, BATCH = 1_000, 10_000, 512, 10, 5, 256


class Direct:
    """The method as it is written, float32, on a dense memory with the text in slot 0, words in the list's order."""

    def __init__(self, texts: Tensor, kind: Kind) -> None:
        self.order = group_order(WORDS, GROUPS)
        # Where a text of the score stands here.
        self.position = torch.cat([torch.arange(CLASSES), CLASSES + self.order])
        self.texts, self.kind = torch.empty_like(texts), kind
        self.texts[self.position] = texts
        self.memory = torch.zeros(len(texts), LENGTH + 1, DIM)
        self.memory[:, 0] = self.texts
        self.entropy = torch.zeros(len(texts), LENGTH + 1)
        self.filled = [1] * len(texts)

    def take(self, score: AdaNeg) -> None:
        """Copy the memory of a score."""
        memory = prototypes(score).memory
        texts = memory.filled()
        here, slots = self.position[texts], memory.slots.tensor()[texts]
        self.memory[here, 1:] = memory.images(texts)
        self.entropy[here, 1:] = torch.where(slots >= 0, memory.entropy.tensor()[slots.clamp_min(0)], 0.0)
        for text, count in zip(here.tolist(), (slots >= 0).sum(-1).tolist(), strict=True):
            self.filled[text] = 1 + count

    def share(self, logits: Tensor) -> Tensor:
        positive, parts = logits[:, :CLASSES], logits[:, CLASSES:][:, self.order].chunk(GROUPS, dim=-1)
        mass = [torch.cat([positive, part], dim=-1).softmax(-1)[:, :CLASSES].sum(-1) for part in parts]
        return torch.stack(mass).mean(0)

    def insert(self, image: Tensor, logits: Tensor, first: int) -> None:
        # In float64: where images are confident, float32 leaves few digits of an entropy, and others would be replaced.
        p = logits.double().softmax(-1)
        entropy, text = -(p * p.clamp_min(1e-300).log()).sum(), first + int(logits.argmax())
        if self.filled[text] <= LENGTH:
            slot = self.filled[text]
            self.filled[text] += 1
        else:
            slot = int(self.entropy[text].argmax())
            if entropy >= self.entropy[text, slot]:
                return
        self.memory[text, slot], self.entropy[text, slot] = image, entropy

    def adaptive(self, images: Tensor) -> Tensor:
        if self.kind == "task":
            return 100 * images @ normalize(normalize(self.memory, dim=-1).mean(1), dim=-1).T
        rows = []
        memory = normalize(self.memory, dim=-1)
        for image in images:
            weight = (-5.5 * (1 - memory @ image)).exp()
            proxy = normalize(torch.bmm(weight.unsqueeze(1), memory).squeeze(1), dim=-1)
            rows.append(100 * proxy @ image)
        return torch.stack(rows)

    def step(self, images: Tensor) -> Tensor:
        logits = 100 * images @ self.texts.T
        plain = self.share(logits)
        for i in range(len(images)):
            if plain[i] > 0.75:
                self.insert(images[i], logits[i, :CLASSES], 0)
        for i in range(len(images)):
            if plain[i] < 0.25:
                self.insert(images[i], logits[i, CLASSES:], CLASSES)
        return (self.share(self.adaptive(images)) + 0.1 * plain) / 1.1


def inputs(images: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    texts = normalize(torch.randn(CLASSES + WORDS, DIM, generator=generator), dim=-1)
    # A sixth is OoD and, as on real sets, comes to a part of the words.
    is_ood = torch.rand(images, generator=generator) < 1 / 6
    near_name = torch.randint(CLASSES, (images,), generator=generator)
    near_word = CLASSES + torch.randint(WORDS // 5, (images,), generator=generator)
    noise = normalize(torch.randn(images, DIM, generator=generator), dim=-1)
    return texts, normalize(0.35 * texts[torch.where(is_ood, near_word, near_name)] + noise, dim=-1)


def fitted(texts: Tensor, kind: Kind) -> AdaNeg:
    """Return a score that has these texts, as `fit` leaves it."""
    score = AdaNeg(proxies=Proxies(kind))
    score.fitted_ = Fitted(texts, CLASSES)
    score.reset()
    return score


def prototypes(score: AdaNeg) -> AdaptivePrototypes:
    """Return what a score remembers of the texts and their images."""
    assert score.memory_ is not None
    return score.memory_.prototypes


def held_mib(held: AdaptivePrototypes) -> float:
    """Return the memory of prototypes but for the texts: rows as allocated, slots, table."""
    memory = held.memory
    rows = (memory.image, memory.text, memory.entropy, memory.place, memory.slots, held.table)
    return sum(own.tensor().untyped_storage().nbytes() for own in rows) / 2**20


def measure(texts: Tensor, stream: Tensor, kind: Kind, points: int) -> None:
    score, direct = fitted(texts, kind), Direct(texts, kind)
    batches = list(stream.split(BATCH))
    compared = {round((i + 0.5) * len(batches) / points) for i in range(points)}
    ours, theirs, bare, gap, total = [], [], [], 0.0, 0.0
    for number, images in enumerate(batches):
        batch = Embedded(torch.empty(len(images), 0), torch.empty(len(images), 1), images)
        if number in compared:
            direct.take(score)
            start = time.process_time()
            expected = direct.step(images)
            theirs.append(time.process_time() - start)
            start = time.process_time()
            images @ texts.T
            bare.append(time.process_time() - start)
        start = time.process_time()
        found = score.step(batch)
        spent = time.process_time() - start
        total += spent
        if number in compared:
            ours.append(spent)
            gap = max(gap, float((found.sigmoid() - expected).abs().max()))
    ratio = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
    dense = (CLASSES + WORDS) * (LENGTH + 1) * DIM * 4 / 2**20
    print(
        f"{kind}: {ratio:.1f} times as fast as the direct form ({statistics.median(ours) * 1e3:.0f} ms against "
        f"{statistics.median(theirs) * 1e3:.0f} ms a batch, {len(ours)} batches compared; the product with all texts alone "
        f"takes {statistics.median(bare) * 1e3:.0f} ms); the stream of {len(stream)} "
        f"took {total:.0f} s; largest difference of the probability {gap:.1e}; "
        f"memory {held_mib(prototypes(score)):.0f} MiB (dense: {dense:.0f}); {score.counts()}"
    )


def full(texts: Tensor, kind: Kind) -> None:
    """Print the memory when every text has L images."""
    held = prototypes(fitted(texts, kind))
    for layer in range(LENGTH):
        text = torch.arange(len(texts))
        held = held.keep(texts, text, torch.full((len(texts),), float(layer)), text + layer * len(texts))
    print(f"{kind}, every text full ({len(held.memory.place)} images): {held_mib(held):.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--points", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    texts, stream = inputs(given.images)
    kinds: tuple[Kind, ...] = ("task", "sample")
    for kind in kinds:
        full(texts, kind)
    for kind in kinds:
        measure(texts, stream, kind, given.points if kind == "task" else 1)


if __name__ == "__main__":
    main()
