"""Prompt learning: context vectors before class names, trained on a few images while both towers are frozen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, final

import torch
from jaxtyping import Float
from lightning.pytorch import Callback
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from mmood.encoders import EncodedImages, EncoderSettings
from mmood.encoders.transforms import eval_transform, train_transform
from mmood.encoders.vision_language import with_texts
from mmood.errors import MmoodError
from mmood.features.loader import Rows
from mmood.features.views import MOST_IMAGES, Crops
from mmood.loading.batch import Batch
from mmood.loading.few_shot import FewShot
from mmood.modules.base import AbstractDetector
from mmood.modules.optimisation import ConstantWarmupCosine, ScheduleCallable, fused
from mmood.modules.prompt_learning.method import AbstractPromptMethod, TextSide, Views
from mmood.modules.prompt_learning.saving import SavePrompts
from mmood.modules.reference import ModelReference
from mmood.modules.training_monitor import TrainingMonitor
from mmood.modules.training_record import training_record
from mmood.prompts import LearnedPrompts
from mmood.scores.base import AbstractScore, Reference
from mmood.settings import check_choice, check_count, check_number
from mmood.shards.hashes import digest


@dataclass(frozen=True)
class FewShotSettings:
    """The images that prompts are learned from.

    Attributes:
        batch_size: images per step, over all devices together.
        shots: training images of each class; None for all.
        seed: of the draw of the shots, the start of the context and the noise, None for that of the run
            (`seed_everything`); the order of the images has `data.loader.seed`.
    """

    batch_size: int = 32
    shots: int | None = 16
    seed: int | None = None

    def __post_init__(self) -> None:
        check_count("`model.training.batch_size`", self.batch_size)
        check_count("`model.training.shots`", self.shots, null="all images")
        check_count("`model.training.seed`", self.seed, least=0, null="the run's")


@dataclass(frozen=True)
class CropSettings:
    """How training images are augmented.

    Attributes:
        area: smallest and largest share of an image's area in a crop.
        flip: mirror half of them.
        views: encode so many augmentations of each image once, before training, and train on these; None draws new ones
            in every epoch and passes them through the image tower, as the papers do. With a few views an epoch costs no
            more than its texts.
    """

    area: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    views: int | None = None

    def __post_init__(self) -> None:
        check_count("`model.images.views`", self.views, null="new crops in every epoch")
        for share in self.area:
            check_number("`model.images.area`", share, above=0, most=1)
        if self.area[0] > self.area[1]:
            raise MmoodError(
                f"`model.images.area` is {list(self.area)}; give the smallest and the largest share of an image's "
                "area, such as [0.08, 1]."
            )


_KEPT_ELSEWHERE = ("encoder", "class_names", "scores", "negative_prompts")
"""Settings of the module that have a place of their own beside the recipe, or play no part in the learning."""

_TRAINING = FewShotSettings()
_IMAGES = CropSettings()


@final
class PromptLearning(AbstractDetector):
    """Learns prompts from a few images of each class; towers and logit scale are frozen.

    Scores read cosines with the learned prompts of the ID classes, as those of `ZeroShot` do with fixed ones. At the
    end of a fit the prompts are written into the run's folder `prompts`, which `learned:FOLDER` in the place of a
    template gives to every text score. Contexts stay in float32 whatever the trainer's precision.

    Args:
        encoder: a vision-language model with one of open_clip's own text towers.
        class_names: ID classes: the name of a list, a text file with one name a line, or the names.
        scores: name in the results -> score.
        method: what is learned, and with which loss.
        training: batch size, shots and seed.
        images: augmentation.
        negative_prompts: prompts of negative labels: `fixed`, those of their list, or `learned`, the context of the ID
            classes.
        chunk: texts whose activations are held at a time: less memory and the same gradient, in more time; None for
            all.
        optimizer: from the parameters to their optimiser.
        schedule: from the optimiser and the number of epochs to the learning rate of each epoch.
    """

    def __init__(
        self,
        encoder: EncoderSettings,
        class_names: str | list[str],
        scores: dict[str, AbstractScore],
        method: AbstractPromptMethod,
        training: FewShotSettings = _TRAINING,
        images: CropSettings = _IMAGES,
        negative_prompts: Literal["fixed", "learned"] = "fixed",
        chunk: int | None = None,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.SGD(
            parameters, lr=2e-3, momentum=0.9, weight_decay=5e-4
        ),
        schedule: ScheduleCallable = lambda optimizer, epochs: ConstantWarmupCosine(optimizer, epochs),
    ) -> None:
        super().__init__(encoder, class_names, scores)
        check_count("`model.chunk`", chunk, null="all texts at once")
        check_choice("`model.negative_prompts`", negative_prompts, ("fixed", "learned"))
        # A method may take several steps on one batch.
        self.automatic_optimization = False
        self.encoder.requires_grad_(False)
        self.method = method
        self.training_settings = training
        self.images = images
        self.negative_prompts = negative_prompts
        self.chunk = chunk
        self.optimizer = optimizer
        self.schedule = schedule
        self.method.build(self.side(), training.seed or 0)
        if negative_prompts == "learned":
            self.learned_prompts().shared()
        self._prototypes: Tensor | None = None
        self._crop_prototypes: Tensor | None = None

    def side(self) -> TextSide:
        """Return the text tower and the classes as the method sees them."""
        return TextSide(with_texts(self.encoder), self.class_names, self.chunk)

    def logits(self, encoded: EncodedImages) -> Float[Tensor, "batch classes"]:
        """Return the raw cosines of the embeddings with the learned prompts of the ID classes."""
        if encoded.embedding is None or self._prototypes is None:
            raise MmoodError("PromptLearning makes its text prototypes in fit_scores(); call it first.")
        return encoded.embedding @ self._prototypes.T

    def reference(self) -> Reference:
        """Return the class names and their learned prompts, as they are now."""
        learned = self.learned_prompts()
        reference = ModelReference(
            self.encoder, self.class_names, learned.templates, provider=self.provider, learned=learned
        )
        self._prototypes = reference.prototypes
        return reference

    def learned_prompts(self) -> LearnedPrompts:
        """Return what the method has learned until now; `mmood.prompts.save_prompts` writes it."""
        identity = self.encoder.identity()
        recipe = {name: value for name, value in self.settings().items() if name not in _KEPT_ELSEWHERE}
        if self.fitting():
            recipe["trained"] = training_record(self)
        return LearnedPrompts(
            method=type(self.method).__name__,
            class_names=tuple(self.class_names),
            families=self.method.families(),
            templates=self.method.templates,
            tower={name: identity[name] for name in ("name", "pretrained", "weights_sha256")},
            recipe=recipe,
            tensors={name: tensor.detach().float().cpu() for name, tensor in self.method.tensors().items()},
            for_words=self.negative_prompts == "learned",
        )

    def trained_state(self) -> dict[str, Tensor]:
        """Return the tensors of the method, some kilobytes."""
        return {name: tensor for name, tensor in self.state_dict().items() if name.startswith("method.")}

    def belongs_to(self) -> dict[str, object]:
        """Return method and what it reads; the class names of prompts that belong to single classes.

        While prompts are learned also how: one draw of the shots, one method and one augmentation belong to a run.
        """
        settings, fitting = self.settings(), self.fitting()
        method = settings["method"]
        assert isinstance(method, dict)
        kept = method if fitting else {"class_path": method["class_path"]}
        found: dict[str, object] = {"method": {**kept, **self.method.reads()}}
        if fitting:
            found |= {name: settings[name] for name in ("training", "images")}
        single = any(family.layout.pairing == "own" for family in self.method.families().values())
        if fitting or single or self.method.tensors():
            found["class_names"] = list(self.class_names)
        return found

    def details(self) -> dict[str, object]:
        """Return what stands in the place of prompt templates, which method learned it, and what it has settled."""
        described = self.learned_prompts().describe()
        return {"prompts": described, "learned_by": type(self.method).__name__, "settled": self.method.details()}

    def few_shot(self) -> FewShot:
        """Return the draw of the images, and their crops."""
        one = train_transform(self.encoder.preprocessing, self.images.area, self.images.flip)
        return self._drawn(Crops(one, self.method.crops))

    def training_rows(self) -> Rows | None:
        """Return the stored views of the images, encoded now; None to draw new crops in every epoch."""
        if self.images.views is None:
            return None
        return self.id_features().views(self.few_shot(), self.images.views, self.method.reads_patches)

    def monitors(self) -> list[Callback]:
        """Return the callbacks that log the training, and write the learned prompts at its end.

        Raises:
            MmoodError: the trainer is to do what it cannot where a module takes its steps itself. This is the first
                hook that Lightning calls; a little later it would say so in its own terms.
        """
        if self._trainer is not None and (
            self._trainer.accumulate_grad_batches != 1 or self._trainer.gradient_clip_val is not None
        ):
            raise MmoodError(
                "PromptLearning takes its steps itself, a batch each, without clipping; leave out "
                "`trainer.accumulate_grad_batches` and `trainer.gradient_clip_val` (the batch is "
                "`model.training.batch_size`, and `model.chunk` saves memory)."
            )
        return [TrainingMonitor(), SavePrompts(self.learned_prompts)]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser of the method's parameters and its schedule, which goes by epochs."""
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 1:
            raise MmoodError("The learning rate of prompts falls by epochs to the last one; set `trainer.max_epochs`.")
        made = fused(self.optimizer(_trained(self.method.parameters())))
        return {"optimizer": made, "lr_scheduler": self.schedule(made, epochs)}

    def on_fit_start(self) -> None:
        """Keep the towers as they are, and let the method see its images once."""
        self.encoder.eval()
        if self.method.crop_template is not None:
            self._crop_prototypes = self.side().fixed([self.method.crop_template])
        if self.method.reads_support:
            few = self._drawn(Crops(eval_transform(self.encoder.preprocessing), 1))
            support = self.id_features().views(few, 1, patches=False)
            rows = nn.functional.normalize(support.embedding[:, 0, 0].float(), dim=-1)
            self.method.learn_support(rows.to(self.device), support.targets.to(self.device))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Take the method's steps on a batch; return their mean loss."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        side, views, losses = self.side(), self._views(batch), []
        for step in range(self.method.steps):
            number = digest(self.training_settings.seed or 0, self.trainer.global_step) % 2**63
            texts = self.method.texts(side, views, torch.Generator().manual_seed(number))
            with torch.autocast(self.device.type, enabled=False):
                loss = self.method.loss(views, texts, side.scale, step)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).mean()

    def on_train_epoch_end(self) -> None:
        """Go on to the learning rate of the next epoch."""
        cast(LRScheduler, self.lr_schedulers()).step()

    def _drawn(self, transform: Crops) -> FewShot:
        training = self.training_settings
        return FewShot(training.shots, training.seed or 0, training.batch_size, transform)

    @torch.no_grad()
    def _views(self, batch: Batch) -> Views:
        """Return the images of a batch through the frozen tower, or from the store."""
        if "image" in batch:
            images = batch["image"]
            embedding, patches = self._encoded(images if images.ndim == 5 else images.unsqueeze(1))
        else:
            embedding = nn.functional.normalize(batch["embedding"].float(), dim=-1)
            patches = nn.functional.normalize(batch["patches"].float(), dim=-1) if "patches" in batch else None
        views = Views(embedding, patches, batch["label"])
        return views if self._crop_prototypes is None else views.ranked(self._crop_prototypes)

    def _encoded(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        found: list[EncodedImages] = [
            self.encoder.encode_image(part, patches=self.method.reads_patches)
            for part in torch.split(images.flatten(0, 1), MOST_IMAGES)
        ]
        embedding = torch.cat([one.embedding for one in found if one.embedding is not None])
        parts = [one.patches for one in found if one.patches is not None]
        patches = torch.cat(parts).reshape(*images.shape[:2], *parts[0].shape[1:]) if parts else None
        return embedding.reshape(*images.shape[:2], -1), patches


def _trained(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]
