"""The methods by name: what each needs, and the file that it ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from mmood.errors import MmoodError
from mmood.proposals import eoe, mm_ood, pnps
from mmood.proposals.dialogue import Dialogue, Speaker
from mmood.proposals.per_class import PER_CLASS, Images
from mmood.proposals.prompting import Prompt
from mmood.proposals.proposal import Proposal, half_of_each
from mmood.proposals.wordnet import Kind, WordNetSettings, propose_from_wordnet
from mmood.settings import check_count
from mmood.words.class_texts import TextsFile
from mmood.words.names_file import NamesFile
from mmood.words.proposed import Origin, origin_for
from mmood.words.taxonomy import Taxonomy

ASKING = ("eoe-far", "eoe-near", "eoe-fine", "mm-ood", "pnps")
"""The methods that ask a language model."""
METHODS = ("wordnet", *ASKING)


@final
@dataclass(frozen=True)
class Amounts:
    """How much a method asks for.

    Attributes:
        count: far or fine names in all (EOE).
        per_round: names in a request for far or fine names (EOE).
        per_class: near names of each class (EOE, MM-OOD).
        far: amounts of MM-OOD's far form.
        per_kind: texts of each kind and class (PNPS).
    """

    count: int = eoe.COUNT
    per_round: int = eoe.PER_ROUND
    per_class: int = PER_CLASS
    far: mm_ood.FarSettings = field(default_factory=mm_ood.FarSettings)
    per_kind: int = pnps.PER_KIND

    def __post_init__(self) -> None:
        check_count("count", self.count)
        check_count("per_round", self.per_round)
        check_count("per_class", self.per_class)
        check_count("per_kind", self.per_kind)


@final
@dataclass(frozen=True)
class Task:
    """What to ask a language model for.

    Attributes:
        method: one of `ASKING`.
        class_names: the ID classes.
        speaker: who asks.
        amounts: how much.
        kind: of names that MM-OOD proposes.
        images: of each ID class, for MM-OOD's near names.
        render: makes an image of a name, for MM-OOD's far names.
    """

    method: str
    class_names: Sequence[str]
    speaker: Speaker
    amounts: Amounts = field(default_factory=Amounts)
    kind: Kind = "both"
    images: Images = field(default_factory=dict)
    render: mm_ood.Render | None = None


@final
@dataclass(frozen=True)
class Outcome:
    """A file that is to be saved, and what a user should know of it, a sentence each."""

    file: NamesFile | TextsFile
    notes: tuple[str, ...]


def dialogue(task: Task) -> Dialogue[Outcome]:
    """Hold the dialogue of a task's method; it ends with the file."""
    if task.method == "pnps":
        described = yield from pnps.describe(task.speaker, task.class_names, task.amounts.per_kind)
        origin = _origin(task, described.prompts, described.settings, described.answered_by)
        return Outcome(TextsFile(origin, described.texts), described.notes)
    proposal = yield from _names(task)
    origin = _origin(task, proposal.prompts, proposal.settings, proposal.answered_by)
    return _outcome(origin, proposal)


def from_wordnet(taxonomy: Taxonomy, class_names: Sequence[str], settings: WordNetSettings) -> Outcome:
    """Return the file of the method that asks nobody."""
    proposal = propose_from_wordnet(taxonomy, class_names, settings)
    return _outcome(origin_for("wordnet", class_names, {"settings": dict(proposal.settings)}), proposal)


def _names(task: Task) -> Dialogue[Proposal]:
    speaker, names, amounts = task.speaker, task.class_names, task.amounts
    match task.method:
        case "eoe-near":
            return (yield from eoe.propose_near(speaker, names, amounts.per_class))
        case "eoe-far":
            return (yield from eoe.propose_far(speaker, names, amounts.count, amounts.per_round))
        case "eoe-fine":
            return (yield from eoe.propose_fine(speaker, names, amounts.count, amounts.per_round))
    if task.kind == "near":
        return (yield from mm_ood.propose_near(speaker, names, task.images, amounts.per_class))
    if task.kind == "far":
        return (yield from mm_ood.propose_far(speaker, names, amounts.far, task.render))
    near = yield from mm_ood.propose_near(speaker, names, task.images, amounts.per_class)
    far = yield from mm_ood.propose_far(speaker, names, amounts.far, task.render)
    return half_of_each(near, far)


def _outcome(origin: Origin, proposal: Proposal) -> Outcome:
    if not proposal.names:
        reason = " ".join(proposal.notes) or "All were dropped."
        raise MmoodError(f"The method {origin.method} ends without a single name: {reason} Try another model.")
    dropped = [f"{len(entries):,}: {reason}" for reason, entries in proposal.dropped.items()]
    notes = (*proposal.notes, *([f"Not taken: {'; '.join(dropped)}."] if dropped else []))
    return Outcome(NamesFile(origin, proposal.names, proposal.dropped), notes)


def _origin(
    task: Task, prompts: Sequence[Prompt], settings: Mapping[str, object], answered_by: Sequence[str]
) -> Origin:
    return origin_for(
        task.method,
        task.class_names,
        {
            "model": task.speaker.model,
            "answered_by": list(answered_by),
            "parameters": dict(task.speaker.parameters),
            "prompts": {prompt.name: prompt.record() for prompt in prompts},
            "settings": dict(settings),
        },
    )
