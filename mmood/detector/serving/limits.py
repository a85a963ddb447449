"""What a service takes at most, and the answers to what is more."""

from __future__ import annotations

from dataclasses import dataclass

from mmood.errors import MmoodError


@dataclass(frozen=True)
class Limits:
    """What a service takes at most.

    Attributes:
        bytes: of a request.
        pixels: of an image.
        images: of a request.
        seconds: from the whole request to the answer.
        requests: in flight, those included that are still being read.
    """

    bytes: int = 20 * 2**20
    pixels: int = 2**25
    images: int = 16
    seconds: float = 30.0
    requests: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise MmoodError(f"--max_{name} is {value}; it must be above 0.")


@dataclass(frozen=True)
class Batching:
    """How images of several requests pass the tower together.

    Attributes:
        most: images of a batch.
        wait: seconds that the first image of a batch waits for others.
        threads: that decode images.
    """

    most: int = 32
    wait: float = 0.005
    threads: int = 2

    def __post_init__(self) -> None:
        if self.most < 1 or self.threads < 1 or not self.wait >= 0:
            raise MmoodError(
                f"--max_batch is {self.most}, --max_wait_ms {1000 * self.wait:g} and --threads {self.threads}; the "
                "first and the last are at least 1, the other is not negative."
            )


class RefusedError(Exception):
    """A request that is answered with a status of its own.

    Attributes:
        status: of HTTP.
        detail: a sentence for the client.
        retry_after: seconds after which the client may try again; None if that would change nothing.
    """

    def __init__(self, status: int, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after


class Gate:
    """Counts the requests in flight; used as a context by each, on the event loop alone."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.inside = 0
        self.open = True

    def __enter__(self) -> None:
        if not self.open:
            raise RefusedError(503, "The service is ending.", retry_after=5)
        if self.inside >= self.most:
            raise RefusedError(429, f"{self.most} requests are being answered; try again.", retry_after=1)
        self.inside += 1

    def __exit__(self, *_: object) -> None:
        self.inside -= 1
