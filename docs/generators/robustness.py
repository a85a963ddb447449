"""The methods page of attacks, defences and shift, from the docstrings of the functions and settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from generators.docstrings import Setting, describe
from generators.pages import settings_table, sources, warning_of
from generators.pictures import picture
from mmood.attacks import manipulation
from mmood.attacks.budget import NORMS, Budget
from mmood.attacks.search import apgd, fgsm, pgd
from mmood.attacks.settings import DIRECTIONS, EPS, METHODS, STEPS, AttackSettings
from mmood.defences import SmoothingSettings, certificate
from mmood.images import corruption
from mmood.images.corruption import Corruption


@dataclass(frozen=True)
class Entry:
    """A section.

    Attributes:
        title: its heading.
        documented: what its text comes from.
        needs: besides images and class names.
        command: that uses it.
        pictures: their names.
        settings: that are its own.
    """

    title: str
    documented: tuple[Any, ...]
    needs: str
    command: str
    pictures: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()


_GRADIENT = "a score with a gradient to the pixels; every static score has one, approximate k-NN excepted"
_ATTACK = "mmood attack --config vitb16_attack.yaml --data.root data --limit 500 --attack"
ATTACKS = {
    "apgd": Entry("APGD", (apgd,), _GRADIENT, f"{_ATTACK} apgd", ("APGD",)),
    "pgd": Entry("PGD", (pgd,), _GRADIENT, f"{_ATTACK} pgd", ("PGD",)),
    "fgsm": Entry("FGSM", (fgsm,), _GRADIENT, f"{_ATTACK} fgsm", ("FGSM",)),
    "noise": Entry("Noise", (Budget.start,), "nothing: it is no attack, but where attacks begin", f"{_ATTACK} noise"),
    "manipulation": Entry(
        "PLP's manipulation",
        (manipulation, manipulation.manipulated),
        "an image tower with a gradient, and ID training images (`data.train`)",
        "mmood attack --config vitb16_zeroshot.yaml --model.scores.knn KNN --data.train imagenet_train "
        "--attack manipulation",
        ("Manipulation",),
    ),
}
"""The attacks, by their names on the command line."""

_SMOOTHING = Entry(
    "Median smoothing",
    (certificate, SmoothingSettings),
    "`copies` more passes of the tower for each image",
    "mmood test --config vitb16_zeroshot.yaml --data.root data --evaluation.smoothing.copies 1000",
    ("Smoothing", "Certificate"),
    describe(SmoothingSettings).settings,
)
_CORRUPTION = Entry(
    "Corruptions",
    (corruption, Corruption),
    "imagecorruptions (`pip install 'mmood[corruptions]'`)",
    "mmood test --config vitb16_zeroshot.yaml --data.root data --data.corruption '{name: fog, severity: 3}'",
    ("Corruption",),
    describe(Corruption).settings,
)


def page(_: str = "") -> str:
    """Return the sections of attacks and the settings that they share, of the defence, and of corruptions.

    Raises:
        LookupError: an attack of `mmood attack` has no section.
    """
    if missing := [method for method in METHODS if method not in ATTACKS]:
        raise LookupError(f"The attacks {', '.join(missing)} have no section; add them to ATTACKS.")
    shared = f"### Settings of attacks {{ #settings-attack }}\n\n{settings_table(attack_settings())}"
    attacks = [_section(entry) for entry in ATTACKS.values()]
    others = [_section(_SMOOTHING, level=2), _section(_CORRUPTION, level=2)]
    return "\n\n".join(["## Attacks", *attacks, shared, *others])


def attack_settings() -> Iterable[Setting]:
    """Return the settings of `mmood attack`, flags of the command line, with its defaults."""
    steps = ", ".join(f"{count} ({method})" for method, count in STEPS.items())
    eps = "; ".join(f"{', '.join(radii)} ({norm})" for norm, radii in EPS.items())
    given = {"method": "apgd", "norm": NORMS[0], "direction": DIRECTIONS[0], "steps": steps, "eps": eps}
    for setting in describe(AttackSettings).settings:
        flag = "--attack" if setting.name == "method" else f"--{setting.name}"
        yield replace(setting, name=flag, default=given.get(setting.name, setting.default))


def _section(entry: Entry, level: int = 3) -> str:
    described = [describe(one) for one in entry.documented]
    papers = dict.fromkeys(paper for one in described for paper in one.papers)
    parts = [
        f"{'#' * level} {entry.title}",
        *(_without_return(one.text) for one in described),
        *(text for one in described for text in warning_of(one)),
        f"**Needs:** {entry.needs}",
        sources(papers),
        f"    {entry.command}",
        settings_table(entry.settings),
        *(picture(name) for name in entry.pictures),
    ]
    return "\n\n".join(part for part in parts if part)


def _without_return(text: str) -> str:
    """Return what a function returns, without saying that it returns it; a formula at the beginning stays as it is."""
    rest = text.removeprefix("Return ")
    return rest if rest[1:2] == " " else rest[0].upper() + rest[1:]
