"""What ANTS asks a language model that sees images, and what it takes of the answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from mmood.chat import Answer, Message, Question, jpeg
from mmood.chat.parsing import parse_list
from mmood.words.cleaning import clean_name, clean_text
from mmood.words.corpus import clean_word

VERSION = 1
"""Of the wording below; it is recorded, because other words get other answers."""

_DESCRIBE = (
    "Describe what this photo shows in fewer than {words} words. Answer with the description alone, and do not use the "
    "words '{name}'."
)
_COMPARE = (
    "Name {names} kinds of things that a photo could easily be mistaken for '{name}', but that are something else. "
    "Answer with a list, one name a line, and nothing besides."
)


def squares(
    pixels: Float[Tensor, "images 3 height width"], mean: Float[Tensor, " 3"], std: Float[Tensor, " 3"], side: int
) -> UInt8[Tensor, "images side side 3"]:
    """Return images as the language model sees them, small and square, from what the image tower takes.

    Args:
        pixels: normalised by mean and deviation.
        mean: per channel, of values in [0, 1].
        std: the standard deviation.
        side: of the squares, in pixels.
    """
    shown = pixels * std.to(pixels).view(3, 1, 1) + mean.to(pixels).view(3, 1, 1)
    levels = (shown.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    small = [Image.fromarray(image.numpy(), "RGB").resize((side, side), Image.Resampling.BICUBIC) for image in levels]
    return torch.stack([torch.from_numpy(np.array(image)) for image in small])


def describing(model: str, image: UInt8[Tensor, "side side 3"], name: str, words: int, tokens: int) -> Question:
    """Return the question for a description of an image.

    Args:
        model: name of the model.
        image: one of `squares`.
        name: of the class that was predicted, which the description shall not name.
        words: the description has fewer.
        tokens: of the answer, at most.
    """
    text = _DESCRIBE.format(words=words, name=name)
    message = Message("user", text, (jpeg(Image.fromarray(image.numpy(), "RGB")),))
    return Question(model, (message,), {"temperature": 0.0, "seed": 0, "max_tokens": tokens})


def comparing(model: str, name: str, names: int) -> Question:
    """Return the question for what looks like a class."""
    return Question(model, (Message("user", _COMPARE.format(names=names, name=name)),))


def description(answer: Answer, class_names: Iterable[str]) -> str | None:
    """Return the description in an answer, its first line; None if there is none, or it is the name of an ID class."""
    lines = [line for line in answer.text.splitlines() if line.strip()]
    text = clean_text(lines[0].strip().strip("\"'")) if lines else None
    if text is None or clean_word(text.rstrip(".")) in {clean_word(name) for name in class_names}:
        return None
    return text


def look_alikes(answer: Answer, class_names: Sequence[str], most: int) -> list[str]:
    """Return the first different names in an answer that are no ID classes."""
    known = {clean_word(name) for name in class_names}
    entries = parse_list(answer.text, answer.cut).entries
    names = dict.fromkeys(name for entry in entries if (name := clean_name(entry)) is not None and name not in known)
    return list(names)[:most]
