"""A training module of one's own: text prototypes that are trained with labels, the encoder frozen.

mmood fit --config vitb16_zeroshot.yaml ... --model own_module.PrototypeTuning --data.train my-train --trainer.max_epochs 5
MMOOD_TRUST=own_module mmood test --ckpt_path runs/prototypetuning/version_0/checkpoints/last.ckpt

The config gives the encoder, the class names and the scores; what it sets besides these of its own model is left out.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mmood import AbstractDetector, AbstractScore, EncodedImages, EncoderSettings, MmoodError, ModelReference, Reference


class PrototypeTuning(AbstractDetector):
    """Trains a vector for each ID class, from its text prototype on, by cross-entropy of the cosines.

    Args:
        encoder: a vision-language model, which stays as it is.
        class_names: ID classes: the name of a list, a text file with one name a line, or the names.
        scores: name in the results -> score; they read the cosines with the trained vectors.
        prompt: template of the text prototypes.
        lr: learning rate of Adam.
        temperature: divides the cosines in the loss.
    """

    def __init__(
        self,
        encoder: EncoderSettings,
        class_names: str | list[str],
        scores: dict[str, AbstractScore],
        prompt: str = "a photo of a {}",
        lr: float = 0.01,
        temperature: float = 0.05,
    ) -> None:
        super().__init__(encoder, class_names, scores)
        if not lr > 0:
            raise MmoodError(f"`model.lr` is {lr}; it must be greater than 0.")
        self.prompt, self.lr, self.temperature = prompt, lr, temperature
        self.encoder.requires_grad_(False)
        self.vectors = nn.Parameter(self.reference().prototypes.clone())

    def logits(self, encoded: EncodedImages) -> Float[Tensor, "batch classes"]:
        """Return the cosines with the trained vectors."""
        if encoded.embedding is None:
            raise MmoodError("PrototypeTuning needs a vision-language model.")
        return encoded.embedding @ functional.normalize(self.vectors, dim=1).T

    def reference(self) -> Reference:
        """Return the ID classes, with the text prototypes as they were."""
        return ModelReference(self.encoder, self.class_names, (self.prompt,), provider=self.provider)

    def trained_state(self) -> dict[str, Tensor]:
        """Return the vectors."""
        return {"vectors": self.vectors.detach()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam over the vectors."""
        return torch.optim.Adam([self.vectors], lr=self.lr)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of a batch of images."""
        with torch.no_grad():
            encoded = self.encoder.encode_image(batch["image"])
        return functional.cross_entropy(self.logits(encoded) / self.temperature, batch["label"])
