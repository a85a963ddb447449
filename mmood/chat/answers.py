"""What a language model answers: a text, and what its endpoint says of it. All of it is untrusted data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from mmood.errors import MmoodError
from mmood.files import Fields, parse_json

LONGEST = 2**18
"""Characters of an answer that are read, at most."""


@final
@dataclass(frozen=True)
class Answer:
    """An answer to a question.

    Attributes:
        text: what the model wrote; empty if it wrote nothing.
        model: name of the model that the endpoint says has answered.
        cut: the answer ended at the limit of its tokens.
        tokens_in: tokens of the question; None where the endpoint does not count them.
        tokens_out: tokens of the answer, likewise.
    """

    text: str
    model: str
    cut: bool
    tokens_in: int | None
    tokens_out: int | None

    def to_document(self) -> dict[str, object]:
        """Return the answer as plain data."""
        return {
            "text": self.text,
            "model": self.model,
            "cut": self.cut,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
        }


def answer_of(document: Fields) -> Answer:
    """Return the answer of plain data; MmoodError if it is another kind of data."""
    return Answer(
        document.text("text"),
        document.text("model"),
        document.flag("cut"),
        document.count("tokens_in") if document.has("tokens_in") else None,
        document.count("tokens_out") if document.has("tokens_out") else None,
    )


def parse_completion(body: bytes, where: str) -> Answer:
    """Return the answer in the body of a chat completion.

    Args:
        body: a JSON object with `choices`, of which the first is taken, and perhaps `model` and `usage`.
        where: begins the sentence of an error.

    Raises:
        MmoodError: it is none.
    """
    fields = Fields(parse_json(body, where), where)
    choices = fields.children("choices")
    if not choices:
        raise MmoodError(f"{where} has no choices.")
    message = choices[0].child("message")
    text = message.text("content") if message.has("content") else ""
    counted = fields.child("usage") if fields.has("usage") else Fields({}, where)
    return Answer(
        text[:LONGEST],
        fields.text("model")[:256] if fields.has("model") else "",
        choices[0].raw.get("finish_reason") == "length" or len(text) > LONGEST,
        counted.count("prompt_tokens") if counted.has("prompt_tokens") else None,
        counted.count("completion_tokens") if counted.has("completion_tokens") else None,
    )
