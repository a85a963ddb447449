"""How scores are smoothed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mmood.defences.certificate import certified_order, fewest_copies
from mmood.errors import MmoodError
from mmood.settings import check_choice, check_count, check_number

Direction = Literal["ood-as-id", "id-as-ood", "both"]
"""What an adversary may do: let OoD images pass as ID, ID images as OoD, or both."""


@dataclass(frozen=True)
class SmoothingSettings:
    """Median smoothing of every static score, with certified bounds (arXiv 2007.03989).

    Warning:
        A certificate is of the smoothed score, not of the score that it smooths, and in the L2 norm: a radius of 0.5
        says nothing of an attack within 8/255 in each value, which has an L2 norm of 12 at 224 x 224 pixels. Each bound
        holds with probability 1 - alpha for its image, not for all images at once.

    Attributes:
        copies: noisy copies of each image; 0 for no smoothing. Each image is encoded as often.
        noise: standard deviation of the Gaussian noise, of pixel values in [0, 1] at the tower's size, before the
            normalisation; nothing is clipped.
        radii: L2 norms, in the same units, within which the smoothed scores are certified.
        alpha: probability that a bound of an image fails.
        direction: which images the adversary may change: their scores are replaced by the bounds.
        seed: of the noise; None for that of the run.

    Raises:
        MmoodError: a value is impossible, or a radius needs more copies for a bound.
    """

    copies: int = 0
    noise: float = 0.25
    radii: tuple[float, ...] = (0.125, 0.25, 0.5)
    alpha: float = 0.001
    direction: Direction = "ood-as-id"
    seed: int | None = None

    def __post_init__(self) -> None:
        check_count("`evaluation.smoothing.copies`", self.copies, least=0)
        check_number("`evaluation.smoothing.noise`", self.noise, above=0)
        check_number("`evaluation.smoothing.alpha`", self.alpha, above=0, below=0.5)
        check_choice("`evaluation.smoothing.direction`", self.direction, get_args(Direction))
        for radius in self.radii:
            check_number("A radius of `evaluation.smoothing.radii`", radius, above=0)
        if len(set(self.radii)) < len(self.radii):
            raise MmoodError(f"`evaluation.smoothing.radii` is {list(self.radii)}; give each radius once.")
        for radius in self.radii if self.copies else ():
            if certified_order(self.copies, self.noise, radius, self.alpha).low == 0:
                raise MmoodError(self._too_few(radius))

    def _too_few(self, radius: float) -> str:
        wanted = fewest_copies(self.noise, radius, self.alpha)
        sentence = (
            f"`evaluation.smoothing` has {self.copies:,} copies, with which no score is bounded at the radius "
            f"{radius:g}"
        )
        if wanted > 10**7:
            return f"{sentence}, nor with ten million; take a radius below four times the noise, {self.noise:g}."
        return f"{sentence}; at the noise {self.noise:g} and alpha {self.alpha:g} it takes {wanted:,}, or leave it out."

    def variants(self) -> tuple[str, ...]:
        """Return what results call the smoothed scores: the smoothed score itself, then the bounds of each radius."""
        smoothed = f"smoothed {self.noise:g}"
        return (smoothed, *(f"{smoothed}, certified l2 {radius:g} {self.direction}" for radius in self.radii))
