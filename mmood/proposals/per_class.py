"""Near names: what looks like each ID class, asked for class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmood.proposals.dialogue import Dialogue, Round, Speaker
from mmood.proposals.prompting import Prompt
from mmood.proposals.proposal import AnswerReader, Proposal, short_key
from mmood.proposals.selection import Selection

PER_CLASS = 3
"""Names of each class; that of EOE."""

Images = Mapping[str, Sequence[bytes]]
"""ID class -> JPEG files of it."""


def ask_per_class(
    speaker: Speaker, prompt: Prompt, class_names: Sequence[str], per_class: int, images: Images | None = None
) -> Dialogue[Proposal]:
    """Ask a question about each ID class, and drop names that share a word with any of them, as EOE does.

    Args:
        speaker: who asks.
        prompt: with `{class}` and `{count}`.
        class_names: the ID classes.
        per_class: names to ask for.
        images: that go with the question about a class.
    """
    selection, reader = Selection(class_names), AnswerReader()
    asked = list(dict.fromkeys(class_names))
    shown = images or {}
    questions = [
        speaker.question(prompt.messages({"class": name, "count": per_class}, tuple(shown.get(name, ()))))
        for name in asked
    ]
    answers = yield Round("asking for near names", questions)
    for name, question, answer in zip(asked, questions, answers, strict=True):
        for entry in reader.read(answer).entries:
            selection.take(entry, "near", False, name, short_key(question))
    return reader.proposal(selection, {"per_class": per_class, "share_words": False}, [prompt])
