"""The prompts of the methods: our own words, in a file for each with a version; names files record both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import cast, final

from mmood.chat.questions import Message, Role
from mmood.files import parse_yaml


@final
@dataclass(frozen=True)
class Prompt:
    """The turns of a conversation, with placeholders such as `{class}`.

    Attributes:
        name: of its file.
        version: raised whenever its words change.
        turns: role and text of each turn; the last is the question, and those before it are worked examples.
        follow_up: the text of the next question in the same conversation; "" if there is none.
        sha256: hash of all texts.
    """

    name: str
    version: int
    turns: tuple[tuple[Role, str], ...]
    follow_up: str
    sha256: str

    def messages(self, values: Mapping[str, object], images: tuple[bytes, ...] = ()) -> tuple[Message, ...]:
        """Return the conversation up to the question, with which the images go."""
        *before, (role, question) = self.turns
        return (
            *(Message(each, text) for each, text in before),
            Message(role, filled(question, values), images),
        )

    def record(self) -> dict[str, object]:
        """Return what names files say of the prompt."""
        return {"version": self.version, "sha256": self.sha256}


def load_prompt(name: str) -> Prompt:
    """Return a prompt of the package."""
    text = resources.files("mmood.proposals").joinpath(f"prompts/{name}.yaml").read_text("utf-8")
    document = parse_yaml(text, f"The prompt {name}")
    turns = tuple((cast(Role, role), said.strip()) for turn in document["turns"] for role, said in turn.items())
    follow_up = document.get("next", "").strip()
    digest = hashlib.sha256("\0".join([*(said for _, said in turns), follow_up]).encode()).hexdigest()
    return Prompt(name, document["version"], turns, follow_up, digest)


def filled(text: str, values: Mapping[str, object]) -> str:
    """Return a text with its placeholders replaced; braces that are none of them stay.

    >>> filled('a {class} as {"x": 1}', {"class": "sea {lion}"})
    'a sea {lion} as {"x": 1}'
    """
    parts = text.split("{")
    done = parts[0]
    for part in parts[1:]:
        name, closed, rest = part.partition("}")
        done += f"{values[name]}{rest}" if closed and name in values else "{" + part
    return done
