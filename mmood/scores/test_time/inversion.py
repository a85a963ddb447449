"""Textual inversion: the word that, put into prompts, says what an image shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from mmood.encoders.prompts import fill, load_templates
from mmood.encoders.shared_beginnings import Begun, Endings
from mmood.errors import MmoodError
from mmood.scores.text_tower import TextTower, Tokens
from mmood.settings import check_choice, check_count, check_number

WORDS = ("x", "q")
"""Two words of one token in every tokenizer: what differs between their prompts is the place of the pseudo-token."""

INITIAL_STD = 0.02
"""Standard deviation of a new pseudo-token, that of CLIP's own token embeddings before training."""


@dataclass(frozen=True)
class Inversion:
    """How images become words.

    Attributes:
        templates: prompts around the pseudo-token: a named set, one template or several.
        steps: steps of AdamW, each with a template drawn for each image.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        read_out: from the pseudo-token to its embedding: the unit-norm `mean` over all templates, or the prompt with
            the template of the `last` step, as InterNeg's released code does. With 80 templates `mean` takes four to
            five times as long.
        chunk: texts that pass the text tower at a time; bounds the memory and changes no result.
    """

    templates: str | tuple[str, ...] = "openai-80"
    steps: int = 10
    learning_rate: float = 0.02
    weight_decay: float = 0.01
    read_out: Literal["mean", "last"] = "mean"
    chunk: int = 64

    def __post_init__(self) -> None:
        check_count("inversion.steps", self.steps)
        check_count("inversion.chunk", self.chunk)
        check_number("inversion.learning_rate", self.learning_rate, above=0)
        check_number("inversion.weight_decay", self.weight_decay, least=0)
        check_choice("inversion.read_out", self.read_out, ("mean", "last"))


INVERSION = Inversion()
"""InterNeg's inversion."""


@dataclass(frozen=True)
class Prompts:
    """The templates as tokens, each with one place for a pseudo-token.

    Attributes:
        tokens: (T, L) of the prompts around a stand-in word.
        place: (T,) on the CPU, the position of the stand-in.
        lengths: (T,) on the CPU, how many leading tokens of each prompt the text tower needs.
        begun: what the text tower makes of the templates up to their places; None if it needs whole texts.
    """

    tokens: Tokens
    place: Int[Tensor, " templates"]
    lengths: Int[Tensor, " templates"]
    begun: Begun | None = None

    def on(self, device: torch.device) -> Prompts:
        """Return the prompts on the device of a text tower, where those of a loaded detector are not yet."""
        with torch.inference_mode(False), torch.no_grad():  # for autograd will use them
            tokens = Tokens(self.tokens.ids.to(device), self.tokens.embeddings.to(device))
            begun = None if self.begun is None else self.begun.to(device)
        return Prompts(tokens, self.place.cpu(), self.lengths.cpu(), begun)

    def encode(
        self, words: Float[Tensor, "images width"], template: Int[Tensor, " images"], tower: TextTower
    ) -> Float[Tensor, "images dim"]:
        """Return the unit-norm text embeddings of each word in its template (indices on the CPU), with gradient."""
        device = words.device
        if self.begun is None:
            length = int(self.lengths[template].max())
            here = torch.arange(length, device=device) == self.place[template].to(device).unsqueeze(1)
            embeddings = torch.where(here.unsqueeze(-1), words.unsqueeze(1), self.tokens.embeddings[template, :length])
            return tower.encode_tokens(embeddings, self.tokens.ids[template, :length])
        place, last = self.place[template], (self.lengths - 1 - self.place)[template]
        behind = place.unsqueeze(1) + torch.arange(1, int(last.max()) + 1)
        rest = self.tokens.embeddings[template.unsqueeze(1), behind.clamp_max(self.tokens.ids.shape[1] - 1)]
        embeddings = torch.cat([words.unsqueeze(1), rest], dim=1)
        return tower.encode_endings(self.begun, Endings(template.to(device), embeddings, last.to(device)))


def read_prompts(tower: TextTower, templates: str | tuple[str, ...]) -> Prompts:
    """Return templates as the text tower takes them in.

    Raises:
        MmoodError: an unknown set, an encoder without texts, or a template in which the word is not one token.
    """
    texts = load_templates(templates)
    tokens, other = (tower.tokens([fill(text, word) for text in texts]) for word in WORDS)
    if tokens.ids.shape != other.ids.shape:
        raise MmoodError("inversion.templates holds templates in which a one-letter word is not one token.")
    places = (tokens.ids != other.ids).cpu()
    for text, count in zip(texts, places.sum(dim=1).tolist(), strict=True):
        if count != 1:
            raise MmoodError(
                f"The template '{text}' of inversion.templates has {count} places for a word within the "
                "context of the text tower; it must have exactly one, separated from other letters."
            )
    # By itself each prompt comes as short as the text tower allows.
    lengths = [tower.tokens([fill(text, WORDS[0])]).ids.shape[1] for text in texts]
    place = places.int().argmax(dim=1)
    begun = tower.begin(tokens.embeddings[:, : int(place.max())], place.to(tokens.ids.device))
    return Prompts(tokens, place, torch.tensor(lengths), begun)


def invert(
    targets: Float[Tensor, "images dim"],
    prompts: Prompts,
    tower: TextTower,
    settings: Inversion,
    generator: torch.Generator,
) -> Float[Tensor, "images dim"]:
    """Return the unit-norm text embeddings of pseudo-words that mean what images show (InterNeg, arXiv 2603.02618).

    Each image has a pseudo-token u ~ N(0, 0.02^2). All are optimised together: AdamW on mean_i (1 - cos(e_i, v_i)),
    e_i the text embedding of u_i in a template drawn again for each image and step. The gradient of one image is
    free of the others but for the factor of the mean, so passes over chunks of images give the joint optimum's path.

    Args:
        targets: (A, D) unit-norm image embeddings.
        prompts: the templates.
        tower: the text tower.
        settings: the optimisation.
        generator: a private generator on the CPU; what it yields depends on A alone, not on the chunks.
    """
    count = len(targets)
    if not count:
        return targets
    prompts = prompts.on(tower.device)
    start = INITIAL_STD * torch.randn(count, prompts.tokens.embeddings.shape[-1], generator=generator)
    drawn = torch.randint(len(prompts.place), (settings.steps, count), generator=generator)

    def inverted(part: slice, goal: Tensor) -> Tensor:
        def loss(words: Tensor, step: int) -> Tensor:
            cosines = (prompts.encode(words, drawn[step, part], tower) * goal).sum(dim=-1)
            return (1 - cosines).sum() / count

        words = descend(
            start[part].to(goal.device), loss, settings.steps, settings.learning_rate, settings.weight_decay
        )
        return _read_out(words, drawn[-1, part], prompts, tower, settings.read_out)

    return in_chunks(targets, tower.device, settings.chunk, inverted)


def in_chunks(
    targets: Float[Tensor, "images dim"],
    device: torch.device,
    chunk: int,
    inverted: Callable[[slice, Float[Tensor, "chunk dim"]], Float[Tensor, "chunk dim"]],
) -> Float[Tensor, "images dim"]:
    """Return the text embeddings that chunks of images are inverted into, with gradients enabled inside.

    Args:
        targets: (A, D) unit-norm image embeddings.
        device: of the text tower.
        chunk: images at a time.
        inverted: from the range of a chunk and its image embeddings on `device` to their text embeddings.
    """
    found = [torch.empty(0, targets.shape[-1], device=device)]
    # Lightning tests in inference mode, whose tensors autograd refuses; a copy made outside is an ordinary tensor.
    with torch.inference_mode(False), torch.enable_grad():
        goal = targets.detach().to(device, copy=True)
        for first in range(0, len(targets), chunk):
            part = slice(first, first + chunk)
            found.append(inverted(part, goal[part]))
    return torch.cat(found).to(targets.device)


def descend(
    start: Float[Tensor, "images width"],
    loss: Callable[[Float[Tensor, "images width"], int], Float[Tensor, ""]],
    steps: int,
    learning_rate: float,
    weight_decay: float,
) -> Float[Tensor, "images width"]:
    """Return token embeddings after steps of AdamW.

    Args:
        start: where they begin; not changed.
        loss: of token embeddings at a step, from 0.
        steps: number of steps.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
    """
    words = start.clone().requires_grad_()
    optimiser = torch.optim.AdamW([words], lr=learning_rate, weight_decay=weight_decay)
    for step in range(steps):
        # `grad` and not `backward`: a tower that trains elsewhere shall find no gradient.
        (words.grad,) = torch.autograd.grad(loss(words, step), words)
        optimiser.step()
    return words.detach()


@torch.no_grad()
def _read_out(words: Tensor, last: Tensor, prompts: Prompts, tower: TextTower, how: str) -> Tensor:
    if how == "last":
        return prompts.encode(words, last, tower)
    every = [torch.full_like(last, index) for index in range(len(prompts.place))]
    texts = [prompts.encode(words, template, tower) for template in every]
    return normalize(torch.stack(texts).mean(dim=0), dim=-1)
