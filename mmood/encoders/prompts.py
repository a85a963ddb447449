"""Named sets of prompt templates; in a template `{}` stands for the class name."""

from __future__ import annotations

from collections.abc import Sequence

from mmood.errors import MmoodError, unknown

TEMPLATES: dict[str, tuple[str, ...]] = {
    # MCM (Ming et al., NeurIPS 2022); NegLabel, GL-MCM. No full stop.
    "mcm": ("a photo of a {}",),
    # NegLabel's and CMA's prompt at inference.
    "the-nice": ("The nice {}",),
    # Adapting CLIP models for OoD detection (TMLR 2024), its zero-shot ensemble and pseudo-labels.
    "plp": (
        "a photo of a {}.",
        "a blurry photo of a {}.",
        "a photo of many {}.",
        "a photo of the large {}.",
        "a photo of the small {}.",
    ),
}

OPEN_CLIP = ("openai-80", "simple")
"""Sets that open_clip ships: OpenAI's 80 templates for ImageNet, and the best seven of them."""


def load_templates(source: str | Sequence[str]) -> tuple[str, ...]:
    """Return prompt templates: of a named set, one template (a text with `{}`), or a list of templates as it is.

    Raises MmoodError for an unknown name, an empty list or a template without `{}`.

    >>> load_templates("mcm")
    ('a photo of a {}',)
    >>> load_templates("a sketch of a {}")
    ('a sketch of a {}',)
    """
    if not isinstance(source, str):
        check_templates(source)
        return tuple(source)
    if "{}" in source:
        return (source,)
    if source in OPEN_CLIP:
        return _open_clip(source)
    if source not in TEMPLATES:
        raise unknown("set of prompt templates", source, [*TEMPLATES, *OPEN_CLIP])
    return TEMPLATES[source]


def check_templates(templates: Sequence[str]) -> None:
    """Raise MmoodError if there is no template, or one without `{}`."""
    if isinstance(templates, str) or not templates:
        raise MmoodError(f"Prompt templates must be a list of at least one template, not {templates!r:.80}.")
    for template in templates:
        if "{}" not in template:
            raise MmoodError(f"The prompt template '{template:.80}' has no '{{}}' for the class name.")


def fill(template: str, class_name: str) -> str:
    """Return the prompt of a class.

    >>> fill("a photo of a {}", "tench")
    'a photo of a tench'
    """
    # Not str.format: other braces of a template are plain text.
    return template.replace("{}", class_name)


def _open_clip(name: str) -> tuple[str, ...]:
    from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

    functions = OPENAI_IMAGENET_TEMPLATES if name == "openai-80" else SIMPLE_IMAGENET_TEMPLATES
    return tuple(function("{}") for function in functions)
