"""Files over http(s), front to back: tried again after growing pauses, gone on with where a connection broke off."""

from __future__ import annotations

import http.client
import io
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, final

TIMEOUT = 30.0
"""Seconds without an answer, or without a byte of one, until a try is given up."""
PAUSES = (1.0, 2.0, 4.0)
"""Seconds before the second try and those after it; one try more than pauses, then it is an error."""
PROGRESS = 2**20
"""Bytes after which the tries are counted again: a long transfer may break off often, one without progress may not."""

# What a server means to be over soon: time-outs, too many requests, overload, a gateway without its server.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
# Characters with a meaning in a URL, which stay; all others that are not plain letters are quoted.
_MEANT = "%/:=&?~#+!$,;'@()*[]"


@final
class HttpStream(io.RawIOBase):
    """The content behind an http(s) URL as a stream of bytes.

    Args:
        url: what to read.
        start: the byte to begin at, for a file whose first bytes are there already.
        tag: the ETag that the server gave with those bytes; "" if there was none.

    Attributes:
        length: bytes of the whole file, None if the server does not say.
        tag: the strong ETag of the file, "" if it has none.

    Raises:
        ChangedError: the file is not the one whose first bytes are there.
        FileNotFoundError: the server says that there is no such file.
        OSError: it says something else that will not pass, did so in every try, or never answered.
    """

    def __init__(self, url: str, start: int = 0, tag: str = "") -> None:
        super().__init__()
        self._url = urllib.parse.quote(url, safe=_MEANT)
        self._offset = start
        self.length: int | None = None
        self.tag = tag
        self._known = bool(tag)
        self._tries = self._safe = 0
        self._response: http.client.HTTPResponse | None = None
        self._try(self._connect)

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as bytes are there, waiting for one at least; 0 at the end."""
        return self._try(lambda: self._receive(memoryview(buffer).cast("B")))

    def close(self) -> None:
        """End the transfer, wherever it is."""
        self._disconnect()
        super().close()

    def _try(self, action: Any) -> int:
        while True:
            try:
                return int(action())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._disconnect()
                if self._offset - self._safe >= PROGRESS:
                    self._tries = 0
                self._safe = self._offset
                if isinstance(error, ChangedError):
                    raise
                if not _passes(error) or self._tries == len(PAUSES):
                    raise _final(error, self._tries + 1) from error
                time.sleep(PAUSES[self._tries])
                self._tries += 1

    def _receive(self, buffer: memoryview) -> int:
        if self._response is None:
            self._connect()
        assert self._response is not None
        count = self._response.readinto(buffer)
        self._offset += count
        # A response that ends early looks like one that ends.
        if count == 0 and len(buffer) and self.length is not None and self._offset < self.length:
            raise ConnectionError(f"the connection was lost after {self._offset} of {self.length} bytes")
        return count

    def _connect(self) -> int:
        request = urllib.request.Request(self._url, headers={"User-Agent": "mmood"})  # noqa: S310 - http(s) only
        if self._offset:
            request.add_header("Range", f"bytes={self._offset}-")
            if self.tag:
                request.add_header("If-Range", self.tag)
        response = _opener().open(request, timeout=TIMEOUT)
        tag, length = response.headers.get("ETag") or "", response.headers.get("Content-Length")
        tag = "" if tag.startswith("W/") else tag  # a weak tag promises no equal bytes
        rest = response.status == 206
        if self._known and self._offset and tag != self.tag:
            raise ChangedError("the file was changed while it was read")
        begin = f"bytes {self._offset}-"
        if rest and not response.headers.get("Content-Range", begin).startswith(begin):
            raise OSError("the server sent another part of the file than it was asked for")
        self.tag, self._known = tag, True
        self.length = None if length is None else int(length) + (self._offset if rest else 0)
        self._response = response
        if self._offset and not rest:
            self._skip(self._offset)
        return 0

    def _skip(self, count: int) -> None:
        """Pass over what came before: a server without ranges sends everything again."""
        assert self._response is not None
        while count:
            passed = len(self._response.read(min(count, 2**20)))
            if not passed:
                raise ConnectionError("the connection was lost before the position at which to resume")
            count -= passed

    def _disconnect(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()


class ChangedError(OSError):
    """Going on would join two files."""


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http(s) alone: a redirection must not lead to a file or to another protocol."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _passes(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _PASSING
    return not isinstance(error, ValueError)


def _final(error: Exception, tries: int) -> OSError:
    """Return the error to end with; its text goes on a sentence that names the file."""
    if isinstance(error, urllib.error.HTTPError) and error.code in (404, 410):
        return FileNotFoundError(f"the server has no such file ({error.code})")
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    reason = str(cause or type(cause).__name__)
    if isinstance(cause, TimeoutError):
        reason = f"no answer within {TIMEOUT:g} s"
    elif isinstance(error, urllib.error.HTTPError):
        reason = f"the server answered {error.code} {error.reason}".rstrip()
    return OSError(reason + (f", tried {tries} times" if tries > 1 else ""))
