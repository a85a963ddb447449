"""What a method returns: names, and what became of the answers that they were read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import final

from mmood.chat import Answer, Question
from mmood.chat.parsing import ParsedList, parse_list
from mmood.proposals.prompting import Prompt
from mmood.proposals.selection import Selection
from mmood.words.names_file import ProposedName


@final
@dataclass(frozen=True)
class Proposal:
    """The names of a method.

    Attributes:
        names: in order.
        settings: of the method, as plain data.
        prompts: those that it used.
        dropped: reason -> entries that were not taken.
        answered_by: the models that the endpoint says have answered.
        notes: what a user should know of the answers, a sentence each.
    """

    names: tuple[ProposedName, ...]
    settings: Mapping[str, object]
    prompts: tuple[Prompt, ...] = ()
    dropped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    answered_by: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@final
class AnswerReader:
    """Reads lists of names out of answers, and counts those that are of no or little use."""

    def __init__(self) -> None:
        self._answers = self._refused = self._empty = self._cut = 0
        self._models: set[str] = set()

    def read(self, answer: Answer) -> ParsedList:
        """Return the list in an answer."""
        parsed = parse_list(answer.text, answer.cut)
        self.count(answer, useful=bool(parsed.entries), refused=parsed.refused)
        return parsed

    def count(self, answer: Answer, useful: bool, refused: bool = False) -> None:
        """Count an answer that was read."""
        self._models |= {answer.model} - {""}
        self._answers += 1
        self._refused += refused
        self._empty += not useful and not refused
        self._cut += answer.cut

    def proposal(self, selection: Selection, settings: Mapping[str, object], prompts: Sequence[Prompt]) -> Proposal:
        """Return the names of a selection, with what was counted."""
        return Proposal(selection.names, settings, tuple(prompts), selection.dropped, self.answered_by, self.notes())

    @property
    def answered_by(self) -> tuple[str, ...]:
        """The names under which models have answered, sorted."""
        return tuple(sorted(self._models))

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for each kind of answer that was counted."""
        kinds = (
            (self._refused, "are refusals"),
            (self._empty, "hold nothing that was asked for"),
            (self._cut, "end at the limit of their tokens, see --max_tokens"),
        )
        return tuple(f"{number:,} of {self._answers:,} answers {what}." for number, what in kinds if number)


def short_key(question: Question) -> str:
    """Return the digits by which files refer to an answer."""
    return question.key[:16]


def spread(names: Sequence[ProposedName]) -> list[ProposedName]:
    """Return names in turns: the first of each source, then the second of each, and so on.

    >>> a, b, c = (ProposedName(n, "far", s) for n, s in (("a", "x"), ("b", "x"), ("c", "y")))
    >>> [entry.name for entry in spread([a, b, c])]
    ['a', 'c', 'b']
    """
    by_source: dict[str, list[ProposedName]] = {}
    for entry in names:
        by_source.setdefault(entry.source, []).append(entry)
    return [entry for entry in chain.from_iterable(zip_longest(*by_source.values())) if entry is not None]


def half_of_each(near: Proposal, far: Proposal) -> Proposal:
    """Return as many names as `far` has, half of them near and half far, each half spread over its sources.

    It is for test images of which nobody knows which kind of OoD they are (MM-OOD, arXiv 2601.14052).
    """
    half = len(far.names) // 2
    chosen = spread(near.names)[:half]
    known = {entry.name for entry in chosen}
    chosen += [entry for entry in spread(far.names) if entry.name not in known][: len(far.names) - half]
    dropped = {
        reason: tuple(dict.fromkeys((*near.dropped.get(reason, ()), *far.dropped.get(reason, ()))))
        for reason in (*near.dropped, *far.dropped)
    }
    return Proposal(
        tuple(chosen),
        {**near.settings, **far.settings, "kind": "both"},
        (*near.prompts, *far.prompts),
        dropped,
        tuple(sorted({*near.answered_by, *far.answered_by})),
        (*near.notes, *far.notes),
    )
