"""Searches for the point of a ball where an objective is highest: FGSM, PGD and APGD, as pure functions.

An objective maps images in [0, 1] to one value per image, higher = better for the attacker. Images of a batch share
nothing: each has its own step size and its own best point, and the gradient is that of the sum of all objectives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmood.attacks.budget import Budget, Images

Values = Float[Tensor, " batch"]
Objective = Callable[[Images], Values]

PGD_STEP = 2.5
"""Sum of the steps of PGD, relative to the radius: it can cross the ball (Madry et al., arXiv 1706.06083)."""


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        images: the best point of each image.
        values: their objectives.
        history: (steps + 1, B), the best objective after each step; it never falls.
    """

    images: Images
    values: Values
    history: Float[Tensor, "steps batch"]

    def to_beat(self, other: Found) -> Found:
        """Return the better of two points for each image; the history is that of the other search."""
        better = other.values > self.values
        images = torch.where(_per_image(better), other.images, self.images)
        return Found(images, torch.maximum(self.values, other.values), other.history)


def gradient_of(objective: Objective, images: Images) -> tuple[Values, Images]:
    """Return the objectives of images, and the gradient of each with respect to its image."""
    with torch.enable_grad():
        given = images.detach().requires_grad_()
        values = objective(given)
        (gradient,) = torch.autograd.grad(values.sum(), given)
    return values.detach(), gradient


def clean(objective: Objective, images: Images) -> Found:
    """Return the images as they are, which no attack needs to be worse than."""
    with torch.no_grad():
        values = objective(images)
    return Found(images, values, values[None])


def fgsm(objective: Objective, images: Images, budget: Budget) -> Found:
    """Return the point of one full step from the images along the steepest direction (arXiv 1412.6572).

    Warning:
        One step often stops short of what PGD and APGD find within the same radius, so a score that withstands it has
        withstood little. It is a baseline.
    """
    return pgd(objective, images, images, budget, steps=1, step=budget.radius)


def pgd(
    objective: Objective, images: Images, start: Images, budget: Budget, steps: int, step: float | None = None
) -> Found:
    """Return the best point of projected gradient ascent with a constant step (arXiv 1706.06083).

    x_{k+1} = P(x_k + eta steepest), P the projection into the ball and into [0, 1], eta = 2.5 eps / steps.

    Warning:
        It bounds what is left of a detector from above: more steps, random starts or APGD may find more. Try them
        before a score is called robust.

    Args:
        objective: to maximise.
        images: the middle of the ball.
        start: the first point, inside the ball.
        budget: the ball.
        steps: gradients that are taken.
        step: its length; None for 2.5 radii over all steps.
    """
    step = PGD_STEP * budget.radius / steps if step is None else step
    point = start
    values, gradient = gradient_of(objective, point)
    found = Found(point, values, values[None])
    for number in range(steps):
        point = budget.project(point + step * budget.steepest(gradient), images)
        values, gradient = _at(objective, point, last=number + 1 == steps)
        found = _kept(found, point, values)
    return found


def apgd(objective: Objective, images: Images, start: Images, budget: Budget, steps: int) -> Found:
    """Return the best point of Auto-PGD (Croce & Hein, ICML 2020, arXiv 2003.01690), its step halved image by image.

    z = P(x_k + eta steepest), x_{k+1} = P(x_k + 0.75 (z - x_k) + 0.25 (x_k - x_{k-1})) with eta = 2 eps at first. At a
    checkpoint eta is halved and the search goes back to the best point if the objective rose in at most 75 % of the
    steps since the last one, or if neither eta nor the best value has changed since then.

    Warning:
        A score whose gradient vanishes only looks robust: attack its `objective`, which does not saturate, and compare
        with a transfer from another detector (`--transfer_to`). Numbers of few steps or of one start are upper bounds.

    Args:
        objective: to maximise.
        images: the middle of the ball.
        start: the first point, inside the ball.
        budget: the ball.
        steps: gradients that are taken.
    """
    point, before = start, start
    values, gradient = gradient_of(objective, point)
    found, best_gradient = Found(point, values, values[None]), gradient
    pace = Pace.start(values, budget.radius)
    checkpoints = checkpoint_steps(steps)
    for number in range(steps):
        step = budget.project(point + _per_image(pace.step) * budget.steepest(gradient), images)
        share = 0.75 if number else 1.0
        moved = budget.project(point + share * (step - point) + (1 - share) * (point - before), images)
        point, before, earlier = moved, point, values
        values, gradient = _at(objective, point, last=number + 1 == steps)
        best_gradient = torch.where(_per_image(values > found.values), gradient, best_gradient)
        found = _kept(found, point, values)
        pace = replace(pace, rises=pace.rises + (values > earlier))
        if number + 1 in checkpoints:
            pace, halved = pace.checked(found.values, checkpoints[number + 1])
            point = torch.where(_per_image(halved), found.images, point)
            gradient = torch.where(_per_image(halved), best_gradient, gradient)
            values = torch.where(halved, found.values, values)
    return found


@dataclass(frozen=True)
class Pace:
    """The step sizes of APGD, and what decides whether they are halved.

    Attributes:
        step: eta.
        rises: steps since the last checkpoint in which the objective rose.
        best: the best objective at the last checkpoint.
        halved: whether eta was halved there.
    """

    step: Values
    rises: Float[Tensor, " batch"]
    best: Values
    halved: Bool[Tensor, " batch"]

    @classmethod
    def start(cls, values: Values, radius: float) -> Pace:
        """Return the pace before the first step."""
        return cls(
            torch.full_like(values, 2 * radius),
            torch.zeros_like(values),
            values,
            torch.ones_like(values, dtype=torch.bool),
        )

    def checked(self, best: Values, since: int) -> tuple[Pace, Bool[Tensor, " batch"]]:
        """Return the pace after a checkpoint, and of which images eta was halved.

        Args:
            best: the best objective so far.
            since: steps since the last checkpoint.
        """
        halved = (self.rises <= 0.75 * since) | (~self.halved & (self.best >= best))
        step = torch.where(halved, self.step / 2, self.step)
        return Pace(step, torch.zeros_like(self.rises), best, halved), halved


def checkpoint_steps(steps: int) -> dict[int, int]:
    """Return after which steps APGD looks back, and how many steps far.

    The first stretch is 22 % of the steps; each is 3 % shorter than the one before, down to 6 %.

    >>> checkpoint_steps(20)
    {4: 4, 7: 3, 9: 2, 10: 1, 11: 1, 12: 1, 13: 1, 14: 1, 15: 1, 16: 1, 17: 1, 18: 1, 19: 1, 20: 1}
    """
    stretch, least, shorter = (max(share * steps // 100, 1) for share in (22, 6, 3))
    found, reached = {}, stretch
    while reached <= steps:
        found[reached] = stretch
        stretch = max(stretch - shorter, least)
        reached += stretch
    return found


def best_of(searches: Sequence[Found]) -> Found:
    """Return for each image the best point of several searches, the first among equals."""
    first, *others = searches
    for other in others:
        first = first.to_beat(other)
    return first


def _at(objective: Objective, point: Images, last: bool) -> tuple[Values, Images]:
    """Return values and gradient; after the last step no gradient is needed."""
    if not last:
        return gradient_of(objective, point)
    with torch.no_grad():
        return objective(point), torch.zeros_like(point)


def _kept(found: Found, point: Images, values: Values) -> Found:
    better = values > found.values
    best = torch.where(better, values, found.values)
    images = torch.where(_per_image(better), point, found.images)
    return Found(images, best, torch.cat([found.history, best[None]]))


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
