"""How negative labels are mined: the settings, and those of the papers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mmood.settings import check_choice, check_count, check_number
from mmood.words.corpus import CorpusSettings
from mmood.words.templates import Templates


@dataclass(frozen=True)
class NegativeMiner:
    """How to choose negative labels; the defaults are NegLabel's (arXiv 2403.20078) except `exclude_id_names`.

    Attributes:
        corpus: the words to choose from.
        criterion: `quantile` (NegLabel, CSP: far from the ID names) or `inter_modal` (InterNeg: farther from the images
            of every class than the class's own name is).
        fraction: share of the nouns and of the adjectives to keep, each rounded down.
        count: number of words to keep in all, in proportion to nouns and adjectives; takes the place of `fraction`.
        quantile: of the cosines to the ID names; 1 is the largest.
        near_duplicate: words with a larger cosine than this to any ID name come last; None for unlimited.
        templates: prompts of ID names, nouns and adjectives.
        superclasses: if given, each adjective becomes "adjective superclass" with one of them, drawn at random (CSP).
        exclude_id_names: drop words that are ID names themselves (the papers' code of NegLabel and CSP keeps them).
        seed: of the private generator that draws superclasses; None for that of the run.
    """

    corpus: CorpusSettings = CorpusSettings()  # noqa: RUF009 - frozen
    criterion: Literal["quantile", "inter_modal"] = "quantile"
    fraction: float = 0.15
    count: int | None = None
    quantile: float = 0.95
    near_duplicate: float | None = None
    templates: Templates = Templates()  # noqa: RUF009 - frozen
    superclasses: tuple[str, ...] = ()
    exclude_id_names: bool = True
    seed: int | None = None

    def __post_init__(self) -> None:
        check_choice("mining.criterion", self.criterion, ("quantile", "inter_modal"))
        check_number("mining.fraction", self.fraction, above=0, most=1)
        check_count("mining.count", self.count, null="the fraction")
        check_number("mining.quantile", self.quantile, least=0, most=1)
        check_number("mining.near_duplicate", self.near_duplicate, least=-1, most=1, null="no limit")
        check_count("mining.seed", self.seed, least=0, null="the run's")


_CSP_PROMPTS = (
    *("a close-up photo of the nice {}.", "a photo with the nice {}.", "a good photo with the nice {}."),
    *("a photo of the nice {}.", "{}", "the {}", "the good {}", "the nice {}"),
)
_CSP_PHRASE_PROMPTS = ("{}", "a nice photo of {}", "a good photo of {}", "a close-up photo of {}")
_CSP_SUPERCLASSES = (
    *("environment", "space", "object", "scene", "place", "item", "area", "view", "thing", "pattern", "structure"),
    *("landscape", "vista", "creature"),
)

NEGLABEL = NegativeMiner()
"""NegLabel's mining (arXiv 2403.20078), ID names excluded."""

CSP = NegativeMiner(
    corpus=CorpusSettings(preset="csp"),
    near_duplicate=0.95,
    templates=Templates(_CSP_PROMPTS, _CSP_PROMPTS, _CSP_PHRASE_PROMPTS, normalise_first=False),
    superclasses=_CSP_SUPERCLASSES,
)
"""The conjugated semantic pool (arXiv 2410.08611), ID names excluded."""

INTERNEG = NegativeMiner(
    criterion="inter_modal",
    count=2000,
    templates=Templates(id=("The nice {}.",), noun=("The nice {}.",), adjective=("This is a {} photo.",)),
)
"""InterNeg's mining (arXiv 2603.02618)."""

ADANEG = NegativeMiner(
    count=10_000,
    templates=Templates(id=("The nice {}.",), noun=("The nice {}.",), adjective=("This is a {} photo.",)),
)
"""AdaNeg's mining (arXiv 2410.20149): NegLabel's, 10,000 words."""
