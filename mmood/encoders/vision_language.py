"""The encoder of images and texts on open_clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mmood.encoders.base import AbstractEncoder, EncodedImages, EncoderSettings, ImageTransform
from mmood.encoders.large_tables import filled
from mmood.encoders.loading import check_open_clip, load_model, load_tokenizer
from mmood.encoders.prompts import check_templates, fill
from mmood.encoders.shared_beginnings import Beginnings, Begun, Endings
from mmood.encoders.splitting import image_tower
from mmood.encoders.texts import (
    begin_frozen,
    cut,
    deciding_tokens,
    encode_frozen,
    encode_frozen_endings,
    encode_tokens,
    end_frozen,
    given_embeddings,
    shared,
    token_embedding,
)
from mmood.encoders.transforms import eval_transform, train_transform
from mmood.encoders.weights import weights_hash
from mmood.errors import MmoodError
from mmood.images.preprocessing import Preprocessing


@final
class VisionLanguageEncoder(AbstractEncoder):
    """A CLIP-like model: two towers into one space, where cosines compare images with texts.

    Towers run under the autocast of the caller. Their output is cast to float32 before it is projected (images) and
    normalised, so embeddings have unit norm whatever the precision.

    Attributes:
        model: open_clip's model, weights in float32; its parameters are the encoder's only ones.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        check_open_clip(settings)
        self.settings = settings
        # First what is small: a missing package shows before gigabytes are downloaded.
        self.tokenizer = load_tokenizer(settings)
        self.model = load_model(settings)
        self.tower = image_tower(self.model)
        self.feature_dim = self.tower.feature_dim
        self.embedding_dim: int = self.tower.embedding_dim
        self.preprocessing = _preprocessing(self.model.visual.preprocess_cfg)
        self.image_size = self.preprocessing.size

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        device: torch.device = self.model.logit_scale.device
        return device

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """What multiplies the cosine, already exponentiated (1 / temperature); carries a gradient."""
        log_scale: Tensor = self.model.logit_scale
        return log_scale.float().exp().reshape(())

    @property
    def logit_bias(self) -> Float[Tensor, ""] | None:
        """What is added to the scaled cosine (SigLIP), or None."""
        return None if self.model.logit_bias is None else self.model.logit_bias.float().reshape(())

    def encode_image(
        self, images: Float[Tensor, "batch 3 height width"], patches: bool = False, feature_map: bool = False
    ) -> EncodedImages:
        """Return features before projection and unit-norm embeddings, from one pass of the tower.

        With `patches`, also the (B, P, D) unit-norm patch embeddings that `settings.patches` names, and with
        `feature_map` these before the projection, (B, P, F), at the cost of at most one more block. Raises MmoodError
        for a tower that gives none.
        """
        local_wanted = patches or feature_map
        if local_wanted:
            self.map_grid()
        if images.shape[0] == 0:  # `len` would make a constant of it in an exported graph
            # open_clip's towers raise on an empty batch.
            return self._nothing(images, patches, feature_map)
        features, local = self.tower.features(images, self.settings.patches if local_wanted else None)
        features, local = features.float(), None if local is None else local.float()
        embedded = self._embed(local) if patches and local is not None else None
        return EncodedImages(features, self._embed(features), embedded, local if feature_map else None)

    def patch_grid(self) -> tuple[int, int]:
        """Return the rows and columns of the patch embeddings, which are those of the map."""
        return self.map_grid()

    def map_grid(self) -> tuple[int, int]:
        """Return the rows and columns of the local features; MmoodError if the tower gives none."""
        if self.tower.grid is None:
            raise MmoodError(
                f"Patch embeddings were requested from '{self.settings.name}', whose image tower "
                f"({type(self.model.visual).__name__}) gives none; choose a ViT such as ViT-B-16, or a convolutional "
                "network."
            )
        if self.settings.patches == "tokens" and not self.tower.tokens:
            raise MmoodError(
                f"`model.encoder.patches` is tokens, but '{self.settings.name}' is a convolutional network, which has "
                "none; set it to value."
            )
        return self.tower.grid

    def project(self, features: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch dim"]:
        """Return features in the joint space, float32, not normalised: what open_clip calls `encode_image`."""
        with torch.autocast(features.device.type, enabled=False):
            return self.tower.project(features.float())

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "texts length"]:
        """Return the token ids of texts on the model's device, cut behind the longest where that changes nothing.

        Texts longer than the model's context lose their end.
        """
        return cut(self.model, self.tokenizer(list(texts))).to(self.device)

    def encode_token_ids(
        self, tokens: Int[Tensor, "texts length"], beginnings: Beginnings | None = None
    ) -> Float[Tensor, "texts dim"]:
        """Return the projected embeddings of token ids as `tokenize` gives them, float32, not normalised.

        `beginnings` that the texts share pass the tower once.
        """
        return encode_tokens(self.model, tokens, beginnings).float()

    def encode_text(
        self, texts: Sequence[str], normalise: bool = True, batch_size: int = 256
    ) -> Float[Tensor, "texts dim"]:
        """Return float32 embeddings of whole texts (no template is applied), `batch_size` at a time.

        They are of unit norm unless `normalise` is off.

        Gradients flow to the text tower unless the caller switches them off.
        """
        embedding = self._encode_text(texts, batch_size)
        return functional.normalize(embedding, dim=-1) if normalise else embedding

    def prototypes(
        self,
        class_names: Sequence[str],
        templates: Sequence[str],
        normalise_first: bool = True,
        batch_size: int = 256,
    ) -> Float[Tensor, "classes dim"]:
        """Return one unit-norm text prototype per class: normalise every prompt, average over templates, normalise.

        With `normalise_first` off the prompts are averaged as they are (CSP). Under `no_grad`, memory beyond the
        prototypes is bounded by `batch_size` prompts (or the templates of one class), and those of very many classes
        are mapped from a file (`large_tables`). Raises MmoodError for a template without `{}`.
        """
        check_templates(templates)

        def blocks() -> Iterator[Tensor]:
            step = max(1, batch_size // len(templates))
            for start in range(0, len(class_names), step):
                names = class_names[start : start + step]
                prompts = [fill(template, name) for name in names for template in templates]
                texts = self._encode_text(prompts, batch_size)
                texts = functional.normalize(texts, dim=-1) if normalise_first else texts
                means = texts.reshape(len(names), len(templates), -1).mean(dim=1)
                yield functional.normalize(means, dim=-1)

        if torch.is_grad_enabled():
            return torch.cat([torch.empty(0, self.embedding_dim, device=self.device), *blocks()])
        return filled(blocks(), len(class_names), self.embedding_dim, self.device)

    def embed_tokens(self, tokens: Int[Tensor, "texts length"]) -> Float[Tensor, "texts length width"]:
        """Return the token embeddings that the text tower starts from, before positions are added."""
        embeddings: Tensor = token_embedding(self.model)(tokens)
        return embeddings

    def encode_token_embeddings(
        self, embeddings: Float[Tensor, "texts length width"], tokens: Int[Tensor, "texts length"]
    ) -> Float[Tensor, "texts dim"]:
        """Return unit-norm embeddings of texts given by their token embeddings, with gradient (textual inversion).

        `tokens` are ids of the same length: they say where a text ends and what is padding, so a place-holder word
        stands wherever an embedding was replaced. Raises MmoodError for a text tower that is not open_clip's own.
        """
        with given_embeddings(token_embedding(self.model), embeddings):
            return functional.normalize(self.encode_token_ids(tokens), dim=-1)

    def frozen_tokens(
        self, texts: Sequence[str]
    ) -> tuple[Int[Tensor, "texts length"], Float[Tensor, "texts length width"]]:
        """Return ids and embeddings of the tokens of texts, the embeddings without gradient."""
        tokens = self.tokenize(texts)
        return tokens, self.embed_tokens(tokens).detach()

    def encode_frozen_tokens(
        self, embeddings: Float[Tensor, "texts length width"], tokens: Int[Tensor, "texts length"]
    ) -> Float[Tensor, "texts dim"]:
        """Return unit-norm embeddings as `encode_token_embeddings`; the weights are constants."""
        return functional.normalize(encode_frozen(self.model, embeddings, tokens).float(), dim=-1)

    def encode_frozen_endings(
        self,
        beginnings: Float[Tensor, "beginnings before width"],
        beginning: Int[Tensor, " texts"],
        endings: Float[Tensor, "texts after width"],
        tokens: Int[Tensor, "texts length"],
    ) -> Float[Tensor, "texts dim"]:
        """Return what `encode_frozen_tokens` does for texts that share beginnings, which pass a causal tower once.

        Args:
            beginnings: token embeddings; no text ends within its own.
            beginning: the number of the beginning of each text.
            endings: token embeddings of what follows in each text.
            tokens: ids of the whole texts.
        """
        encoded = encode_frozen_endings(self.model, beginnings, beginning, endings, tokens)
        return functional.normalize(encoded.float(), dim=-1)

    def begin_frozen(
        self, beginnings: Float[Tensor, "beginnings before width"], lengths: Int[Tensor, " beginnings"]
    ) -> Begun | None:
        """Return what the text tower makes of beginnings that many texts will have, given by token embeddings.

        They may be padded behind their lengths. None for a tower to which each text has to be given as a whole.
        """
        return begin_frozen(self.model, beginnings, lengths)

    def end_frozen(self, begun: Begun, endings: Endings) -> Float[Tensor, "texts dim"]:
        """Return unit-norm embeddings of texts whose beginnings `begin_frozen` knows; the weights are constants."""
        return functional.normalize(end_frozen(self.model, begun, endings).float(), dim=-1)

    def transform(self, train: bool = False) -> ImageTransform:
        """Return open_clip's eval transform for this model, or the training transform."""
        return train_transform(self.preprocessing, self.settings.crop) if train else eval_transform(self.preprocessing)

    def weights_hash(self) -> str:
        """Return the sha256 (hex) of open_clip's state dict as it is now, on any device."""
        return weights_hash(self.model)

    def identity(self) -> dict[str, str | int | None]:
        """Return name, tag, weights hash, transform and widths, for a provenance record."""
        return {
            "name": self.settings.name,
            "pretrained": self.settings.pretrained,
            "weights_sha256": self.weights_hash(),
            **self.preprocessing.identity(),
            "feature_dim": self.feature_dim,
            "embedding_dim": self.embedding_dim,
        }

    def _embed(self, features: Tensor) -> Tensor:
        return functional.normalize(self.project(features), dim=-1)

    def _encode_text(self, texts: Sequence[str], batch_size: int) -> Tensor:
        """Return float32 embeddings of texts, not normalised; (0, D) for no texts.

        Texts of like length pass the tower together, so that few are padded, and what they begin with alike once.
        """
        if not texts:
            return torch.empty(0, self.embedding_dim, device=self.device)
        tokens = self.tokenizer(list(texts))
        lengths = deciding_tokens(self.model, tokens)
        order = lengths.argsort(stable=True)
        chunks = []
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            part = tokens[rows, : int(lengths[rows[-1]])]
            beginnings = shared(self.model, part, lengths[rows])
            on_device = None if beginnings is None else beginnings.to(self.device)
            chunks.append(self.encode_token_ids(part.to(self.device), on_device))
        return torch.cat(chunks)[order.argsort().to(self.device)]

    def _nothing(self, images: Tensor, patches: bool, feature_map: bool) -> EncodedImages:
        """Return the answer to an empty batch."""
        none, count = torch.empty(0, device=images.device), self.tower.patches or 0
        local = none.reshape(0, count, self.embedding_dim) if patches else None
        features = none.reshape(0, count, self.feature_dim) if feature_map else None
        return EncodedImages(none.reshape(0, self.feature_dim), none.reshape(0, self.embedding_dim), local, features)


def with_texts(encoder: AbstractEncoder) -> VisionLanguageEncoder:
    """Return the encoder as one that has a text encoder.

    Raises:
        MmoodError: the encoder is image-only.
    """
    if not isinstance(encoder, VisionLanguageEncoder):
        raise MmoodError(
            f"model.encoder.name is '{encoder.settings.name}', an image-only encoder, which has no text encoder; use "
            "a vision-language model such as ViT-B-16, or scores and labels that need no text."
        )
    return encoder


def _preprocessing(config: dict[str, object]) -> Preprocessing:
    """Return open_clip's preprocessing settings, its sizes written as (height, width)."""
    from open_clip.transform import PreprocessCfg

    settings = PreprocessCfg(**config)
    size = (settings.size, settings.size) if isinstance(settings.size, int) else tuple(settings.size)
    return Preprocessing(
        size=size,
        mean=tuple(settings.mean),
        std=tuple(settings.std),
        interpolation=settings.interpolation,
        resize_mode=settings.resize_mode,
        fill=settings.fill_color,
    )
