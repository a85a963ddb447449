"""Every public method of mmood, sorted into families by the module that it is defined in."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import mmood.scores
from mmood.dense import MODULES
from mmood.dense import scores as dense_scores
from mmood.dense.scores import AbstractDenseScore
from mmood.modules import AbstractDetector, prompt_learning
from mmood.modules import __all__ as module_names
from mmood.modules.prompt_learning import AbstractPromptMethod
from mmood.scores import AbstractScore


@dataclass(frozen=True)
class Family:
    """A page of methods.

    Attributes:
        slug: the name of its page.
        title: the heading of its page.
        modules: a method belongs here if it is defined in or below one of these. The longest name wins, so a new file
            of a room gets its methods onto the page of the room.
    """

    slug: str
    title: str
    modules: tuple[str, ...]


FAMILIES = (
    Family("zero-shot", "Zero-shot scores", ("mmood.scores.logits", "mmood.scores.sigmoid", "mmood.modules.zero_shot")),
    Family("negatives", "Negative labels", ("mmood.scores.negatives",)),
    Family("local", "Local scores", ("mmood.scores.local", "mmood.scores.scales")),
    Family("prompts", "Learned prompts", ("mmood.scores.learned", "mmood.modules.prompt_learning")),
    Family("probes", "Probes on frozen features", ("mmood.modules.probes", "mmood.scores.mixtures")),
    Family("fine-tuning", "Fine-tuning", ("mmood.modules",)),
    Family("feature-space", "Feature-space and post-hoc scores", ("mmood.scores",)),
    Family("streams", "Scores that learn from the test stream", ("mmood.scores.test_time",)),
    Family("dense", "Scores of pixels", ("mmood.dense",)),
)


def family_of(method: type) -> Family:
    """Return the family of a method.

    Raises:
        LookupError: it is defined in none of the rooms that have a page.
    """
    fitting = [
        (len(prefix), family)
        for family in FAMILIES
        for prefix in family.modules
        if f"{method.__module__}.".startswith(f"{prefix}.")
    ]
    if not fitting:
        raise LookupError(f"{method.__module__}.{method.__qualname__} belongs to no family; add its room to FAMILIES.")
    return max(fitting, key=lambda pair: pair[0])[1]


def methods() -> list[type]:
    """Return the public scores, modules and prompt learners of images and of pixels that can be used as they are."""
    bases = (AbstractScore, AbstractDetector, AbstractPromptMethod, AbstractDenseScore)
    found = dict.fromkeys(_named())
    return [one for one in found if not inspect.isabstract(one) and (issubclass(one, bases) or _is_dense(one))]


def _named() -> Iterator[type]:
    """Yield the classes that the rooms of methods offer."""
    faces = ((mmood.scores, mmood.scores.__all__), (importlib.import_module("mmood.modules"), module_names))
    for room, names in (*faces, (prompt_learning, prompt_learning.__all__)):
        yield from (value for name in names if inspect.isclass(value := getattr(room, name)))
    for name, place in MODULES.items():
        yield getattr(importlib.import_module(place), name)
    for value in vars(dense_scores).values():
        if inspect.isclass(value) and value.__module__ == dense_scores.__name__:
            yield value


def _is_dense(method: type) -> bool:
    return method.__name__ in MODULES


def methods_of(family: Family) -> list[type]:
    """Return the methods of a family: modules before scores, each by name."""
    found = [one for one in methods() if family_of(one) is family]
    return sorted(found, key=lambda one: (issubclass(one, (AbstractScore, AbstractDenseScore)), one.__name__.lower()))
