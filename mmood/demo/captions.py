"""Captions as the web writes them: many wordings, some details, some missing, some wrong."""

from __future__ import annotations

import numpy as np

from mmood.demo.scenes import Scene

_OPENINGS = ("a photo of {}", "a photo of {}", "{}", "a picture of {}", "this is {}")
_NUMBERS = {2: "two", 3: "three"}
_SYNONYMS = {
    "red": "crimson", "blue": "azure", "green": "emerald", "purple": "violet", "circle": "disc", "diamond": "rhombus",
    "moon": "crescent", "ring": "hoop", "cross": "plus", "pink": "rose",
}  # fmt: skip
# People use the simpler word where it is not quite right: what keeps zero-shot below a probe.
_LOOSELY = {"ring": "circle", "diamond": "square", "arrow": "triangle", "cross": "star"}


def caption_scene(scene: Scene, rng: np.random.Generator) -> str:
    """Return a caption of a scene: details come and go, and one in eight forgets the colour or the shape."""
    loose = scene.shape in _LOOSELY and rng.random() < 0.4
    shape = _LOOSELY[scene.shape] if loose else _worded(scene.shape, rng)
    colour = _worded(scene.colour, rng)
    slip = rng.random()
    words = [shape if slip < 0.06 else f"{colour} thing" if slip < 0.12 else f"{colour} {shape}"]
    if scene.fill != "plain" and rng.random() < 0.3:
        words.insert(0, scene.fill)
    if scene.size != "medium" and scene.count == 1 and rng.random() < 0.3:
        words.insert(0, scene.size)
    noun = " ".join(words)
    noun = _article(noun) if scene.count == 1 or rng.random() < 0.5 else f"{_NUMBERS[scene.count]} {_plural(noun)}"
    if scene.ground != "plain" and rng.random() < 0.2:
        noun += f" on a {scene.ground} ground"
    return _opened(noun, rng)


def caption_pattern(name: str, rng: np.random.Generator) -> str:
    """Return a caption of a picture without things."""
    return _opened(str(rng.choice([name, f"{name} all over", f"a pattern of {name}"])), rng)


def _opened(noun: str, rng: np.random.Generator) -> str:
    return str(rng.choice(_OPENINGS)).replace("{}", noun)


def _worded(word: str, rng: np.random.Generator) -> str:
    return _SYNONYMS[word] if word in _SYNONYMS and rng.random() < 0.15 else word


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith(("s", "x")) else f"{noun}s"
