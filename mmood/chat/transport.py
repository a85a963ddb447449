"""HTTP to an untrusted endpoint: few headers go out, and what comes back is bounded in size and time.

httpx's own timeouts are those of single reads, so a response that drips would never end, and it reads a response of any
length. openai's client adds headers about the machine, which are none of the endpoint's business.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from typing import final

import httpx2

from mmood.chat.endpoint import Endpoint
from mmood.errors import MmoodError

_SENT = ("host", "content-type", "content-length", "accept", "connection")


class ResponseError(MmoodError):
    """A response that is not read on: too long, too slow, or compressed. The message says so of the endpoint."""


def http_client(endpoint: Endpoint, key: str | None) -> httpx2.Client:
    """Return the HTTP client for an endpoint and its key: no redirects, and the proxy that the environment names."""
    address = httpx2.URL(endpoint.url)
    direct = endpoint.is_local or urllib.request.proxy_bypass(address.host)
    proxy = None if direct else urllib.request.getproxies().get(address.scheme)
    return httpx2.Client(
        transport=_BoundedTransport(endpoint, key, httpx2.HTTPTransport(proxy=proxy)),
        timeout=endpoint.timeout,
        follow_redirects=False,
    )


@final
class _BoundedTransport(httpx2.BaseTransport):
    """Sends the headers that are needed, and reads a response within the endpoint's limits."""

    def __init__(self, endpoint: Endpoint, key: str | None, inner: httpx2.BaseTransport) -> None:
        self.endpoint = endpoint
        self.added = [("accept-encoding", "identity"), ("user-agent", "mmood")]
        self.added += [] if key is None else [("authorization", f"Bearer {key}")]
        self.inner = inner

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        deadline = time.monotonic() + self.endpoint.timeout
        headers = [(name, value) for name, value in request.headers.items() if name.lower() in _SENT]
        bare = httpx2.Request(
            request.method,
            request.url,
            headers=[*headers, *self.added],
            stream=request.stream,
            extensions=request.extensions,
        )
        response = self.inner.handle_request(bare)
        try:
            self._check_headers(response.headers)
        except ResponseError:
            response.close()
            raise
        assert isinstance(response.stream, httpx2.SyncByteStream)
        stream = _BoundedStream(response.stream, self.endpoint, deadline)
        return httpx2.Response(response.status_code, headers=response.headers, stream=stream)

    def close(self) -> None:
        self.inner.close()

    def _check_headers(self, headers: httpx2.Headers) -> None:
        stated = headers.get("content-length", "0")
        if not stated.isdecimal() or int(stated) > self.endpoint.largest:
            raise ResponseError(
                f"announces a response of {stated:.40} bytes, where at most {self.endpoint.largest:,} are read"
            )
        if headers.get("content-encoding", "identity") != "identity":
            raise ResponseError("compresses its response, although it was asked not to")


@final
class _BoundedStream(httpx2.SyncByteStream):
    """The body of a response, up to a number of bytes and to a moment."""

    def __init__(self, inner: httpx2.SyncByteStream, endpoint: Endpoint, deadline: float) -> None:
        self.inner = inner
        self.endpoint = endpoint
        self.deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        left = self.endpoint.largest
        for part in self.inner:
            left -= len(part)
            if left < 0:
                raise ResponseError(f"sends more than {self.endpoint.largest:,} bytes")
            if time.monotonic() > self.deadline:
                raise ResponseError(f"has not finished its response after {self.endpoint.timeout:g} s")
            yield part

    def close(self) -> None:
        self.inner.close()
