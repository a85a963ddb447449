"""What an attack is: its method, its budgets, its direction; as a user sets them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Literal, get_args

from mmood.attacks.budget import LEVELS, NORMS, Budget, Norm
from mmood.errors import MmoodError
from mmood.settings import check_choice, check_count, check_number

Method = Literal["noise", "fgsm", "pgd", "apgd", "manipulation"]
METHODS: tuple[Method, ...] = get_args(Method)
Direction = Literal["ood-as-id", "id-as-ood", "both"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
STEPS: dict[Method, int] = {"noise": 1, "fgsm": 1, "pgd": 40, "apgd": 100, "manipulation": 250}
"""Steps of each method, where a user sets none."""
EPS: dict[Norm, tuple[str, ...]] = {"linf": ("1/255", "2/255", "4/255", "8/255"), "l2": ("0.5", "1", "2")}
"""Budgets of each norm, where a user sets none."""

_EPS = re.compile(r"(\d{1,6}/\d{1,6}|\d{1,6}(\.\d{1,6})?)")


@dataclass(frozen=True)
class AttackSettings:
    """An attack.

    Attributes:
        method: `noise` and `fgsm` are baselines of one step; `manipulation` is PLP's, without a budget.
        norm: of the budgets.
        eps: their radii for pixel values in [0, 1], ascending, as they are written; none for `manipulation`.
        direction: `ood-as-id` raises the scores of OoD images, `id-as-ood` lowers those of ID images.
        steps: gradients of a search.
        restarts: searches from different random points; the best point counts.
        seed: of all draws.
        limit: images of each set that is attacked; None for all. Sets that are not attacked are used whole.
        smoothness: of the changes of `manipulation`; 0 for none.
    """

    method: Method
    norm: Norm
    eps: tuple[str, ...]
    direction: Direction
    steps: int
    restarts: int = 1
    seed: int = 0
    limit: int | None = None
    smoothness: float = 5e3

    def __post_init__(self) -> None:
        check_choice("--attack", self.method, METHODS)
        check_choice("--norm", self.norm, NORMS)
        check_choice("--direction", self.direction, DIRECTIONS)
        for flag, value, least in (("steps", self.steps, 1), ("restarts", self.restarts, 1), ("seed", self.seed, 0)):
            check_count(f"--{flag}", value, least=least, most=2**31)
        check_count("--limit", self.limit, null="all images")
        check_number("--smoothness", self.smoothness, least=0)
        if self.method in ("noise", "fgsm") and (self.steps, self.restarts) != (1, 1):
            raise MmoodError(f"--attack {self.method} takes one step; --steps and --restarts are for pgd and apgd.")
        if self.method == "manipulation":
            self._check_manipulation()
        elif not self.eps:
            raise MmoodError(f"--eps is empty; name at least one radius, such as {EPS[self.norm][0]}.")
        for text in self.eps:
            _check_eps(text, self.norm)
        if len({fraction(text) for text in self.eps}) < len(self.eps):
            raise MmoodError(f"--eps names a radius twice: {' '.join(self.eps)}.")

    def _check_manipulation(self) -> None:
        if self.direction != "ood-as-id":
            raise MmoodError(
                "--attack manipulation moves OoD images to the features of ID images; --direction must be ood-as-id."
            )
        if self.eps:
            raise MmoodError("--attack manipulation has no budget: nothing bounds its changes. Leave out --eps.")
        if self.restarts != 1:
            raise MmoodError("--restarts is for pgd and apgd; a manipulation begins once.")

    def budgets(self) -> dict[str, Budget]:
        """Return the budgets by how their radii are written, the smallest first."""
        return {text: Budget(self.norm, fraction(text)) for text in sorted(self.eps, key=fraction)}

    def attacks(self, id_images: bool) -> bool:
        """Return whether ID images, or OoD images, are attacked."""
        return self.direction in ("both", "id-as-ood" if id_images else "ood-as-id")

    def record(self) -> dict[str, object]:
        """Return the settings as plain data."""
        return {**asdict(self), "eps": list(self.eps)}


def fraction(text: str) -> Fraction:
    """Return the number that a radius such as `4/255` or `0.5` stands for, exactly.

    Raises:
        MmoodError: it is no number.
    """
    if not _EPS.fullmatch(text) or text.endswith("/0"):
        raise MmoodError(f"--eps is '{text:.80}'; write a number such as 4/255 or 0.5, for pixel values in [0, 1].")
    return Fraction(text)


def _check_eps(text: str, norm: Norm) -> None:
    eps = fraction(text)
    if norm == "linf" and eps > 1:
        raise MmoodError(f"--eps is {text}, but pixel values lie in [0, 1]; write {text}/255 for {text} levels.")
    if 0 < eps < Fraction(1, LEVELS):
        raise MmoodError(f"--eps is {text}, less than one level of an 8-bit image (1/255), so nothing could be stored.")
