"""Lists whose entries are whole prompts: the words in them, so that no prompt is put around a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from mmood.errors import MmoodError
from mmood.words.templates import KINDS, Kind, Templates

PUBLISHED = Templates()
"""The prompts in which the authors of NegLabel ship their list."""


def without_prompts(
    entries: Sequence[tuple[str, Kind | None]], templates: Templates, what: str
) -> list[tuple[str, Kind]]:
    """Return words and their kinds: the entries themselves, or, where all are whole prompts, the words in these.

    An entry is a whole prompt if it is a word in one of the templates, or in a published one, but for capitals and a
    full stop. Up to half of the entries may be so by chance, such as "the hague". With a template "{}" and no other,
    all entries are used as they are.

    Args:
        entries: cleaned texts, each with its kind if the file says one.
        templates: that words are put into.
        what: begins the sentence of an error.

    Raises:
        MmoodError: most entries are whole prompts and some are not.

    >>> without_prompts([("the nice sea", None), ("this is a blue photo", None)], Templates(), "The list")
    [('sea', 'noun'), ('blue', 'adjective')]
    >>> without_prompts([("sea", None), ("blue", "adjective")], Templates(), "The list")
    [('sea', 'noun'), ('blue', 'adjective')]
    """
    found = [_taken_out(text, kind, templates) for text, kind in entries]
    prompts = [entry for entry, inside in zip(entries, found, strict=True) if inside is not None]
    if not prompts or 2 * len(prompts) <= len(entries):
        return [(text, kind or "noun") for text, kind in entries]
    if len(prompts) < len(entries):
        plain = next(text for (text, _), inside in zip(entries, found, strict=True) if inside is None)
        raise MmoodError(
            f"{what} has {len(prompts)} whole prompts such as '{prompts[0][0]:.60}' among {len(entries)} entries, and "
            f"others such as '{plain:.60}'; give only words, or only whole prompts, or set mining.templates.noun and "
            "mining.templates.adjective to '{}' to use all as they are."
        )
    return [inside for inside in found if inside is not None]


def _taken_out(text: str, kind: Kind | None, templates: Templates) -> tuple[str, Kind] | None:
    """Return the word in a whole prompt, and its kind; None if the text is no whole prompt."""
    for of in KINDS if kind is None else (kind,):
        own = templates.of(of)
        if own == ("{}",):
            continue
        insides = [_inside(text, template) for template in (*own, *PUBLISHED.of(of))]
        if words := [word for word in insides if word]:
            return min(words, key=len), of
    return None


def _inside(text: str, template: str) -> str:
    """Return the word in a text that is a template filled in; "" if it is none, or the template has no word around."""
    before, _, behind = template.lower().rstrip(".").partition("{}")
    bare = text.rstrip(".")
    inside = bare.removeprefix(before).removesuffix(behind)
    return inside if (before or behind) and before + inside + behind == bare else ""
