"""The index of a set: what the set is, and its samples by key, wherever they are.

A sample's *key* is its position in the set. Every kind of set is one final class below `SetIndex`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmood.classes.matching import are_names
from mmood.errors import MmoodError
from mmood.shards.reading import RawSample, Skipped
from mmood.shards.table import SampleRow

MAX_SAMPLES = 2**28
"""Samples of a set, at most: its keys are held in memory, and an index may be somebody else's."""

Keys = NDArray[np.int64]
Hashes = NDArray[np.uint64]


class MissingSetError(MmoodError):
    """There is no such set."""


@dataclass(frozen=True)
class SetIndex(ABC):
    """A set of samples: its facts, and how to read it. It can be pickled, so that workers can be started in any way.

    Attributes:
        name: what results call the set; one folder's name.
        classes: number of classes, or None if the samples carry no label.
        class_names: their names, or empty if unknown.
        class_folders: the folders that they came from, in the order of the labels, or empty.
        seen_names: without class names, how the samples themselves call the classes, in the order of the labels, as far
            as they do; "" where they do not, or not all in one way.
        source: where the images come from, in words.
    """

    name: str
    classes: int | None = field(default=None, kw_only=True)
    class_names: tuple[str, ...] = field(default=(), kw_only=True)
    class_folders: tuple[str, ...] = field(default=(), kw_only=True)
    seen_names: tuple[str, ...] = field(default=(), kw_only=True)
    source: str = field(default="", kw_only=True)

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of samples."""

    @property
    @abstractmethod
    def hash(self) -> str:
        """Sha256 (hex) of the content, whatever its name and place; samples with equal keys are then equal."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the set is, as a user would name it."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """Count and kind of what the set consists of, in words."""

    @property
    @abstractmethod
    def random_access(self) -> bool:
        """Whether any sample can be read without those before it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how the set was found, a sentence each."""
        return ()

    @property
    def known_names(self) -> tuple[str, ...]:
        """How the set calls its classes, in the order of the labels; empty if it does not say."""
        names = self.class_names or self.seen_names
        return names if are_names(names) else ()

    def keys(self) -> Keys:
        """Return all keys, ascending."""
        return np.arange(self.count, dtype=np.int64)

    @abstractmethod
    def read(self, keys: Keys, skip: bool) -> Iterator[RawSample | Skipped]:
        """Yield one item per key, in their order: the sample, or under `skip` why it cannot be read.

        Args:
            keys: in any order, but keys of one run (see `runs`) must stand together and ascend.
            skip: leave out what cannot be read.

        Raises:
            MmoodError: a sample cannot be read and `skip` is false, or the set is not the one that was indexed.
        """

    @abstractmethod
    def rows(self) -> list[SampleRow]:
        """Return what is known of each sample, row i for key i; MmoodError if that cannot be read."""

    @abstractmethod
    def runs(self, keys: Keys) -> Keys:
        """Return for each key the number of the run that it is in: of samples that are read one after another."""

    @abstractmethod
    def bytes_here(self) -> int:
        """Return how many bytes reading the whole set takes; MmoodError if it is not on this machine."""

    @abstractmethod
    def known_hashes(self, keys: Keys) -> Hashes | None:
        """Return the first 64 bits of the sha256 of each image's bytes, None if the images must be read for it."""

    @abstractmethod
    def verify(self, advance: Callable[[int], object] = lambda amount: None) -> None:
        """Read the whole set; MmoodError if it is not the one that was indexed.

        Args:
            advance: called with the number of bytes that were read.
        """
