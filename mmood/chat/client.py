"""One question over HTTP, tried again where a failure may pass."""

from __future__ import annotations

import email.utils
import math
import random
import time
from typing import final

import httpx2
import openai

from mmood.chat.answers import Answer, parse_completion
from mmood.chat.endpoint import Endpoint
from mmood.chat.pacing import Pace
from mmood.chat.questions import Question
from mmood.chat.transport import ResponseError, http_client
from mmood.errors import MmoodError

_UNUSED = "unused"
_PASSING = (408, 409, 425, 429)
_LONGEST_PAUSE = 30.0


class _PassingError(Exception):
    """A failure that may be over at the next try.

    Args:
        reason: what happened, told of the endpoint.
        pause: seconds that it asks to wait.
    """

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


@final
class ChatClient:
    """Sends questions to an endpoint. Threads may share it.

    Args:
        endpoint: where to, and its limits.

    Raises:
        MmoodError: there is no key for it.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._key = endpoint.key()
        self._pace = Pace(endpoint.rate)
        self._random = random.Random()  # noqa: S311 - spreads the retries of several threads
        # Retries are ours: all threads wait together, and a broken body is tried again too. The transport adds the key.
        self._client = openai.OpenAI(
            api_key=_UNUSED, base_url=endpoint.url, max_retries=0, http_client=http_client(endpoint, self._key)
        )

    def ask(self, question: Question) -> Answer:
        """Return the endpoint's answer.

        Raises:
            MmoodError: the endpoint refuses the request, or none of the tries brings an answer.
        """
        for tried in range(self.endpoint.retries + 1):
            self._pace.wait()
            try:
                return self._try(question)
            except _PassingError as error:
                if tried == self.endpoint.retries:
                    raise self._failed(f"{error} (tries: {tried + 1})") from error
                self._rest(error, tried)
        raise AssertionError("the last try returns or raises")

    def _try(self, question: Question) -> Answer:
        try:
            response = self._client.post("/chat/completions", cast_to=httpx2.Response, body=question.payload())
        except ResponseError as error:
            raise self._failed(str(error)) from error
        except openai.APIStatusError as error:
            raise self._refused(error) from error
        except (openai.APITimeoutError, httpx2.TimeoutException) as error:
            raise _PassingError(f"does not answer within {self.endpoint.timeout:g} s") from error
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            raise _PassingError(f"cannot be reached, or breaks off: {_short(error.__cause__ or error)}") from error
        try:
            return parse_completion(response.content, "its response")
        except MmoodError as error:
            raise _PassingError(f"does not answer as a chat endpoint does: {_short(error)}") from error

    def _refused(self, error: openai.APIStatusError) -> Exception:
        """Return the error of a response that is none of success: one that may pass, or one that will not."""
        said = _short(_message(error.body) or error.response.reason_phrase)
        reason = f"answers {error.status_code} ({self._without_key(said)})"
        if error.status_code not in _PASSING and error.status_code < 500:
            hint = "; the address is to be the one before /chat/completions" if error.status_code == 404 else ""
            return self._failed(f"{reason}{hint}")
        return _PassingError(reason, _asked_pause(error.response.headers.get("retry-after")))

    def _rest(self, error: _PassingError, tried: int) -> None:
        """Wait before the next try: as long as the endpoint asks, or a time that doubles with each try.

        Raises:
            MmoodError: the endpoint asks for more than its user has patience for.
        """
        if error.pause is None:
            time.sleep(min(_LONGEST_PAUSE, self.endpoint.pause * 2**tried) * self._random.uniform(0.75, 1.25))
        elif error.pause > self.endpoint.patience:
            raise self._failed(f"{error} and asks to wait {error.pause:,.0f} s, more than {self.endpoint.patience:g} s")
        else:
            self._pace.hold(error.pause)

    def _failed(self, reason: str) -> MmoodError:
        return MmoodError(f"The endpoint {self.endpoint.url} {reason}.")

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "the key") if self._key else text


def _message(body: object) -> str:
    """Return what an endpoint says in an error: `message`, as openai's client takes it out, or the whole body."""
    said = body.get("message") if isinstance(body, dict) else body
    return said if isinstance(said, str) else ""


def _short(said: object) -> str:
    """Return what somebody else says as a part of a sentence."""
    return " ".join(str(said).split())[:200].rstrip(".")


def _asked_pause(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which gives them or a date; None if it is neither.

    >>> _asked_pause("1.5"), _asked_pause("soon"), _asked_pause("Wed, 21 Oct 2015 07:28:00 GMT")
    (1.5, None, 0.0)
    """
    try:
        seconds = float(value or "")
    except ValueError:
        parts = email.utils.parsedate_tz(value)
        if parts is None:
            return None
        seconds = email.utils.mktime_tz(parts) - time.time()
    return max(0.0, seconds) if math.isfinite(seconds) else None
