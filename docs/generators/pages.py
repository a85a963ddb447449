"""The generated parts of the methods pages: a section for each method."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, cast

from generators.catalogue import FAMILIES, Family, methods_of
from generators.docstrings import Description, Setting, describe, nested
from generators.pictures import picture
from generators.published import published
from generators.uses import configs_of, names_of
from mmood.dense.scores import AbstractDenseScore
from mmood.encoders.base import AbstractEncoder
from mmood.modules.prompt_learning import AbstractPromptMethod
from mmood.scores import AbstractScore
from mmood.scores.surroundings import Surroundings
from mmood.scores.test_time import AbstractStreamScore

_OUTPUTS = {"logits": "logits", "features": "features", "embedding": "joint embedding", "patches": "patch embeddings"}
# Requirements are named before anything of these is looked at.
_UNKNOWN = Surroundings(encoder=cast(AbstractEncoder, None), head_reads=(), training_set=str)
_EXAMPLES: dict[str, Any] = {"outliers": "demo-wordnet"}


def methods_page(slug: str) -> str:
    """Return the sections of a family's methods, and the settings that several of them share.

    Raises:
        LookupError: there is no such family.
    """
    family = next((one for one in FAMILIES if one.slug == slug), None)
    if family is None:
        raise LookupError(f"There is no family '{slug}'; known: {', '.join(one.slug for one in FAMILIES)}.")
    found = methods_of(family)
    shared = dict.fromkeys(one for method in found for one in nested(method))
    return "\n\n".join([_overview(found), *(_section(method) for method in found), *_shared_settings(shared)])


def overview_of(family: Family) -> str:
    """Return the names of a family's methods, each a link to its section."""
    return ", ".join(f"[{one.__name__}]({family.slug}.md#{anchor(one)})" for one in methods_of(family))


def anchor(method: type) -> str:
    """Return the anchor of a method's section."""
    return method.__name__.lower()


def _overview(found: Iterable[type]) -> str:
    rows = [
        f"| [{one.__name__}](#{anchor(one)}) | {_kind(one)} | {', '.join(_names(one)) or 'none'} |" for one in found
    ]
    return "\n".join(["| class | kind | names in the configs |", "|---|---|---|", *rows])


def _section(method: type) -> str:
    described = describe(method)
    parts = [
        f"## {method.__name__} {{ #{anchor(method)} }}",
        described.text,
        *warning_of(described),
        _facts(method, described),
        *_command(method),
        settings_table(described.settings),
        picture(method.__name__),
        published(method, model=_is_model(method)),
    ]
    return "\n\n".join(part for part in parts if part)


def _kind(method: type) -> str:
    if issubclass(method, AbstractStreamScore):
        return "test-time score"
    if issubclass(method, AbstractScore):
        return "score"
    if issubclass(method, AbstractDenseScore):
        return "score of pixels"
    return "prompt learner" if issubclass(method, AbstractPromptMethod) else "model"


def warning_of(described: Description) -> Iterator[str]:
    """Yield what is easily done wrong, as a box; nothing where the docstring has no such section."""
    if described.warning is not None:
        yield f'!!! warning "Easily done wrong"\n\n{textwrap.indent(described.warning, "    ")}'


def _facts(method: type, described: Description) -> str:
    needs = ", ".join(_needs(method))
    return "\n\n".join(text for text in (f"**Needs:** {needs}" if needs else "", sources(described.papers)) if text)


def sources(papers: Iterable[str]) -> str:
    """Return a line of links to papers; empty where there are none."""
    links = ", ".join(f"[arXiv {number}](https://arxiv.org/abs/{number})" for number in papers)
    return f"**Source:** {links}" if links else ""


def _needs(method: type) -> Iterator[str]:
    """Yield what a method needs besides images and class names."""
    if issubclass(method, AbstractScore):
        instance = _instance(method)
        yield from (_OUTPUTS[output] for output in sorted(instance.needs) if output in _OUTPUTS)
        yield from (requirement.what for requirement in instance.requirements(_UNKNOWN))
        if issubclass(method, AbstractStreamScore):
            yield "the images of the test stream, in order"
    elif issubclass(method, AbstractDenseScore):
        yield "an observer" if method.needs_failure else "logits of every pixel"
    elif _trains(method):
        yield "training images (`data.train`)"


def _trains(method: type) -> bool:
    """Return whether a model or prompt learner is trained; a model that is not says so by having no optimiser."""
    if issubclass(method, AbstractPromptMethod):
        return True
    return inspect.signature(method.configure_optimizers).return_annotation not in (None, "None")


def _instance(method: type) -> Any:
    needed = [one for one in inspect.signature(method.__init__).parameters.values() if one.default is one.empty]  # type: ignore[misc]
    given = {one.name: _EXAMPLES[one.name] for one in needed if one.name in _EXAMPLES}
    return method(**given)


def _command(method: type) -> Iterator[str]:
    """Yield a command that uses the method: the first config that names it, or a flag that adds it to one."""
    stage = "fit" if _is_model(method) and _trains(method) else "test"
    if config := next(iter(configs_of(method)), None):
        root = "" if config.startswith("demo_") else " --data.root data"
        yield f"    mmood {stage} --config {config}{root}"
    elif issubclass(method, AbstractScore):
        yield f"    mmood test --config vitb16_zeroshot.yaml --data.root data --model.scores.mine {method.__name__}"


def settings_table(settings: Iterable[Setting]) -> str:
    """Return a table of settings, but those that every model has; empty where there are none."""
    shown = [one for one in settings if one.name not in ("encoder", "class_names", "scores")]
    rows = [f"| `{one.name}` | {_default(one)} | {_cell(one.meaning)} |" for one in shown]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows]) if rows else ""


def _default(setting: Setting) -> str:
    return "must be given" if setting.default is None else f"`{_cell(setting.default)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _shared_settings(shared: Iterable[type]) -> Iterator[str]:
    described = {one: describe_fields(one) for one in shared}
    if described:
        yield "## Groups of settings"
    for one, (text, rows) in described.items():
        yield f"### {one.__name__} {{ #settings-{one.__name__.lower()} }}\n\n{text}\n\n{rows}"


def describe_fields(settings: type) -> tuple[str, str]:
    """Return what a dataclass of settings is, and a table of its fields."""
    described = describe(settings)
    return described.text, settings_table(described.settings)


def _names(method: type) -> list[str]:
    """Return the names that the configs give to a score."""
    return [] if _is_model(method) else [f"`{name}`" for name in names_of(method)]


def _is_model(method: type) -> bool:
    return _kind(method) in ("model", "prompt learner")
