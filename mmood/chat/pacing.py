"""When the next request may be sent, for all threads together."""

from __future__ import annotations

import threading
import time
from typing import final


@final
class Pace:
    """Lets requests pass at a rate, and none while the endpoint has asked to wait.

    Args:
        rate: requests per minute; None for no limit.
    """

    def __init__(self, rate: float | None) -> None:
        self._gap = 0.0 if rate is None else 60.0 / rate
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when it is the caller's turn."""
        while (left := self._take()) > 0:
            time.sleep(left)

    def hold(self, seconds: float) -> None:
        """Let nobody pass for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def _take(self) -> float:
        """Take the next turn and return 0, or return the seconds until there is one."""
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                return self._next - now
            self._next = now + self._gap
            return 0.0
