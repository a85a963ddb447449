"""MM-OOD (arXiv 2601.14052) in a static form: a model that sees images names outliers before any test image is scored.

The paper leaves much unspecified, so this form is inspired by it, every choice is a setting, and no number is promised.
Near OoD: names are conditioned on example images of each ID class. Far OoD: sketch (outliers of each broad category),
generate (images of them, by a program of the user's; off by default), elaborate (the list again, with these images). ID
images take no part in the far form, as they draw the names towards near OoD.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from mmood.errors import MmoodError
from mmood.proposals.dialogue import Dialogue, Round, Speaker
from mmood.proposals.per_class import PER_CLASS, Images, ask_per_class
from mmood.proposals.prompting import load_prompt
from mmood.proposals.proposal import AnswerReader, Proposal, short_key
from mmood.proposals.selection import Selection
from mmood.settings import check_count
from mmood.words.cleaning import clean_name

Render = Callable[[str], bytes]
"""Returns an image file of what a name says."""


@dataclass(frozen=True)
class FarSettings:
    """The choices of the far form.

    Attributes:
        per_category: names to ask for of each category: L = 12 K for K categories, as in the paper.
        categories: that the ID classes are sorted into, at most.
        rendered: names of each category that are rendered, at most.
    """

    per_category: int = 12
    categories: int = 20
    rendered: int = 4

    def __post_init__(self) -> None:
        check_count("per_category", self.per_category)
        check_count("categories", self.categories)
        check_count("rendered", self.rendered)


def propose_near(
    speaker: Speaker, class_names: Sequence[str], images: Images, per_class: int = PER_CLASS
) -> Dialogue[Proposal]:
    """Ask for things that look like the example images of each ID class.

    Args:
        speaker: who asks.
        class_names: the ID classes.
        images: of each ID class.
        per_class: names to ask for of each class.

    Raises:
        MmoodError: a class has no image.
    """
    bare = [name for name in class_names if not images.get(name)]
    if bare:
        raise MmoodError(f"{len(bare)} of the {len(class_names)} classes have no example image, such as '{bare[0]}'.")
    return ask_per_class(speaker, load_prompt("mm-ood-near"), class_names, per_class, images)


def propose_far(
    speaker: Speaker,
    class_names: Sequence[str],
    settings: FarSettings = FarSettings(),
    render: Render | None = None,
) -> Dialogue[Proposal]:
    """Sketch outliers of each broad category of the ID classes, perhaps render some, and elaborate the list.

    Args:
        speaker: who asks.
        class_names: the ID classes.
        settings: the amounts.
        render: makes an image of a name; None to elaborate from text alone.

    Raises:
        MmoodError: the model names no category.
    """
    reader, selection = AnswerReader(), Selection(class_names)
    categories = yield from _categories(speaker, class_names, settings.categories, reader)
    values = {"categories": ", ".join(categories), "count": settings.per_category}
    sketches = yield from _sketches(speaker, class_names, categories, values, reader)
    prompt = load_prompt("mm-ood-elaborate")
    questions = []
    for category, sketch in sketches.items():
        shown = tuple(render(name) for name in sketch[: settings.rendered]) if render else ()
        said = f" The images show the first {len(shown)} of them." if shown else ""
        more = {"category": category, "sketch": ", ".join(sketch), "images": said}
        questions.append(speaker.question(prompt.messages({**values, **more}, shown)))
    answers = yield Round("elaborating outliers", questions)
    for (category, sketch), question, answer in zip(sketches.items(), questions, answers, strict=True):
        for entry in reader.read(answer).entries or sketch:
            selection.take(entry, "far", True, category, short_key(question))
    used = [load_prompt(f"mm-ood-{step}") for step in ("categories", "sketch", "elaborate")]
    return reader.proposal(selection, {**asdict(settings), "render": render is not None, "share_words": True}, used)


def _categories(
    speaker: Speaker, class_names: Sequence[str], most: int, reader: AnswerReader
) -> Dialogue[tuple[str, ...]]:
    values = {"classes": ", ".join(class_names), "number": len(class_names), "count": most}
    (answer,) = yield Round(
        "asking for categories", [speaker.question(load_prompt("mm-ood-categories").messages(values))]
    )
    found = dict.fromkeys(name for entry in reader.read(answer).entries if (name := clean_name(entry)))
    if not found:
        raise MmoodError(
            f"The model names no categories of the {len(class_names)} classes; it answers '{answer.text.strip():.80}'. "
            "Try another model."
        )
    return tuple(found)[:most]


def _sketches(
    speaker: Speaker,
    class_names: Sequence[str],
    categories: Sequence[str],
    values: dict[str, object],
    reader: AnswerReader,
) -> Dialogue[dict[str, list[str]]]:
    """Ask for outliers of each category; those without any are left out."""
    prompt = load_prompt("mm-ood-sketch")
    questions = [speaker.question(prompt.messages({**values, "category": category})) for category in categories]
    answers = yield Round("sketching outliers", questions)
    sketches: dict[str, list[str]] = {}
    for category, answer in zip(categories, answers, strict=True):
        sketch = Selection(class_names)
        for entry in reader.read(answer).entries:
            sketch.take(entry, "far", True)
        if sketch.names:
            sketches[category] = [entry.name for entry in sketch.names]
    return sketches
