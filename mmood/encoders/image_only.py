"""Image-only encoders of timm, for methods that need no text: probes and detectors on features."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, final

import timm
import torch
from jaxtyping import Float
from timm.data import create_transform, resolve_model_data_config
from timm.models import load_state_dict
from torch import Tensor

from mmood.encoders import cifar_resnets  # noqa: F401 - registers them with timm
from mmood.encoders.base import RANDOM, TIMM, AbstractEncoder, EncodedImages, EncoderSettings, ImageTransform
from mmood.encoders.timm_towers import Pooled, PooledTokens, pooled_trunk
from mmood.encoders.transforms import Limited, eval_transform, train_transform
from mmood.encoders.weights import LOAD_ERRORS, seeded, unloadable, unreachable, weights_hash
from mmood.errors import MmoodError, unknown
from mmood.images.preprocessing import Preprocessing


def check_timm(settings: EncoderSettings) -> None:
    """Raise MmoodError if timm has no such model, tag or checkpoint file; loads no weights."""
    name, pretrained = settings.name.removeprefix(TIMM), settings.pretrained
    architecture, tag = timm.models.split_model_name_tag(name)
    if architecture not in timm.list_models():
        raise unknown("timm model", architecture, timm.list_models())
    tags = [known.partition(".")[2] for known in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        raise unknown(f"pretrained tag of timm's {architecture}", tag, tags)
    if pretrained is None and not timm.models.is_model_pretrained(name):
        raise MmoodError(f"timm has no weights for '{name}': set pretrained to a checkpoint file or to '{RANDOM}'.")
    if pretrained not in (None, RANDOM) and not Path(str(pretrained)).is_file():
        raise MmoodError(
            f"'{settings.name}' has pretrained='{pretrained}', which is not a file. A timm tag belongs in the name "
            f"(timm:{architecture}.TAG); leave pretrained out, or set a checkpoint file or '{RANDOM}'."
        )


@final
class ImageEncoder(AbstractEncoder):
    """A timm model without its classifier: pooled features, no joint space with texts.

    Attributes:
        model: timm's model, weights in float32.
    """

    embedding_dim: None

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        check_timm(settings)
        self.settings = settings
        self.model = _load(settings)
        self.feature_dim = int(self.model.head_hidden_size)
        self.embedding_dim = None
        self.data_config: dict[str, Any] = resolve_model_data_config(self.model)
        if settings.image_size is not None:
            self.data_config["input_size"] = (3, settings.image_size, settings.image_size)
        height, width = self.data_config["input_size"][1:]
        self.image_size = (height, width)
        self.preprocessing = _preprocessing(self.data_config)

    def encode_image(
        self, images: Float[Tensor, "batch 3 height width"], patches: bool = False, feature_map: bool = False
    ) -> EncodedImages:
        """Return features in float32, and the map if asked for; there are no embeddings or patches (MmoodError)."""
        if patches:
            self.patch_grid()
        if feature_map:
            rows, columns = self.map_grid()
        if images.shape[0] == 0:  # `len` would make a constant of it in an exported graph
            none = torch.empty(0, self.feature_dim, device=images.device)
            return EncodedImages(
                none, feature_map=none.reshape(0, rows * columns, self.feature_dim) if feature_map else None
            )
        if not feature_map:
            return EncodedImages(self.model(images).float())
        features, local = self._trunk.with_patches(images, self.settings.patches)
        return EncodedImages(features.float(), feature_map=local.float())

    def map_grid(self) -> tuple[int, int]:
        """Return the rows and columns of the feature map; MmoodError if the model gives none."""
        grid = self._trunk.grid(self.image_size)
        if grid is None:
            raise MmoodError(
                f"The feature map of '{self.settings.name}' was requested, but {type(self.model).__name__} gives none; "
                "choose a convolutional network or a ViT."
            )
        if self.settings.patches == "tokens" and not isinstance(self._trunk, PooledTokens):
            raise MmoodError(
                f"`model.encoder.patches` is tokens, but '{self.settings.name}' is a convolutional network, which has "
                "none; set it to value."
            )
        return grid

    @property
    def _trunk(self) -> Pooled:
        return pooled_trunk(self.model)

    def patch_grid(self) -> tuple[int, int]:
        """Refuse: without a joint space there is nothing to compare patches with."""
        raise MmoodError(f"Patch embeddings were requested from '{self.settings.name}', an image-only encoder.")

    def transform(self, train: bool = False) -> ImageTransform:
        """Return timm's eval transform for the model, or the training transform."""
        if train:
            return train_transform(self.preprocessing, self.settings.crop)
        if self.preprocessing.resize == "torch" or self.preprocessing.is_known():
            return eval_transform(self.preprocessing)
        transform = cast(ImageTransform, create_transform(**self.data_config, is_training=False))
        if self.data_config["crop_mode"] == "squash":
            return transform
        height, width = (round(side / self.data_config["crop_pct"]) for side in self.image_size)
        return Limited(transform, (height, width), self.data_config["crop_mode"] == "border")

    def weights_hash(self) -> str:
        """Return the sha256 (hex) of timm's state dict (without classifier) as it is now, on any device."""
        return weights_hash(self.model)

    def identity(self) -> dict[str, str | int | None]:
        """Return name, tag, weights hash, transform and width, for a provenance record."""
        return {
            "name": self.settings.name,
            "pretrained": self.settings.pretrained or self.model.pretrained_cfg.get("tag"),
            "weights_sha256": self.weights_hash(),
            **self.preprocessing.identity(),
            "feature_dim": self.feature_dim,
            "embedding_dim": None,
        }


def _preprocessing(config: dict[str, Any]) -> Preprocessing:
    return Preprocessing(
        size=tuple(config["input_size"][1:]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        resize_mode=f"{config['crop_mode']} {config['crop_pct']}",
    )


def _load(settings: EncoderSettings) -> Any:
    """Return timm's model without classifier; a size other than its own is set where its layers depend on it."""
    name = settings.name.removeprefix(TIMM)
    fixed = timm.get_pretrained_cfg(name).fixed_input_size
    size = {"img_size": settings.image_size} if fixed and settings.image_size is not None else {}
    what = f"The model '{settings.name}'"
    try:
        with seeded():
            model = timm.create_model(
                name, pretrained=settings.pretrained is None, num_classes=0, cache_dir=settings.cache_dir, **size
            )
    except OSError as error:
        raise unreachable(what, error) from error
    except LOAD_ERRORS as error:
        raise unloadable(what, error) from error
    if settings.pretrained not in (None, RANDOM):
        _load_file(model, str(settings.pretrained), what)
    return model


def _load_file(model: Any, path: str, what: str) -> None:
    """Load a checkpoint file as plain weights, leaving the classifier in it aside."""
    heads = model.pretrained_cfg.get("classifier") or ()
    prefixes = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    try:
        state = load_state_dict(path, weights_only=True)
        model.load_state_dict({key: value for key, value in state.items() if not key.startswith(prefixes)})
    except LOAD_ERRORS as error:
        raise unloadable(f"{what} with pretrained='{path}'", error) from error
