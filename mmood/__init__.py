"""mmood: out-of-distribution image detection with vision-language models.

Everything in `__all__` can be imported from here; importing `mmood` itself imports nothing heavy. The scores are in
`mmood.scores`, the losses in `mmood.losses`. What stands in neither is private and may change.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmood.data.datamodule import OoDDataModule
    from mmood.data.settings import ValSettings
    from mmood.defences import SmoothingSettings
    from mmood.detector.decisions import Decision
    from mmood.detector.detector import Detector
    from mmood.detector.streams import StreamDetector
    from mmood.encoders import EncodedImages, EncoderSettings
    from mmood.errors import MmoodError
    from mmood.evaluation.callback import OoDCallback
    from mmood.evaluation.maps import LocalMaps
    from mmood.evaluation.streams.settings import StreamSettings
    from mmood.images.corruption import Corruption
    from mmood.loading.settings import LoaderSettings
    from mmood.metrics.detection import OoDDetection
    from mmood.metrics.functional import OoDMetrics, ood_metrics
    from mmood.modules import (
        AbstractDetector,
        AlignmentFineTune,
        CrossEntropyFineTune,
        LinearProbe,
        MultiScale,
        PromptLearning,
        PseudoLabelProbe,
        ZeroShot,
    )
    from mmood.modules.prompt_learning import (
        PNPS,
        SCT,
        SUPREME,
        AbstractPromptMethod,
        CoOp,
        IDLike,
        LocalPrompt,
        LoCoOp,
        NegPrompt,
    )
    from mmood.modules.reference import ModelReference
    from mmood.scores.base import AbstractScore, Bank, Embedded, Reference
    from mmood.scores.test_time import AbstractStreamScore

__version__ = "0.1.0"

__all__ = [
    "PNPS",
    "SCT",
    "SUPREME",
    "AbstractDetector",
    "AbstractPromptMethod",
    "AbstractScore",
    "AbstractStreamScore",
    "AlignmentFineTune",
    "Bank",
    "CoOp",
    "Corruption",
    "CrossEntropyFineTune",
    "Decision",
    "Detector",
    "Embedded",
    "EncodedImages",
    "EncoderSettings",
    "IDLike",
    "LinearProbe",
    "LoCoOp",
    "LoaderSettings",
    "LocalMaps",
    "LocalPrompt",
    "MmoodError",
    "ModelReference",
    "MultiScale",
    "NegPrompt",
    "OoDCallback",
    "OoDDataModule",
    "OoDDetection",
    "OoDMetrics",
    "PromptLearning",
    "PseudoLabelProbe",
    "Reference",
    "SmoothingSettings",
    "StreamDetector",
    "StreamSettings",
    "ValSettings",
    "ZeroShot",
    "__version__",
    "ood_metrics",
]

# Where each public name lives; tests/test_face.py compares this with the imports above, which are for type checkers.
_PLACES = {
    "mmood.data.datamodule": ("OoDDataModule",),
    "mmood.data.settings": ("ValSettings",),
    "mmood.defences": ("SmoothingSettings",),
    "mmood.detector.decisions": ("Decision",),
    "mmood.detector.detector": ("Detector",),
    "mmood.detector.streams": ("StreamDetector",),
    "mmood.encoders": ("EncodedImages", "EncoderSettings"),
    "mmood.errors": ("MmoodError",),
    "mmood.evaluation.callback": ("OoDCallback",),
    "mmood.evaluation.maps": ("LocalMaps",),
    "mmood.evaluation.streams.settings": ("StreamSettings",),
    "mmood.images.corruption": ("Corruption",),
    "mmood.loading.settings": ("LoaderSettings",),
    "mmood.metrics.detection": ("OoDDetection",),
    "mmood.metrics.functional": ("OoDMetrics", "ood_metrics"),
    "mmood.modules": (
        "AbstractDetector",
        "AlignmentFineTune",
        "CrossEntropyFineTune",
        "LinearProbe",
        "MultiScale",
        "PromptLearning",
        "PseudoLabelProbe",
        "ZeroShot",
    ),
    "mmood.modules.prompt_learning": (
        "PNPS",
        "SCT",
        "SUPREME",
        "AbstractPromptMethod",
        "CoOp",
        "IDLike",
        "LoCoOp",
        "LocalPrompt",
        "NegPrompt",
    ),
    "mmood.modules.reference": ("ModelReference",),
    "mmood.scores.base": ("AbstractScore", "Bank", "Embedded", "Reference"),
    "mmood.scores.test_time": ("AbstractStreamScore",),
}
_PLACE_OF = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in _PLACE_OF:
        raise AttributeError(f"module 'mmood' has no attribute '{name}'")
    value: object = getattr(importlib.import_module(_PLACE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
