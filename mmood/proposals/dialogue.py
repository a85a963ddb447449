"""How a method talks to a model: it yields rounds of questions and is sent their answers.

So a method is a generator that neither asks nor writes: a dry run looks at its first round, and a test plays the model.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, final

from mmood.chat import DEFAULTS, Answer, LanguageModel, Message, Question
from mmood.chat.questions import Plain
from mmood.output.console import progress_bar

T = TypeVar("T")


@final
@dataclass(frozen=True)
class Round:
    """Questions that do not depend on each other's answers.

    Attributes:
        title: what they ask for, for the progress bar.
        questions: the questions; answers come in their order.
    """

    title: str
    questions: list[Question]


Dialogue = Generator[Round, list[Answer], T]
"""Yields rounds, is sent their answers, and returns what it made of them."""


@final
@dataclass(frozen=True)
class Speaker:
    """Makes questions of messages.

    Attributes:
        model: name of the model at the endpoint.
        parameters: of each request.
    """

    model: str
    parameters: Mapping[str, Plain] = field(default_factory=lambda: DEFAULTS)

    def question(self, messages: tuple[Message, ...]) -> Question:
        """Return the question that these messages are."""
        return Question(self.model, messages, self.parameters)


def held(dialogue: Dialogue[T], model: LanguageModel, quiet: bool = False) -> T:
    """Return what a dialogue ends with, after asking a model all that it asks.

    Raises:
        MmoodError: the model does not answer, see `LanguageModel.answer`, or its answers are of no use.
    """
    try:
        asked = next(dialogue)
        while True:
            with progress_bar(asked.title, len(asked.questions), quiet) as bar:
                answers = model.answer(asked.questions, partial(bar.advance, 1))
            asked = dialogue.send(answers)
    except StopIteration as ended:
        result: T = ended.value
        return result
