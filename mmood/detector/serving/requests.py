"""From an HTTP request to encoded images, within limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import Request
from starlette.formparsers import MultiPartException, MultiPartParser

from mmood.detector.serving.limits import Limits, RefusedError

_RAW = ("application/octet-stream",)
_FORM = "multipart/form-data"


@dataclass(frozen=True)
class Upload:
    """An image of a request: what the client calls it, if anything, and its bytes."""

    name: str | None
    content: bytes


async def read_uploads(request: Request, limits: Limits) -> list[Upload]:
    """Return the images of a request.

    Raises:
        RefusedError: 413 for too many bytes or images, 415 for another type of content, 422 for none or a form that
            cannot be read.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind.startswith("image/") or kind in _RAW or kind == _FORM):
        raise RefusedError(
            415, f"The content type is '{kind:.60}'; send an image's bytes as image/* or {_RAW[0]}, or {_FORM}."
        )
    body = await _body(request, limits.bytes)
    if kind != _FORM:
        uploads = [Upload(None, body)] if body else []
    else:
        uploads = await _form(request, body, limits.images)
    if not uploads:
        raise RefusedError(422, "The request contains no image.")
    return uploads


async def _body(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit:
        raise RefusedError(413, f"The request has {declared:.20} bytes, more than {limit}.")
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise RefusedError(413, f"The request has more than {limit} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)


async def _form(request: Request, body: bytes, images: int) -> list[Upload]:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await MultiPartParser(request.headers, stream(), max_files=images, max_fields=images).parse()  # type: ignore[arg-type]
    except MultiPartException as error:
        if "many" in error.message.lower():
            raise RefusedError(413, f"The request has more than {images} images.") from error
        raise RefusedError(422, f"The form cannot be read: {error.message}") from error
    try:
        files = [value for _, value in form.multi_items() if not isinstance(value, str)]
        return [Upload(file.filename, await file.read()) for file in files]
    finally:
        await form.close()
