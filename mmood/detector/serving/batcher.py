"""Images of concurrent requests, put into batches for the tower."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np

from mmood.detector.decisions import Decision
from mmood.detector.detector import Detector
from mmood.detector.serving.limits import Batching, RefusedError
from mmood.errors import ImageError
from mmood.images.rgb import open_image

Waiting: TypeAlias = "tuple[np.ndarray, asyncio.Future[Decision]]"


class Batcher:
    """Decodes images in some threads and passes them through the tower in another, in batches.

    A batch is sent off when it is full, or when its first image has waited long enough.

    Args:
        detector: the detector.
        batching: how batches are made.
        pixels: of an image, at most.
        seen: told the size of every batch.
    """

    def __init__(self, detector: Detector, batching: Batching, pixels: int, seen: Callable[[int], None]) -> None:
        self.detector = detector
        self.batching = batching
        self.pixels = pixels
        self.seen = seen
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self._decoding = ThreadPoolExecutor(batching.threads, "decode")
        self._tower = ThreadPoolExecutor(1, "tower")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to make batches, on the running event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End when nothing waits any more."""
        if self._task is not None:
            self._task.cancel()
        self._decoding.shutdown(cancel_futures=True)
        self._tower.shutdown()

    async def decide(self, content: bytes) -> Decision:
        """Return the decision on an encoded image; RefusedError (413) if it has too many pixels."""
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(self._decoding, self._prepared, content)
        if isinstance(prepared, ImageError):
            return Decision("broken", reason=str(prepared))
        future: asyncio.Future[Decision] = loop.create_future()
        self._queue.put_nowait((prepared, future))
        return await future

    def _prepared(self, content: bytes) -> np.ndarray | ImageError:
        try:
            image = open_image(content)
        except ImageError as error:
            return error
        if image.width * image.height > self.pixels:
            raise RefusedError(413, f"The image has {image.width} x {image.height} pixels, more than {self.pixels}.")
        return self.detector.prepared(image)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._batch()
            images = [pixels for pixels, _ in batch]
            try:
                decisions, _ = await loop.run_in_executor(self._tower, self.detector.decide, images)
            except Exception as error:  # whatever it is, those who wait must hear of it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            self.seen(len(batch))
            for (_, future), decision in zip(batch, decisions, strict=True):
                if not future.done():  # a request that ran out of time waits no more
                    future.set_result(decision)

    async def _batch(self) -> list[Waiting]:
        """Return the next images that wait: at least one, at most a batch."""
        batch = [await self._queue.get()]
        end = asyncio.get_running_loop().time() + self.batching.wait
        while len(batch) < self.batching.most:
            if not self._queue.empty():
                batch.append(self._queue.get_nowait())
                continue
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                break
            try:
                batch.append(await asyncio.wait_for(self._queue.get(), left))
            except TimeoutError:
                break
        return batch
