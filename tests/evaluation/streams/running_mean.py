"""A small stream score for tests: how far an image is from the mean of all images so far. Importable by name."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from mmood.scores.test_time.base import AbstractStreamScore


@dataclass(frozen=True)
class Fitted:
    prototypes: Float32[Tensor, "classes dim"]


@dataclass(frozen=True)
class Memory:
    mean: Float32[Tensor, " dim"]
    seen: Int64[Tensor, ""]
    low: Int64[Tensor, " low"]
    generator: UInt8[Tensor, " generator"]


class RunningMean(AbstractStreamScore[Fitted, Memory]):
    """The cosine with the running mean of the embeddings, plus a little private noise.

    Args:
        update: see the base class.
        nan_at: the place in the stream whose score is NaN; -1 for none.
        noise: size of the noise, which shows whether generators are private and saved.
    """

    needs = frozenset({"embedding"})

    def __init__(self, update: str = "before", nan_at: int = -1, noise: float = 0.01) -> None:
        super().__init__(update)
        self.nan_at = nan_at
        self.noise = noise

    def learn(self, reference):
        assert not torch.is_grad_enabled(), "tens of thousands of words would keep their graph"
        return Fitted(reference.prototypes)

    def start(self, fitted, seed):
        none = fitted.prototypes.new_empty(0, dtype=torch.int64)
        mean = fitted.prototypes.new_zeros(fitted.prototypes.shape[1])
        return Memory(mean, none.new_zeros(()), none, torch.Generator().manual_seed(seed).get_state())

    def resume(self, fitted, saved):
        return Memory(**saved)

    def score(self, fitted, memory, embedding):
        return embedding @ memory.mean

    def advance(self, fitted, memory, batch):
        embedding = batch.joint()
        assert not embedding.is_inference(), "a score could not differentiate"
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_grad_enabled()
        generator = torch.Generator()
        generator.set_state(memory.generator.cpu())
        total = memory.seen + len(embedding)
        mean = memory.mean * (memory.seen / total) + embedding.sum(dim=0) / total
        low = torch.cat([memory.low, memory.seen + (embedding @ mean < 0.5).nonzero().flatten()])
        scores = embedding @ (mean if self.update == "before" else memory.mean)
        scores = scores + self.noise * torch.rand(len(embedding), generator=generator).to(scores.device)
        place = self.nan_at - int(memory.seen)
        if 0 <= place < len(scores):
            scores[place] = torch.nan
        return scores, Memory(mean, total, low, generator.get_state())

    def count(self, fitted, memory):
        return {"seen": int(memory.seen), "low": len(memory.low)}

    def kept(self, fitted, memory):
        return {"id": memory.low.new_empty(0), "ood": memory.low}
