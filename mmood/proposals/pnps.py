"""Texts for PNPS (arXiv 2511.10923): positive and negative descriptions of each ID class by a language model.

The paper's prompts and numbers of texts are not known; ours are five of each kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from mmood.chat import Answer, Message, Question
from mmood.chat.parsing import parse_object, strings_of
from mmood.proposals.dialogue import Dialogue, Round, Speaker
from mmood.proposals.prompting import Prompt, filled, load_prompt
from mmood.proposals.proposal import AnswerReader, short_key
from mmood.words.class_texts import ClassTexts
from mmood.words.cleaning import clean_text

PER_KIND = 5


@final
@dataclass(frozen=True)
class Description:
    """The texts of all ID classes.

    Attributes:
        texts: of each class.
        settings: of the method, as plain data.
        prompts: those that it used.
        answered_by: the models that the endpoint says have answered.
        notes: what a user should know of the answers, a sentence each.
    """

    texts: tuple[ClassTexts, ...]
    settings: Mapping[str, object]
    prompts: tuple[Prompt, ...]
    answered_by: tuple[str, ...]
    notes: tuple[str, ...]


def describe(speaker: Speaker, class_names: Sequence[str], per_kind: int = PER_KIND) -> Dialogue[Description]:
    """Ask for descriptions of each class, and once more where the answer is not the object that was asked for.

    A class without usable texts after that has plain ones of ours; a note names such classes.

    Args:
        speaker: who asks.
        class_names: the ID classes.
        per_kind: positive and negative texts to ask for.
    """
    prompt, reader = load_prompt("pnps"), AnswerReader()
    asked = list(dict.fromkeys(class_names))
    questions = {name: speaker.question(prompt.messages({"class": name, "count": per_kind})) for name in asked}
    found: dict[str, ClassTexts] = {}
    for title in ("asking for descriptions", "asking again"):
        missing = [name for name in asked if name not in found]
        if not missing:
            break
        answers = yield Round(title, [questions[name] for name in missing])
        for name, answer in zip(missing, answers, strict=True):
            texts = _texts(name, answer, questions[name], per_kind)
            reader.count(answer, useful=texts is not None)
            if texts is not None:
                found[name] = texts
            questions[name] = _again(speaker, prompt, questions[name], answer, per_kind)
    plain = [name for name in asked if name not in found]
    notes = [*reader.notes(), *([_plain_note(plain, len(asked))] if plain else [])]
    ordered = tuple(found.get(name) or _plain_texts(name) for name in asked)
    return Description(ordered, {"per_kind": per_kind, "plain": plain}, (prompt,), reader.answered_by, tuple(notes))


def _texts(name: str, answer: Answer, question: Question, per_kind: int) -> ClassTexts | None:
    """Return the texts in an answer; None unless there are some of both kinds."""
    found = parse_object(answer.text)
    positive, negative = (_cleaned(found, kind)[:per_kind] for kind in ("positive", "negative"))
    return ClassTexts(name, positive, negative, short_key(question)) if positive and negative else None


def _cleaned(found: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    lists = [value for key, value in found.items() if key.strip().lower().startswith(kind)]
    texts = (clean_text(text) for value in lists for text in strings_of(value))
    return tuple(dict.fromkeys(text for text in texts if text))


def _again(speaker: Speaker, prompt: Prompt, question: Question, answer: Answer, per_kind: int) -> Question:
    said = Message("assistant", answer.text or "-")  # some endpoints refuse a turn without a text
    return speaker.question((*question.messages, said, Message("user", filled(prompt.follow_up, {"count": per_kind}))))


def _plain_texts(name: str) -> ClassTexts:
    return ClassTexts(name, (f"a photo of a {name}",), (f"a photo of something that resembles a {name} but is none",))


def _plain_note(plain: Sequence[str], classes: int) -> str:
    return (
        f"{len(plain):,} of {classes:,} classes have plain texts of mmood's, as no answer was usable: "
        f"{', '.join(plain[:5])}{', ...' if len(plain) > 5 else ''}."
    )
