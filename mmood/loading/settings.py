"""How samples are read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from mmood.settings import check_count

OnError = Literal["raise", "skip"]


@dataclass(frozen=True)
class LoaderSettings:
    """How samples are read.

    Attributes:
        workers: worker processes per device; 0 reads in the main process. By default 4, or the cores if they are fewer.
        start_method: fork, spawn or forkserver; None for the platform's own.
        prefetch: batches that each worker prepares in advance.
        persistent: keep the workers of training and validation from epoch to epoch.
        on_error: `raise` ends the run at a broken image, label or shard; `skip` leaves it out and lists its key.
        shuffle_buffer: encoded training images that each worker holds to draw the next one from.
        seed: of the training order, augmentation and draws of shots; None for that of the run (`seed_everything`).
        pipes: let an index name commands (`pipe:`) as its shards; only for an index that you wrote yourself.
    """

    workers: int = field(default_factory=lambda: min(4, os.cpu_count() or 1))
    start_method: Literal["fork", "spawn", "forkserver"] | None = None
    prefetch: int = 2
    persistent: bool = True
    on_error: OnError = "raise"
    shuffle_buffer: int = 2048
    seed: int | None = None
    pipes: bool = False

    def __post_init__(self) -> None:
        check_count("`data.loader.workers`", self.workers, least=0)
        check_count("`data.loader.prefetch`", self.prefetch)
        check_count("`data.loader.shuffle_buffer`", self.shuffle_buffer)
        check_count("`data.loader.seed`", self.seed, least=0, null="the run's")
