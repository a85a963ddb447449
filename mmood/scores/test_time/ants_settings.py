"""What ANTS can be told: whom it asks, which images are described, which classes are compared."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from mmood.chat import AnswerCache, Endpoint, LanguageModel
from mmood.errors import MmoodError
from mmood.settings import check_count, check_number


@dataclass(frozen=True)
class SeeingModel:
    """A language model that sees images, behind an OpenAI-compatible endpoint.

    Attributes:
        name: of the model at the endpoint.
        endpoint: base address; that of this machine by default.
        offline: ask nobody: every answer must be in the cache.
        cache: folder of the answers; None for that of all mmood commands.
        key_env: environment variable with the endpoint's key.
        timeout: seconds for an answer.
        parallel: requests under way at a time.
    """

    name: str = "Qwen/Qwen2-VL-2B-Instruct"
    endpoint: str = "http://localhost:8000/v1"
    offline: bool = False
    cache: str | None = None
    key_env: str = "MMOOD_LLM_KEY"
    timeout: float = 120.0
    parallel: int = 4

    def __post_init__(self) -> None:
        if not self.name:
            raise MmoodError("llm.name is empty; give the name of the model at the endpoint.")
        check_number("llm.timeout", self.timeout, above=0)
        check_count("llm.parallel", self.parallel)
        self.server()

    def server(self) -> Endpoint:
        """Return the endpoint; MmoodError if its address is none."""
        return Endpoint(self.endpoint, self.key_env, self.timeout, parallel=self.parallel)

    def model(self) -> LanguageModel:
        """Return what answers."""
        return LanguageModel(AnswerCache(self.cache), None if self.offline else self.server())

    def check_asking(self) -> str:
        """Return who answers; MmoodError if the endpoint's key or the library that asks it is missing."""
        if self.offline:
            return f"answers in {AnswerCache(self.cache).folder}"
        if importlib.util.find_spec("openai") is None:
            raise MmoodError("Asking a language model needs openai; install it with `pip install 'mmood[llm]'`.")
        self.server().key()
        return f"{self.name} at {self.endpoint}"

    def check_images(self, allowed: bool) -> None:
        """Raise MmoodError if images would leave this machine without leave."""
        if not (allowed or self.offline or self.server().is_local):
            raise MmoodError(
                f"ANTS would send test images to {self.endpoint}, which is not this machine; allow it by "
                "`allow_send_images: true`, name an endpoint of this machine, or set `llm.offline: true`."
            )


SEEING_MODEL = SeeingModel()
"""The model of the released code, on this machine."""


@dataclass(frozen=True)
class Descriptions:
    """Which images are described, for the far negatives.

    Attributes:
        start: images with a smaller S against the mined words are described, until the threshold adapts.
        waiting: once more images than this wait, the threshold adapts and they are described.
        bins: of the histogram of all S so far, in whose largest rise the threshold is looked for.
        quantile: of the S below that rise, the next threshold.
        updates: how often images are described, at most.
        side: of the square images that the model sees, in pixels.
        words: a description has fewer.
        tokens: of an answer, at most.
    """

    start: float = 0.8
    waiting: int = 200
    bins: int = 10
    quantile: float = 0.5
    updates: int = 10
    side: int = 56
    words: int = 8
    tokens: int = 10

    def __post_init__(self) -> None:
        check_number("descriptions.start", self.start, least=0, most=1)
        check_count("descriptions.waiting", self.waiting, least=0)
        check_count("descriptions.bins", self.bins, least=2)
        check_number("descriptions.quantile", self.quantile, least=0, most=1)
        check_count("descriptions.updates", self.updates, least=0)
        check_count("descriptions.side", self.side)
        check_count("descriptions.words", self.words)
        check_count("descriptions.tokens", self.tokens)


@dataclass(frozen=True)
class LookAlikes:
    """Which classes are compared, for the near negatives.

    Attributes:
        first: the batch at which they are compared first, from 1.
        every: batches from there to the next time.
        classes: how many, those predicted most often so far.
        names: look-alikes of each.
        template: prompt of the names.
    """

    first: int = 10
    every: int = 40
    classes: int = 40
    names: int = 5
    template: str = "The nice {}."

    def __post_init__(self) -> None:
        for name in ("first", "every", "classes", "names"):
            check_count(f"look_alikes.{name}", int(vars(self)[name]))


DESCRIPTIONS = Descriptions()
"""ANTS's descriptions."""

LOOK_ALIKES = LookAlikes()
"""ANTS's look-alikes."""
