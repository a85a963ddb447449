"""A small stream score for tests: how far an image is from the mean of all images so far. Importable by name."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmood.scores.base import Embedded
from mmood.scores.test_time.base import AbstractStreamScore


class RunningMean(AbstractStreamScore):
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
        self.mean_ = torch.zeros(1)
        self.seen_ = torch.zeros((), dtype=torch.int64)
        self.low_ = torch.empty(0, dtype=torch.int64)
        self.generator_ = torch.Generator()

    def fit(self, reference):
        assert not torch.is_grad_enabled(), "tens of thousands of words would keep their graph"
        self.dim_ = reference.prototypes.shape[1]
        self.reset()
        return self

    def reset(self, seed: int = 0) -> None:
        self.mean_ = torch.zeros(self.dim_)
        self.seen_ = torch.zeros((), dtype=torch.int64)
        self.low_ = torch.empty(0, dtype=torch.int64)
        self.generator_ = torch.Generator().manual_seed(seed)

    def forward(self, embedded: Embedded) -> Tensor:
        return embedded.embedding @ self.mean_

    def step(self, embedded: Embedded) -> Tensor:
        assert not embedded.embedding.is_inference(), "a score could not differentiate"
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_grad_enabled()
        if self.update == "before":
            self._learn(embedded)
        scores = self(embedded) + self.noise * torch.rand(len(embedded.logits), generator=self.generator_)
        if self.update == "after":
            self._learn(embedded)
        place = self.nan_at - (int(self.seen_) - len(scores))
        if self.nan_at >= 0 and 0 <= place < len(scores):
            scores[place] = torch.nan
        return scores

    def _learn(self, embedded: Embedded) -> None:
        rows = embedded.embedding
        total = self.seen_ + len(rows)
        self.mean_ = self.mean_ * (self.seen_ / total) + rows.sum(dim=0) / total
        self.low_ = torch.cat([self.low_, self.seen_ + (rows @ self.mean_ < 0.5).nonzero().flatten()])
        self.seen_ = total

    def state(self) -> dict[str, Tensor]:
        return {"mean": self.mean_, "seen": self.seen_, "low": self.low_, "generator": self.generator_.get_state()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.mean_, self.seen_, self.low_ = state["mean"].clone(), state["seen"].clone(), state["low"].clone()
        self.generator_.set_state(state["generator"])

    def counts(self) -> dict[str, int]:
        return {"seen": int(self.seen_), "low": len(self.low_)}

    def members(self) -> dict[str, Tensor]:
        return {"id": self.low_.new_empty(0), "ood": self.low_}
