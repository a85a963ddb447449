"""Images of concurrent requests, put into batches for the tower."""

from __future__ import annotations

import asyncio
import io
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import TypeAlias, final

from PIL.Image import Image

from mmood.detector.decisions import Decision
from mmood.detector.detector import Detector
from mmood.detector.scorer import Prepared
from mmood.detector.serving.limits import Batching, RefusedError
from mmood.errors import ImageError
from mmood.images.rgb import open_image

Answer: TypeAlias = Decision | Exception


@dataclass(frozen=True)
class Waiting:
    """An image whose decision a request waits for.

    Attributes:
        content: the encoded image.
        since: when it came, by the clock of the event loop.
        decision: what the request waits for.
    """

    content: bytes
    since: float
    decision: asyncio.Future[Decision]

    def answer(self, answer: Answer) -> None:
        """Pass on a decision, or why there is none, unless the request has run out of time."""
        if self.decision.done():
            return
        if isinstance(answer, Decision):
            self.decision.set_result(answer)
        else:
            self.decision.set_exception(answer)


@final
class Batcher:
    """Decodes images and passes them through the tower, in batches.

    A batch is sent off when it is full, or when its first image has waited long enough. It goes to other threads and
    comes back as a whole: images that did so one by one would wake the event loop twice each.

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
        self._waiting: deque[Waiting] = deque()
        self._some, self._full = asyncio.Event(), asyncio.Event()
        # Batches: on a GPU the next one is decoded meanwhile.
        at_once = 1 if detector.scorer.on_cpu else 2
        self._free = asyncio.Semaphore(at_once)
        self._batches = ThreadPoolExecutor(at_once, "batch")
        self._decoding = ThreadPoolExecutor(batching.threads, "decode")
        self._tower = Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to make batches, on the running event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; what still waits gets no answer."""
        if self._task is not None:
            self._task.cancel()
        self._batches.shutdown(cancel_futures=True)
        self._decoding.shutdown()

    async def decide(self, content: bytes) -> Decision:
        """Return the decision on an encoded image; RefusedError (413) if it has too many pixels."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(content, loop.time(), loop.create_future())
        self._waiting.append(waiting)
        self._count_waiting()
        return await waiting.decision

    async def draw(self, content: bytes) -> bytes:
        """Return an encoded image with its map, as PNG; RefusedError (413, 422) if it is too large or broken."""
        return await asyncio.get_running_loop().run_in_executor(self._batches, self._drawn, content)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as batches:
            while True:
                await self._free.acquire()
                batches.create_task(self._answer(await self._next_batch()))

    async def _next_batch(self) -> list[Waiting]:
        """Return the images that have waited longest: at least one, at most a batch."""
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._waiting[0].since + self.batching.wait):
                    await self._full.wait()
            longest = [self._waiting.popleft() for _ in range(min(self.batching.most, len(self._waiting)))]
            self._count_waiting()
            if batch := [waiting for waiting in longest if not waiting.decision.done()]:
                return batch

    def _count_waiting(self) -> None:
        for event, least in ((self._some, 1), (self._full, self.batching.most)):
            if len(self._waiting) >= least:
                event.set()
            else:
                event.clear()

    async def _answer(self, batch: Sequence[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        answers: Sequence[Answer]
        try:
            answers = await loop.run_in_executor(self._batches, self._decided, [waiting.content for waiting in batch])
            self.seen(len(batch))
        except Exception as error:  # whatever it is, those who wait must hear of it
            answers = [error] * len(batch)
        self._free.release()
        for waiting, answer in zip(batch, answers, strict=True):
            waiting.answer(answer)

    def _decided(self, contents: Sequence[bytes]) -> list[Answer]:
        """Return the decision on each image, or why it is refused; runs in a thread of its own."""
        prepared = list(self._decoding.map(self._prepared, contents))
        images = [image for image in prepared if not isinstance(image, RefusedError)]
        with self._tower:
            decisions = iter(self.detector.decide(images)[0])
        return [image if isinstance(image, RefusedError) else next(decisions) for image in prepared]

    def _drawn(self, content: bytes) -> bytes:
        try:
            self._check_pixels(open_image(content))
            with self._tower:
                picture = self.detector.patch_map(content)
        except ImageError as error:
            raise RefusedError(422, f"The image is broken: {error}.") from error
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()

    def _check_pixels(self, image: Image) -> None:
        if image.width * image.height > self.pixels:
            raise RefusedError(413, f"The image has {image.width} x {image.height} pixels, more than {self.pixels}.")

    def _prepared(self, content: bytes) -> Prepared | RefusedError:
        try:
            image = open_image(content)
            self._check_pixels(image)
        except (ImageError, RefusedError) as error:
            return error
        return self.detector.prepared(image)
