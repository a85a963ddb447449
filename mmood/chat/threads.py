"""Work in several threads that nobody has to wait for when it is given up."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_threads(work: Callable[[T], R], items: Sequence[T], threads: int) -> Iterator[tuple[T, R]]:
    """Yield each item with what `work` returns for it, as they come.

    After an error no item is begun; those under way are yielded, and then the first error is raised. The threads are
    daemons, which those of `concurrent.futures` are not: a signal ends the process although a thread waits.

    >>> sorted(in_threads(abs, [-2, 1], threads=2))
    [(-2, 2), (1, 1)]
    """
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[T, R] | BaseException | None] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    given_up = threading.Event()

    def run() -> None:
        try:
            while not given_up.is_set():
                item = waiting.get_nowait()
                done.put((item, work(item)))
        except queue.Empty:
            pass
        except BaseException as error:  # raised again where the results are read
            given_up.set()
            done.put(error)
        done.put(None)

    running = min(threads, len(items))
    for _ in range(running):
        threading.Thread(target=run, daemon=True).start()
    first: BaseException | None = None
    try:
        while running:
            result = done.get()
            if result is None:
                running -= 1
            elif isinstance(result, BaseException):
                first = first or result
            else:
                yield result
    finally:
        given_up.set()
    if first is not None:
        raise first
