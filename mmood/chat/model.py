"""A language model as mmood asks it: many questions at a time, each of them once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

from mmood.chat.answers import Answer
from mmood.chat.cache import AnswerCache
from mmood.chat.endpoint import Endpoint
from mmood.chat.questions import Question
from mmood.chat.threads import in_threads
from mmood.errors import MmoodError
from mmood.output.printing import complain


@final
@dataclass(frozen=True)
class Usage:
    """What the answers of a run have cost.

    Attributes:
        asked: requests that the endpoint has answered.
        kept: answers taken from the cache.
        tokens_in: tokens of the requests, where the endpoint counts them.
        tokens_out: tokens of their answers, likewise.
    """

    asked: int = 0
    kept: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def cost(self, price_in: float, price_out: float) -> float:
        """Return the cost of what was asked, at prices per million tokens.

        >>> Usage(asked=1, tokens_in=2_000_000, tokens_out=500_000).cost(0.5, 2.0)
        2.0
        """
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6


@final
class LanguageModel:
    """Answers questions: from the cache, or else from an endpoint, whose answers go into the cache at once.

    Args:
        cache: the answers so far.
        endpoint: whom to ask; None to ask nobody (`--offline`).
    """

    def __init__(self, cache: AnswerCache, endpoint: Endpoint | None) -> None:
        self.cache = cache
        self.endpoint = endpoint
        self.usage = Usage()
        self._ask: Callable[[Question], Answer] | None = None

    def answer(self, questions: Sequence[Question], advance: Callable[[], object] = lambda: None) -> list[Answer]:
        """Return the answer to each question, in order; equal questions are asked once.

        Args:
            questions: what to ask.
            advance: called for each different question when its answer is there.

        Raises:
            MmoodError: an answer is missing and there is nobody to ask, or the endpoint fails. Every answer that has
                come is in the cache.
        """
        different = {question.key: question for question in questions}
        found: dict[str, Answer] = {}
        for key, question in different.items():
            if (kept := self.cache.get(question)) is not None:
                found[key] = kept
                advance()
        self.usage = replace(self.usage, kept=self.usage.kept + len(found))
        missing = [question for key, question in different.items() if key not in found]
        if missing:
            self._ask_all(missing, found, advance)
        return [found[question.key] for question in questions]

    def missing(self, questions: Sequence[Question]) -> list[Question]:
        """Return the different questions among these that the cache has no answer to."""
        return [q for q in {question.key: question for question in questions}.values() if self.cache.get(q) is None]

    def _ask_all(self, missing: list[Question], found: dict[str, Answer], advance: Callable[[], object]) -> None:
        ask, threads = self._asker(missing)
        begun = len(found)
        try:
            for question, answer in in_threads(ask, missing, threads):
                found[question.key] = answer
                self.usage = replace(
                    self.usage,
                    asked=self.usage.asked + 1,
                    tokens_in=self.usage.tokens_in + (answer.tokens_in or 0),
                    tokens_out=self.usage.tokens_out + (answer.tokens_out or 0),
                )
                advance()
        except MmoodError as error:
            raise MmoodError(
                f"{error} {len(found) - begun:,} of {len(missing):,} answers have come and are kept in "
                f"{self.cache.folder}; the same command asks for the others."
            ) from error

    def _asker(self, missing: list[Question]) -> tuple[Callable[[Question], Answer], int]:
        """Return what asks a question and keeps its answer, and the number of threads that may do so at a time."""
        if self.endpoint is None:
            raise MmoodError(
                f"{len(missing):,} answers are missing in {self.cache.folder} (the first is {missing[0].key[:12]}), "
                "and offline nobody is asked; name the folder that has them (cache), or switch offline off."
            )
        if self._ask is None:
            self._ask = _client(self.endpoint)
        ask = self._ask

        def kept(question: Question) -> Answer:
            return self.cache.put(question, ask(question))

        return kept, self.endpoint.parallel


def _client(endpoint: Endpoint) -> Callable[[Question], Answer]:
    try:
        from mmood.chat.client import ChatClient
    except ModuleNotFoundError as error:
        raise MmoodError(
            f"Asking a language model needs the module '{error.name}'; install it with `pip install 'mmood[llm]'`."
        ) from error
    client = ChatClient(endpoint)
    if not endpoint.is_encrypted:
        complain(f"What is sent to {endpoint.url} crosses the network unencrypted; https would protect it.")
    return client.ask
