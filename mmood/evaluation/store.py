"""What the evaluation of one set leaves behind, gathered from all ranks and checked for completeness."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Int, Int64
from torch import Tensor
from torchmetrics import Metric

from mmood.errors import MmoodError
from mmood.metrics.gather import append, collected, from_main, gathered

# A row is int32 words: key (two of them), label, predicted, then the bits of each float32 score. One tensor of one
# dtype is one collective for each set, in which a rank without rows cannot disagree about order or dtype.
_KEY, _LABEL, _PREDICTED, _SCORES = slice(0, 2), 2, 3, slice(4, None)
_SKIPPED = -2  # in the place of a label: the sample was met and left out


@dataclass(frozen=True)
class SetScores:
    """The scores of one evaluation set over all ranks, sorted by key.

    Attributes:
        set: name of the set.
        names: (S,) names of the scores.
        key: (N,) index of the sample in its set.
        label: (N,) class index, -1 for OoD.
        predicted: (N,) class index, -1 where nothing was predicted.
        scores: (N, S), higher = more in-distribution, free of NaN.
        skipped: keys of samples that could not be read and were left out.
    """

    set: str
    names: tuple[str, ...]
    key: Int64[np.ndarray, " n"]
    label: Int64[np.ndarray, " n"]
    predicted: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, "n scores"]
    skipped: Int64[np.ndarray, " skipped"]

    def of(self, name: str) -> Float32[np.ndarray, " n"]:
        """Return the (N,) values of the score `name`."""
        return np.ascontiguousarray(self.scores[:, self.names.index(name)])


def constant_scores(sets: Iterable[SetScores]) -> list[str]:
    """Return the names of the scores that are the same for every image of all sets."""
    filled = [scores for scores in sets if len(scores.key)]
    if not filled:
        return []
    rows = np.concatenate([scores.scores for scores in filled])
    same = (rows == rows[0]).all(axis=0) & (len(rows) > 1)
    return [name for name, constant in zip(filled[0].names, same, strict=True) if constant]


def joined_scores(passes: Sequence[SetScores]) -> SetScores:
    """Return the columns of several passes over the same images side by side; the classes predicted are the last's."""
    return replace(
        passes[-1],
        names=tuple(name for scores in passes for name in scores.names),
        scores=np.concatenate([scores.scores for scores in passes], axis=1),
    )


class ScoreStore(Metric):  # type: ignore[misc]  # torchmetrics is not followed by the type checker
    """Keys, labels, predictions and scores of one set on this rank; `collected()` brings all to the main process.

    Memory is the data: 16 + 4 S bytes a sample for S scores, on the CPU. Move the store to the module's device all the
    same, because that is where the ranks exchange their rows.

    Args:
        set_name: name of the evaluation set, for messages.
        names: names of the scores, in the order of the columns given to `update`.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    rows: list[Tensor]

    def __init__(self, set_name: str, names: Sequence[str]) -> None:
        # torchmetrics' own gather knows neither the dtype of an empty rank nor rows that wait on the CPU.
        super().__init__(sync_on_compute=False, compute_with_cache=False)
        self.set_name = set_name
        self.names = tuple(names)
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(
        self,
        key: Int64[Tensor, " batch"],
        label: Int64[Tensor, " batch"],
        predicted: Int64[Tensor, " batch"],
        scores: Float32[Tensor, "batch scores"],
    ) -> None:
        """Add a batch, which may be empty.

        Args:
            key: index of each sample in its set.
            label: class index, -1 for OoD.
            predicted: class index, -1 where nothing is predicted.
            scores: one column for each name.

        Raises:
            MmoodError: a score is NaN. Rows are looked at in blocks, so this may come some batches later.
        """
        words = [key.contiguous().view(torch.int32).view(-1, 2), label.int()[:, None], predicted.int()[:, None]]
        rows = torch.cat([*words, scores.detach().contiguous().view(torch.int32)], dim=1)
        if append(self.rows, rows):
            _refuse_nan(self._unpacked(self.rows[-1]))

    def skip(self, key: Int64[Tensor, " skipped"]) -> None:
        """Note samples that were met and left out, so that they are not missed in the end."""
        nothing = torch.full((len(key), len(self.names)), torch.inf, device=key.device)
        skipped = torch.full_like(key, _SKIPPED)
        self.update(key, skipped, skipped, nothing)

    def compute(self) -> Int[Tensor, "n words"]:
        """Return the packed rows of all ranks. Every rank must enter; `gathered` is the readable form."""
        return gathered(self.rows, self._none(), self.device)

    def gathered(self, expected: int | Int[np.ndarray, " expected"] | None = None) -> SetScores:
        """Return the rows of all ranks, the same on each. Every rank must enter, also one without rows.

        Args:
            expected: the keys that the set consists of, or their number n if they are 0 to n - 1. None for a partial
                evaluation, of which no completeness can be asked.

        Raises:
            MmoodError: a score is NaN, a key came twice, is missing or is not in the set.
        """
        return self._checked(self.compute(), expected)

    def collected(self, expected: int | Int[np.ndarray, " expected"] | None = None) -> SetScores | None:
        """Return on the main process what `gathered` does, and None on the other ranks. Every rank must enter.

        A rank then holds its own rows alone, however many images there are.

        Args:
            expected: as for `gathered`.

        Raises:
            MmoodError: as for `gathered`, on every rank.
        """
        rows = collected(self.rows, self._none(), self.device)
        found: list[SetScores] = []

        def check() -> None:
            if rows is not None:
                found.append(self._checked(rows, expected))

        from_main(check)
        return found[0] if found else None

    def _none(self) -> Int[Tensor, "none words"]:
        return torch.empty(0, 4 + len(self.names), dtype=torch.int32)

    def _checked(self, rows: Int[Tensor, "n words"], expected: int | Int[np.ndarray, " expected"] | None) -> SetScores:
        everything = self._unpacked(rows)
        _refuse_nan(everything)
        seen = everything.key
        if len(everything.skipped):
            seen = np.sort(np.concatenate([seen, everything.skipped]))
        _refuse(self.set_name, "were evaluated more than once", seen[1:][seen[1:] == seen[:-1]], len(seen))
        if expected is not None and not _are(seen, expected):
            wanted = np.arange(expected) if isinstance(expected, int) else expected
            _refuse(self.set_name, "are missing", np.setdiff1d(wanted, seen), len(wanted))
            _refuse(self.set_name, "do not belong to the set", np.setdiff1d(seen, wanted), len(seen))
        return everything

    def _unpacked(self, packed: Int[Tensor, "n words"]) -> SetScores:
        words = packed.numpy()
        key = words[:, _KEY].copy().view(np.int64)[:, 0]
        met = words[:, _LABEL] != _SKIPPED
        order = np.flatnonzero(met)[np.argsort(key[met], kind="stable")]
        return SetScores(
            set=self.set_name,
            names=self.names,
            key=key[order],
            label=words[order, _LABEL].astype(np.int64),
            predicted=words[order, _PREDICTED].astype(np.int64),
            scores=words[order, _SCORES].view(np.float32),
            skipped=np.sort(key[~met]),
        )


def _are(keys: Int64[np.ndarray, " keys"], expected: int | Int[np.ndarray, " expected"]) -> bool:
    """Return whether distinct ascending keys are those expected; if so, no memory is needed to find out.

    Keys that are expected in another order are not recognised.
    """
    if not isinstance(expected, int):
        return np.array_equal(keys, expected)
    return len(keys) == expected and (expected == 0 or (keys[0] == 0 and keys[-1] == expected - 1))


def _refuse(set_name: str, fault: str, keys: Int[np.ndarray, " keys"], total: int) -> None:
    if len(keys):
        raise MmoodError(
            f"{len(np.unique(keys))} of the {total} samples of set '{set_name}' {fault}: {_first(keys)}; "
            "every sample must be evaluated exactly once."
        )


def _refuse_nan(found: SetScores) -> None:
    nan = np.isnan(found.scores)
    if nan.any():
        name = found.names[int(nan.any(axis=0).argmax())]
        keys = found.key[np.isnan(found.of(name))]
        raise MmoodError(
            f"Score '{name}' is NaN for {len(keys)} of {len(found.key)} samples of set '{found.set}': {_first(keys)}; "
            "a score must be a number or an infinity."
        )


def _first(keys: Int[np.ndarray, " keys"], limit: int = 5) -> str:
    keys = np.unique(keys)
    shown = ", ".join(str(key) for key in keys[:limit])
    return f"key{'s' if len(keys) > 1 else ''} {shown}{' and more' if len(keys) > limit else ''}"
