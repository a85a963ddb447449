"""Dense scores of a vision-language model: every patch is compared with the class names, without any training."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from mmood.dense.detector import AbstractDenseDetector
from mmood.dense.scores import AbstractDenseScore, DenseOutputs, checked_scores
from mmood.dense.transforms import MEAN, STD
from mmood.encoders import EncoderSettings, build_encoder, load_templates
from mmood.encoders.vision_language import with_texts
from mmood.errors import MmoodError
from mmood.modules.reference import ModelReference
from mmood.scores.base import Embedded, Reference
from mmood.settings import check_count

Images = Float[Tensor, "batch 3 height width"]


@final
class DenseZeroShot(AbstractDenseDetector):
    """Compares every patch of an image with the text prototypes of the ID classes (MaskCLIP, arXiv 2112.01071).

    Args:
        class_names: names of the ID classes of pixels.
        scores: name in the results -> score of pixels; `OfPatches` applies a score of images.
        encoder: a vision-language model with patch embeddings.
        prompts: templates of the class names.
        tiles: rows and columns into which an image is cut; each tile becomes an input of the tower. More tiles see
            finer details and less of their surroundings.
    """

    def __init__(
        self,
        class_names: str | list[str],
        scores: dict[str, AbstractDenseScore],
        encoder: EncoderSettings,
        prompts: str | list[str] = "a photo of a {}",
        tiles: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__(class_names, checked_scores(scores, observed=False))
        for count in tiles:
            check_count("`model.tiles`", count)
        self.encoder = with_texts(build_encoder(encoder)).requires_grad_(False)
        self.encoder.patch_grid()  # refuses a tower without patches
        self.templates = load_templates(prompts)
        self.tiles = tiles
        self._reference: ModelReference | None = None

    def texts(self) -> Reference:
        """Return class names and prototypes, for scores of images."""
        if self._reference is None:
            self._reference = ModelReference(self.encoder, self.class_names, self.templates)
        return self._reference

    def outputs(self, images: Images) -> DenseOutputs:
        """Return the cosines of every patch of every tile, put together row by row, and those of the whole image."""
        prototypes = self.texts().prototypes
        own = self._renormalised(images)
        whole = self.encoder.encode_image(self._as_input(own))
        patches = self._patches(own)
        batch, height, width, dim = patches.shape
        rows = patches.reshape(-1, dim)
        with torch.autocast(self.device.type, enabled=False):
            cosines = rows @ prototypes.T
            assert whole.embedding is not None
            whole_logits = whole.embedding @ prototypes.T
        return DenseOutputs(
            cosines.view(batch, height, width, -1).movedim(3, 1),
            patches=Embedded(rows, cosines, rows),
            whole=Embedded(whole.features, whole_logits, whole.embedding),
        )

    def train(self, mode: bool = True) -> DenseZeroShot:
        """Stay in evaluation mode: nothing is trained."""
        super().train(False)
        return self

    def configure_optimizers(self) -> None:
        """Refuse training."""
        raise MmoodError("DenseZeroShot has nothing to train; run `mmood test`.")

    def training_step(self) -> None:
        """Refuse training."""
        self.configure_optimizers()

    def _patches(self, images: Images) -> Float[Tensor, "batch height width dim"]:
        """Return the unit-norm embedding of every patch of every tile, as one grid."""
        rows, columns = self.tiles
        height, width = images.shape[2] // rows * rows, images.shape[3] // columns * columns
        trimmed = images if (height, width) == tuple(images.shape[2:]) else interpolate(images, (height, width))
        cut = trimmed.reshape(-1, 3, rows, height // rows, columns, width // columns)
        tiles = cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        found = self.encoder.encode_image(self._as_input(tiles), patches=True).patches
        assert found is not None
        down, across = self.encoder.patch_grid()
        grid = found.view(-1, rows, columns, down, across, found.shape[-1]).permute(0, 1, 3, 2, 4, 5)
        return grid.flatten(1, 2).flatten(2, 3)

    def _as_input(self, images: Images) -> Images:
        if not len(images):
            return images.new_empty((0, 3, *self.encoder.image_size))
        return interpolate(images, self.encoder.image_size, mode="bilinear", align_corners=False, antialias=True)

    def _renormalised(self, images: Images) -> Images:
        """Return images that were normalised as for segmentation in the normalisation of the tower."""

        def column(values: tuple[float, ...]) -> Tensor:
            return images.new_tensor(values).view(3, 1, 1)

        preprocessing = self.encoder.preprocessing
        pixels = images * column(STD) + column(MEAN)
        return (pixels - column(preprocessing.mean)) / column(preprocessing.std)
