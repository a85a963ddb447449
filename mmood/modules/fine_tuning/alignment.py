"""Contrastive fine-tuning of both towers with a cross-modal alignment regulariser."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from lightning.pytorch import Callback
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional

from mmood.encoders import EncodedImages, EncoderSettings, load_templates
from mmood.encoders.vision_language import VisionLanguageEncoder, with_texts
from mmood.encoders.weights import named_weights
from mmood.errors import MmoodError
from mmood.loading.batch import Batch
from mmood.losses import Pairs, alignment_loss, distinct_texts
from mmood.modules.base import AbstractDetector
from mmood.modules.fine_tuning.alignment_monitor import AlignmentMonitor
from mmood.modules.fine_tuning.captions import Candidates, Captions, with_classes
from mmood.modules.fine_tuning.execution import Execution, check_exact, prepare, sharded
from mmood.modules.fine_tuning.gradient_cache import in_chunks
from mmood.modules.fine_tuning.interpolation import interpolate, interpolation_weights
from mmood.modules.fine_tuning.measuring import Planned, StepMemoryNote, image_pass, measured, memory_note, size_of
from mmood.modules.fine_tuning.memory import Pass
from mmood.modules.fine_tuning.trained import TrainedTowers, parameter_groups, select, training_mode
from mmood.modules.gather import gathered, rank, world_size
from mmood.modules.optimisation import ScheduleCallable, WarmupCosine, refuse_accumulation, stepped
from mmood.modules.reference import ModelReference
from mmood.modules.training_monitor import TrainingMonitor
from mmood.scores.base import AbstractScore, Reference
from mmood.settings import check_number

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LossSettings:
    """Variants of the loss; the defaults are the reference's.

    Attributes:
        texts: the texts of a step: `pairs` encodes one per image, `distinct` each distinct one of the global batch once
            (the same loss, about a fifth less text to encode at 512 of 1,000 classes), `classes` one per ID class.
        detach_scale: stop the gradient to the logit scale inside the regulariser.
        multi_positive: images and texts of one class are positives of each other; else only an image's own text is.
        max_scale: clamp the logit scale to this after every step; CLIP's own training has 100. None for no clamp.
    """

    texts: Candidates = "pairs"
    detach_scale: bool = False
    multi_positive: bool = False
    max_scale: float | None = None

    def __post_init__(self) -> None:
        check_number("`model.loss.max_scale`", self.max_scale, above=0, null="no clamp")


_LOSS = LossSettings()
_TRAINED = TrainedTowers()
_EXECUTION = Execution()


@final
class AlignmentFineTune(AbstractDetector):
    """Fine-tunes a CLIP with `1/2 (CE_I + λ R_I) + 1/2 (CE_T + λ R_T)` (CMA, arXiv 2503.18817); scores as `ZeroShot`.

    The contrastive batch is that of all devices together: 2 x 256 trains the same weights as 1 x 512.

    Warning:
        The released code's default for λ is 0, which is FLYP; the paper's command has 0.001. At λ = 1 nothing repels,
        and all embeddings collapse.

    Args:
        encoder: a vision-language model.
        class_names: ID classes: the name of a list, a text file with one name a line, or the names.
        scores: name in the results -> score.
        alignment: λ, weight of the regulariser, in [0, 1]; the paper's command has 0.001, and 0 is FLYP.
        prompts: templates of the training texts and of the prototypes; with several, each image draws one in training.
        loss: variants of the loss.
        trained: which towers are trained.
        optimizer: from the parameters to their optimiser.
        schedule: from the optimiser and the number of steps to the learning rate of each step.
        execution: memory and speed of a step.
        weight_interpolation: evaluate weights between the pre-trained (0) and a checkpoint's (1), as WiSE-FT does;
            several are evaluated one after the other, each with rows of its own.

    Attributes:
        alphas: the values of `weight_interpolation`, in order.
    """

    def __init__(
        self,
        encoder: EncoderSettings,
        class_names: str | list[str],
        scores: dict[str, AbstractScore],
        alignment: float,
        prompts: str | list[str] = "The nice {}",
        loss: LossSettings = _LOSS,
        trained: TrainedTowers = _TRAINED,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.1),
        schedule: ScheduleCallable = lambda optimizer, steps: WarmupCosine(optimizer, steps, warmup=500),
        execution: Execution = _EXECUTION,
        weight_interpolation: float | list[float] | None = None,
    ) -> None:
        super().__init__(encoder, class_names, scores)
        _check(alignment, trained)
        check_exact(execution, trained)
        self.templates = load_templates(prompts)
        self.alignment = alignment
        self.loss = loss
        self.trained = trained
        self.optimizer = optimizer
        self.schedule = schedule
        self.execution = execution
        self.weight_interpolation = weight_interpolation
        self.alphas = interpolation_weights(weight_interpolation)
        self._alpha = self.alphas[0] if len(self.alphas) == 1 else None
        self._pretrained: dict[str, Tensor] | None = None
        select(self._vision_language, trained)
        self._prototypes: Tensor | None = None

    @property
    def prototypes(self) -> Float[Tensor, "classes dim"]:
        """The text prototypes of the latest evaluation."""
        if self._prototypes is None:
            raise MmoodError("AlignmentFineTune has no text prototypes yet; call fit_scores() first.")
        return self._prototypes

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """The learnt logit scale, already exponentiated."""
        return self._vision_language.logit_scale

    def logits(self, encoded: EncodedImages) -> Float[Tensor, "batch classes"]:
        """Return the raw cosines of the embeddings with the prototypes."""
        assert encoded.embedding is not None
        # After a run a Trainer takes the weights back to the CPU, but not what is no parameter.
        return encoded.embedding @ self.prototypes.to(encoded.embedding.device).T

    def reference(self) -> Reference:
        """Return the class names and their text prototypes, made now with the fine-tuned text tower."""
        if self.alphas and self._pretrained is None and not self.fitting():
            raise MmoodError(
                f"`model.weight_interpolation` is {list(self.alphas)}, but no fine-tuned checkpoint was loaded; name "
                "one with --ckpt_path."
            )
        reference = ModelReference(self.encoder, self.class_names, self.templates, provider=self.provider)
        self._prototypes = reference.prototypes
        return reference

    def trained_state(self) -> dict[str, Tensor]:
        """Return the whole encoder, frozen parts and BatchNorm statistics included: a checkpoint stands alone."""
        return {name: tensor for name, tensor in named_weights(self).items() if name.startswith("encoder.")}

    def load_at(self, alpha: float) -> None:
        """Let the next checkpoint that is loaded be interpolated to α, where `weight_interpolation` names several."""
        self._alpha = alpha

    def weights_to_load(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the interpolated weights, between those before the first checkpoint and the stored ones.

        Raises:
            MmoodError: `weight_interpolation` names several values of α, and none was chosen.
        """
        if not self.alphas or self.fitting():
            return stored
        if self._alpha is None:
            raise MmoodError(
                f"`model.weight_interpolation` is {list(self.alphas)}; only `mmood test` and `mmood validate` take "
                "several values, so give one here."
            )
        if self._pretrained is None:
            self._pretrained = {name: tensor.detach().cpu().clone() for name, tensor in self.trained_state().items()}
        return interpolate(self._pretrained, stored, self._alpha)

    def details(self) -> dict[str, object]:
        """Return the prompt templates, with named sets resolved."""
        return {"prompts": list(self.templates)}

    def setup(self, stage: str) -> None:
        """Prepare the towers for training."""
        if stage == "fit":
            prepare(self.encoder, self.execution)

    def training_strategy(self) -> Strategy | str | None:
        """Return what `model.execution.strategy` asks of a trainer."""
        return self.execution.trainer_strategy()

    def configure_model(self) -> None:
        """Share the weights among the devices, where `model.execution.strategy` says so."""
        self.shards = sharded(self, self.execution)

    def monitors(self) -> list[Callback]:
        """Return the callbacks that log the training and how the embeddings lie."""
        return [StepMemoryNote(), TrainingMonitor(), AlignmentMonitor()]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser of the trained parameters and its schedule, stepped after every batch."""
        groups = parameter_groups(self.encoder, self.trained.decay_vectors)
        return stepped(self.optimizer(groups), self.schedule, self.trainer)

    def on_fit_start(self) -> None:
        """Refuse what would shrink the contrastive batch, tokenise the prompts, say if this is FLYP."""
        refuse_accumulation(self.trainer, "texts")
        if self.alignment == 0:
            _log.info("model.alignment is 0: this is FLYP (arXiv 2212.00638), without the alignment regulariser.")
        training_mode(self.encoder, self.trained)
        self._captions = Captions(self._vision_language, self.class_names, self.templates)
        # Negative labels are mined with the pre-trained weights, as the paper's were; a checkpoint keeps the list.
        self.fit_scores()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Clamp the logit scale; before a step and not after it, so that a checkpoint in between changes nothing."""
        if self.loss.max_scale is not None:
            self._vision_language.model.logit_scale.data.clamp_(max=math.log(self.loss.max_scale))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of the global batch, computed in float32."""
        # How many texts there are is known on the CPU only when a GPU is done with all that it was given: ask before
        # the image tower's work, not after it.
        ids, pairs = self._candidates(batch)
        image = gathered(in_chunks(self._embed_images, batch["image"], self.execution.chunk))
        text = gathered(self._embed_texts(ids)) if self.loss.texts == "pairs" else self._shared(ids)
        with torch.autocast(self.device.type, enabled=False):
            return alignment_loss(image, text, self.logit_scale, self.alignment, pairs, self.loss.detach_scale)

    def step_memory(self, images: int, world: int, device: torch.device) -> str:
        """Return in a sentence what a step with so many images needs on each of `world` devices like `device`."""
        return memory_note(self, self.step_passes(images, world), world, device)

    def step_passes(self, images: int, world: int) -> list[Pass]:
        """Return what the passes of a step through the towers keep on each device; every rank must call this."""
        captions = Captions(self._vision_language, self.class_names, self.templates)
        of_images = image_pass(self.encoder, self._embed_images, images)
        texts = captions.expected(self.loss.texts, images * world)
        sample = captions.tokens[torch.arange(3, device=self.device) % len(captions.tokens)]
        size = size_of(self.encoder).without(of_images.size)
        of_texts = Planned(self._vision_language.encode_token_ids, sample, -(-texts // world), size)
        with self.shards.whole():
            return measured(self.encoder, [of_images, of_texts], self.execution)

    def _candidates(self, batch: Batch) -> tuple[Int[Tensor, " texts"], Pairs]:
        """Return the texts to encode, and which image of the global batch has which.

        The texts are those of all ranks, of which each encodes a share; of `pairs` they are those of this rank's own
        images.
        """
        captions, labels = self._captions, batch["label"]
        if self.loss.texts == "classes":
            texts, pairs = captions.of_classes(self.global_step), Pairs(gathered(labels))
            return texts, self._positives(pairs, texts)
        own = captions.of_images(labels, batch["key"], self.current_epoch)
        ids = gathered(own)
        if self.loss.texts == "distinct":
            texts, pairs = distinct_texts(ids)
            return texts, self._positives(pairs, texts)
        return own, self._positives(Pairs(torch.arange(len(ids), device=ids.device)), ids)

    def _positives(self, pairs: Pairs, texts: Int[Tensor, " texts"]) -> Pairs:
        return with_classes(pairs, self._captions, texts) if self.loss.multi_positive else pairs

    def _shared(self, ids: Int[Tensor, " texts"]) -> Float[Tensor, "texts dim"]:
        """Return the embeddings of texts, each rank encoding an equal share (the last texts may be encoded twice)."""
        share = -(-len(ids) // world_size())
        places = torch.arange(rank() * share, (rank() + 1) * share, device=ids.device)
        return gathered(self._embed_texts(ids[places.clamp_max(len(ids) - 1)]))[: len(ids)]

    def _embed_texts(self, ids: Int[Tensor, " texts"]) -> Float[Tensor, "texts dim"]:
        def encode(tokens: Tensor) -> Tensor:
            return functional.normalize(self._vision_language.encode_token_ids(tokens), dim=-1)

        return in_chunks(encode, self._captions.tokens[ids], self.execution.chunk)

    def _embed_images(self, images: Tensor) -> Tensor:
        embedding = self._vision_language.encode_image(images).embedding
        assert embedding is not None
        return embedding

    @property
    def _vision_language(self) -> VisionLanguageEncoder:
        return with_texts(self.encoder)


def _check(alignment: float, trained: TrainedTowers) -> None:
    check_number("`model.alignment` (0 is FLYP, 1 attracts only)", alignment, least=0, most=1)
    if trained.towers == "none":
        raise MmoodError(
            "`model.trained.towers` is none, which leaves AlignmentFineTune nothing to train; set image or both."
        )
