"""Where a language model answers, and how much is expected of it."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import final
from urllib.parse import urlsplit

from mmood.errors import MmoodError
from mmood.settings import check_count, check_number

USUAL_KEY = "MMOOD_LLM_KEY"
NO_KEY = "none"


@final
@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible endpoint, and the limits that it is held to.

    Attributes:
        url: base address, such as "http://localhost:8000/v1"; requests go to its `/chat/completions`.
        key_env: environment variable with the endpoint's key; "none" for an endpoint that takes none. On this machine
            an endpoint may go without one.
        timeout: seconds for an answer.
        retries: how often a request is sent again after a failure that may pass.
        pause: seconds before the first of these; each further pause is twice as long, up to half a minute.
        parallel: requests under way at a time.
        rate: requests per minute, at most; None for no limit.
        largest: bytes of a response, at most.
        patience: seconds that the endpoint may ask us to wait; one that asks for more is given up.
    """

    url: str
    key_env: str = USUAL_KEY
    timeout: float = 120.0
    retries: int = 5
    pause: float = 1.0
    parallel: int = 4
    rate: float | None = None
    largest: int = 2**22
    patience: float = 120.0

    def __post_init__(self) -> None:
        check_number("endpoint.timeout", self.timeout, above=0)
        check_count("endpoint.retries", self.retries, least=0)
        check_number("endpoint.pause", self.pause, least=0)
        check_count("endpoint.parallel", self.parallel, most=256)
        check_number("endpoint.rate", self.rate, above=0, null="no limit")
        check_count("endpoint.largest", self.largest)
        check_number("endpoint.patience", self.patience, least=0)
        _check_url(self.url)

    @property
    def is_local(self) -> bool:
        """Whether the endpoint runs on this machine."""
        host = urlsplit(self.url).hostname or ""
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def key(self) -> str | None:
        """Return the endpoint's key from the environment; None for an endpoint without one.

        Raises:
            MmoodError: the variable is not set, or what it holds cannot be a key.
        """
        if self.key_env == NO_KEY:
            return None
        found = os.environ.get(self.key_env)
        if not found and self.is_local and self.key_env == USUAL_KEY:
            return None
        if not found:
            raise MmoodError(
                f"The environment variable {self.key_env} is not set; it must hold the key of {self.url}. For an "
                f"endpoint without keys, use --key_env {NO_KEY}."
            )
        if not found.isascii() or not found.isprintable():
            raise MmoodError(f"The key in {self.key_env} has characters that no key has; copy it again.")
        return found

    @property
    def is_encrypted(self) -> bool:
        """Whether nobody on the way can read what is sent."""
        return self.is_local or urlsplit(self.url).scheme == "https"


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise MmoodError(f"The endpoint '{url:.80}' is no address: {error}.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise MmoodError(f"The endpoint is '{url:.80}'; it must be an address such as http://localhost:8000/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise MmoodError(
            f"The endpoint must be an address without a password, query or fragment (that of {host} has one); keys "
            "belong into an environment variable, see --key_env."
        )
