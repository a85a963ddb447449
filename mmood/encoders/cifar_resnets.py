"""ResNets for images of 32 pixels, as names of timm: `timm:cifar_resnet18` and `timm:cifar_resnet34`.

The networks of the literature on CIFAR: ResNets (arXiv 1512.03385) whose first convolution is 3 x 3 without stride, and
without the first pooling, so that the last map is 4 x 4. timm has no such model; registered there, they are encoders
like any other. There are no weights to download: `pretrained` is `random` or a checkpoint file.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

_DATA = {
    "input_size": (3, 32, 32),
    "pool_size": (4, 4),
    "crop_pct": 1.0,
    "interpolation": "bilinear",
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
    "first_conv": "conv1",
    "classifier": "fc",
}

default_cfgs = generate_default_cfgs({"cifar_resnet18": _DATA, "cifar_resnet34": _DATA})


@register_model  # type: ignore[untyped-decorator]
def cifar_resnet18(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """Return a ResNet-18 for 32 pixels, 11.2 million parameters without its classifier; timm calls this."""
    return _cifar_resnet("cifar_resnet18", (2, 2, 2, 2), pretrained, kwargs)


@register_model  # type: ignore[untyped-decorator]
def cifar_resnet34(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """Return a ResNet-34 for 32 pixels, 21.3 million parameters without its classifier; timm calls this."""
    return _cifar_resnet("cifar_resnet34", (3, 4, 6, 3), pretrained, kwargs)


def _cifar_resnet(name: str, layers: tuple[int, ...], pretrained: bool, given: dict[str, Any]) -> ResNet:
    return build_model_with_cfg(_with_small_stem, name, pretrained, block=BasicBlock, layers=layers, **given)


def _with_small_stem(**given: Any) -> ResNet:
    model = ResNet(**given)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model
