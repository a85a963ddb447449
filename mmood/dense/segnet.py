"""SegNet (arXiv 1511.00561), and the observer of the same layout that watches it (ObsNet, arXiv 2108.01634)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Maps = Float[Tensor, "batch channels height width"]

_DOWN = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Width and number of convolutions of the five stages on the way down; the way up mirrors them."""


@dataclass(frozen=True)
class Seen:
    """What an observer sees of a segmenter.

    Attributes:
        down: outputs of the five stages on the way down, after pooling.
        up: outputs of the first four stages on the way up.
        logits: (B, K, H, W), output of the last one.
    """

    down: tuple[Maps, ...]
    up: tuple[Maps, ...]
    logits: Maps


@final
class SegNet(nn.Module):
    """The segmentation network: five stages down that keep where each maximum was, five stages up that put it back.

    Args:
        classes: K, channels of the last stage.
        dropout: of the outputs of down3, down4, down5, up5, up4 and up3, in this order.
        width: scales the widths of all stages; 1 is the paper's network.
    """

    def __init__(
        self, classes: int, dropout: Sequence[float] = (0.5, 0.5, 0.5, 0.5, 0.4, 0.3), width: float = 1.0
    ) -> None:
        super().__init__()
        widths = [3, *(max(1, round(width * channels)) for channels, _ in _DOWN)]
        depths = [depth for _, depth in _DOWN]
        self.down = nn.ModuleList(_stage(a, b, depth) for (a, b), depth in zip(pairwise(widths), depths, strict=True))
        ends = [classes, *widths[1:-1]]
        stages = zip(widths[:0:-1], ends[::-1], depths[::-1], strict=True)
        self.up = nn.ModuleList(_mirrored(a, b, depth) for a, b, depth in stages)
        self.dropout = tuple(dropout)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes height width"]:
        """Return the logits of every pixel."""
        return self.seen(images).logits

    def seen(self, images: Float[Tensor, "batch 3 height width"], observed: Seen | None = None) -> Seen:
        """Return the outputs of all stages, before dropout.

        Args:
            images: a batch.
            observed: outputs of another network of this layout; each is added to the input of the stage behind its own,
                after this network's dropout.
        """
        down: list[Maps] = []
        up: list[Maps] = []
        places: list[tuple[Tensor, list[int]]] = []
        below = [*(observed.down if observed else ()), *(observed.up if observed else ())]
        drops = (0.0, 0.0, *self.dropout, 0.0, 0.0)
        maps, number = images, 0

        def passed(output: Maps) -> Maps:
            nonlocal number
            dropped = functional.dropout(output, drops[number], self.training)
            dropped = dropped + below[number] if below else dropped
            number += 1
            return dropped

        for stage in self.down:
            maps = stage(maps)
            size = list(maps.shape[2:])
            maps, indices = functional.max_pool2d(maps, 2, return_indices=True)
            places.append((indices, size))
            down.append(maps)
            maps = passed(maps)
        for stage, (indices, size) in zip(self.up, reversed(places), strict=True):
            maps = stage(functional.max_unpool2d(maps, indices, (2, 2), output_size=size))
            up.append(maps)
            if len(up) < len(self.up):
                maps = passed(maps)
        return Seen(tuple(down), tuple(up[:-1]), up[-1])


@final
class ObserverNet(nn.Module):
    """The observer: SegNet's layout with one channel at the end, which sees the image and all maps of the segmenter.

    Args:
        dropout: after the stages that have it in the segmenter.
        width: of the segmenter.
    """

    def __init__(self, dropout: float = 0.1, width: float = 1.0) -> None:
        super().__init__()
        self.net = SegNet(1, (dropout,) * 6, width)
        self.last = nn.Conv2d(1, 1, 1)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"], observed: Seen
    ) -> Float[Tensor, "batch height width"]:
        """Return the logit of "the segmenter is wrong here" for every pixel."""
        logits: Tensor = self.last(self.net.seen(images, observed).logits)
        return logits[:, 0]

    @torch.no_grad()
    def start_from(self, segmenter: SegNet) -> None:
        """Take the weights of the segmenter, except those of its last convolution and its norm."""
        last = f"up.{len(self.net.up) - 1}.{_DOWN[0][1] - 1}."
        weights = {name: tensor for name, tensor in segmenter.state_dict().items() if not name.startswith(last)}
        self.net.load_state_dict(self.net.state_dict() | weights)


def _stage(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(_block(inputs if place == 0 else outputs, outputs) for place in range(depth)))


def _mirrored(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    """Return a stage of the way up, which keeps its width until its last convolution."""
    return nn.Sequential(*(_block(inputs, outputs if place == depth - 1 else inputs) for place in range(depth)))


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())
