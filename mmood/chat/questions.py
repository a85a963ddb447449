"""What is sent to a language model: messages of text and images, as the body of an OpenAI-compatible chat request."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, final

from mmood.errors import MmoodError

Role = Literal["system", "user", "assistant"]
Plain = str | int | float | bool | None

_OURS = ("model", "messages", "stream", "n")
DEFAULTS: Mapping[str, Plain] = {"temperature": 0.0, "seed": 0, "max_tokens": 1024}
"""Parameters of a request: as repeatable as an endpoint can be, and long enough for a list of names."""


@final
@dataclass(frozen=True)
class Message:
    """A turn of a conversation.

    Attributes:
        role: who speaks.
        text: what is said.
        images: JPEG files that go with it, see `small_jpeg`.
    """

    role: Role
    text: str
    images: tuple[bytes, ...] = ()


@final
@dataclass(frozen=True)
class Question:
    """A request for one answer.

    Attributes:
        model: name of the model at the endpoint.
        messages: the conversation so far.
        parameters: further fields of the request; one that is None is not sent.

    Raises:
        MmoodError: a parameter is no plain value, or one that mmood sets itself.
    """

    model: str
    messages: tuple[Message, ...]
    parameters: Mapping[str, Plain] = field(default_factory=lambda: DEFAULTS)

    def __post_init__(self) -> None:
        for name, value in self.parameters.items():
            if name in _OURS:
                raise MmoodError(f"The parameter '{name}' of a request is set by mmood; leave it out.")
            if not isinstance(value, Plain):
                raise MmoodError(f"The parameter '{name}' of a request is {value!r:.60}; it must be a plain value.")

    @cached_property
    def key(self) -> str:
        """The sha256 (hex) of model, messages, image bytes and parameters, under which the answer is kept."""
        return hashlib.sha256(json.dumps(self.stated(), sort_keys=True).encode()).hexdigest()

    def payload(self) -> dict[str, object]:
        """Return the body of the request. Besides it, only the key of the endpoint is sent."""
        return self._body(_data_url)

    def stated(self) -> dict[str, object]:
        """Return the body with the sha256 and the size of each image in place of its content."""
        return self._body(_fingerprint)

    def _body(self, url: Callable[[bytes], str]) -> dict[str, object]:
        sent = {name: value for name, value in sorted(self.parameters.items()) if value is not None}
        return {"model": self.model, "messages": [_turn(message, url) for message in self.messages], **sent}


def _turn(message: Message, url: Callable[[bytes], str]) -> dict[str, object]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    shown = [{"type": "image_url", "image_url": {"url": url(image)}} for image in message.images]
    return {"role": message.role, "content": [*shown, {"type": "text", "text": message.text}]}


def _fingerprint(image: bytes) -> str:
    return f"sha256:{hashlib.sha256(image).hexdigest()} ({len(image)} bytes of JPEG)"


def _data_url(image: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
