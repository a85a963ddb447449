"""EOE (ICML 2024, arXiv 2406.00806): a language model names outliers from the names of the ID classes alone.

Amounts, rounds and what is dropped are as in the paper's code; the words of the prompts are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from mmood.chat import Message
from mmood.proposals.dialogue import Dialogue, Round, Speaker
from mmood.proposals.per_class import PER_CLASS, ask_per_class
from mmood.proposals.prompting import filled, load_prompt
from mmood.proposals.proposal import AnswerReader, Proposal, short_key
from mmood.proposals.selection import Selection
from mmood.words.names_file import Group

COUNT = 500
PER_ROUND = 50


def propose_near(speaker: Speaker, class_names: Sequence[str], per_class: int = PER_CLASS) -> Dialogue[Proposal]:
    """Ask for things of another kind that look like each ID class; 3 names of each in the paper."""
    return ask_per_class(speaker, load_prompt("eoe-near"), class_names, per_class)


def propose_far(
    speaker: Speaker, class_names: Sequence[str], count: int = COUNT, per_round: int = PER_ROUND
) -> Dialogue[Proposal]:
    """Ask for things that look like a broad group of ID classes; only ID classes themselves are dropped.

    Args:
        speaker: who asks.
        class_names: the ID classes.
        count: names to ask for; 500 in the paper.
        per_round: names to ask for at a time, in one conversation; 50 in the paper.
    """
    return _ask_in_rounds(speaker, class_names, "far", count, per_round)


def propose_fine(
    speaker: Speaker, class_names: Sequence[str], count: int = COUNT, per_round: int = PER_ROUND
) -> Dialogue[Proposal]:
    """Ask for further members of the type that all ID classes share; see `propose_far`."""
    return _ask_in_rounds(speaker, class_names, "fine", count, per_round)


def _ask_in_rounds(
    speaker: Speaker, class_names: Sequence[str], group: Group, count: int, per_round: int
) -> Dialogue[Proposal]:
    prompt = load_prompt(f"eoe-{group}")
    selection, reader = Selection(class_names), AnswerReader()
    values = {"classes": ", ".join(class_names), "number": len(class_names), "count": min(per_round, count)}
    messages = prompt.messages(values)
    rounds = ceil(count / per_round)
    for number in range(rounds):
        question = speaker.question(messages)
        (answer,) = yield Round(f"asking for {group} names, round {number + 1} of {rounds}", [question])
        for entry in reader.read(answer).entries:
            if len(selection.taken) < count:
                selection.take(entry, group, True, "", short_key(question))
        said = Message("assistant", answer.text or "-")  # some endpoints refuse a turn without a text
        messages = (*messages, said, Message("user", filled(prompt.follow_up, values)))
    return reader.proposal(selection, {"count": count, "per_round": per_round, "share_words": True}, [prompt])
