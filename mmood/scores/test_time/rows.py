"""Rows that are written in place, although every version of them stays as it was."""

from __future__ import annotations

from typing import Any, Self, final

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

FIRST_ROWS = 1024


@final
class Rows:
    """A persistent array of rows (H. G. Baker, Shallow binding makes functional arrays fast, 1991).

    `written` returns a new version and writes in place; the version it was called on remembers the few rows that were
    replaced. So a stream, which goes on from the newest version, copies no large table at a step, and whoever goes on
    from an older one, by itself or beside the newest, gets what that version held: its rows are put back first.

    Not for several threads at a time.

    Args:
        tensor: (N, ...) the first version, which must not be written to elsewhere.
        most: rows that there can ever be; None where N stays. Room grows by doubling.
    """

    def __init__(self, tensor: Shaped[Tensor, "rows ..."], most: int | None = None) -> None:
        self._buffer: Tensor | None = tensor
        self._length = len(tensor)
        self._most = len(tensor) if most is None else most
        self._newer: Self | None = None
        self._at = self._replaced = torch.empty(0)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._length

    def tensor(self) -> Shaped[Tensor, "rows ..."]:
        """Return the rows, not a copy: to be read before any version is written or read again."""
        return self._own()[: self._length]

    def written(
        self, at: Int64[Tensor, " some"], values: Shaped[Tensor, "some ..."], length: int | None = None
    ) -> Self:
        """Return a version with `values` in the rows `at`.

        Args:
            at: rows of the new version, each at most once.
            values: their content; converted to the type of the rows.
            length: number of rows of the new version, at least that of this one; rows that are new must all be given.
        """
        buffer = self._own()
        newer = type(self)(buffer, self._most)
        newer._length = self._length if length is None else length
        if newer._length > len(buffer):
            newer._buffer = _grown(buffer, newer._length, self._most)
        else:
            self._buffer, self._newer, self._at, self._replaced = None, newer, at, buffer[at]
        assert newer._buffer is not None
        newer._buffer[at] = values.to(buffer.dtype)
        return newer

    def _own(self) -> Tensor:
        """Return the buffer with the rows of this version, taking it over from the version that has it."""
        chain: list[Any] = [self]
        while chain[-1]._buffer is None:
            chain.append(chain[-1]._newer)
        for older, newer in zip(reversed(chain[:-1]), reversed(chain[1:]), strict=True):
            buffer, at = newer._buffer, older._at
            newer._at, newer._replaced = at, buffer[at]
            buffer[at] = older._replaced
            older._buffer, older._newer = buffer, None
            newer._buffer, newer._newer = None, older
        found: Tensor = chain[0]._buffer
        return found


def _grown(buffer: Tensor, least: int, most: int) -> Tensor:
    larger = buffer.new_empty(min(max(2 * len(buffer), least, FIRST_ROWS), most), *buffer.shape[1:])
    larger[: len(buffer)] = buffer
    return larger
