"""What every detector shares: encode a batch once, let every score read it, return tensors and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from mmood.classes.names import load_class_names
from mmood.data.datamodule import OoDDataModule
from mmood.encoders import EncodedImages, EncoderSettings, ImageTransform, build_encoder
from mmood.errors import MmoodError
from mmood.features.encoding import Encoding, Ranks
from mmood.features.loader import Rows
from mmood.features.provider import FeatureProvider
from mmood.features.store import StoredFeatures
from mmood.loading.batch import Batch
from mmood.loading.few_shot import FewShot
from mmood.modules.checkpoint_checks import check_encoder, check_names, check_recipe, check_shapes
from mmood.modules.evaluated import Evaluated, Scored
from mmood.modules.joined import JoinData
from mmood.modules.sharding import Shards
from mmood.modules.training_record import checkpoint_record, training_record
from mmood.scores.base import AbstractScore, Embedded, Output, Reference
from mmood.scores.descriptors import LOCAL
from mmood.scores.surroundings import Surroundings
from mmood.scores.test_time.base import AbstractStreamScore, AnyStreamScore
from mmood.settings import Recorded
from mmood.settings.requirements import Requirement
from mmood.shards.index import SetIndex

# Names of other arrays in `scores/<set>.npz`, and of arguments of the function that writes it.
_RESERVED = frozenset({"key", "label", "predicted", "file", "allow_pickle"})


class AbstractDetector(Recorded, LightningModule, ABC):
    """A LightningModule whose evaluation steps score images.

    A subclass says what its logits are (`logits`) and what scores may know of the ID side (`reference`).
    The module reports nothing: `OoDCallback` evaluates what the steps return, and runs the stream scores, for which
    the order of all images counts, when the steps are done.

    Args:
        encoder: which encoder to build.
        class_names: ID classes: the name of a list, a text file with one name a line, or the names.
        scores: name in the results -> score.

    Attributes:
        provider: gives the features of the data that the detector runs over; None where it runs over no OoDDataModule.
        shards: what the devices of a training share of the encoder; nothing unless it is sharded.
        reference_: what the scores were fitted on most recently; None until `fit_scores`.
    """

    def __init__(
        self, encoder: EncoderSettings, class_names: str | list[str], scores: Mapping[str, AbstractScore]
    ) -> None:
        super().__init__()
        # What a checkpoint may leave out is decided by `trained_state`, checked by name in `on_load_checkpoint`.
        self.strict_loading = False
        self.class_names = load_class_names(class_names)
        self.encoder = build_encoder(encoder)
        self.scores = nn.ModuleDict(_checked(scores))
        self.provider: FeatureProvider | None = None
        self.shards = Shards()
        self.trained_with: dict[str, object] | None = None
        self.reference_: Reference | None = None
        self._wanted: frozenset[Output] = frozenset()
        self._images_wanted = False

    @property
    def score_names(self) -> tuple[str, ...]:
        """The names of the static scores, in the order of the columns of `Scored`."""
        return tuple(name for name, _ in self.static_scores())

    @property
    def outputs(self) -> frozenset[Output]:
        """The outputs of `Embedded` that steps return: those that at least one static score reads."""
        return self._wanted.union(*(score.needs for _, score in self.static_scores()))

    @abstractmethod
    def logits(self, encoded: EncodedImages) -> Float[Tensor, "batch classes"]:
        """Return the logits of encoded images, in float32; called outside autocast."""

    @abstractmethod
    def reference(self) -> Reference:
        """Return the reference of the scores, made with the current weights."""

    @abstractmethod
    def trained_state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint must hold, by their names in `state_dict`."""

    def belongs_to(self) -> dict[str, object]:
        """Return, as plain data, the settings that a checkpoint and who takes it must share; by default none.

        While a run trains there may be more: a resumed run goes on as it began.
        """
        return {}

    def own_record(self) -> dict[str, object]:
        """Return settings and details besides encoder, class names and scores, of which there are records elsewhere."""
        return {
            name: value for name, value in self.record().items() if name not in ("encoder", "class_names", "scores")
        }

    def weights_to_load(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what to load in place of the tensors of a checkpoint; by default these."""
        return stored

    def named_scores(self) -> list[tuple[str, AbstractScore]]:
        """Return all scores with their names, in the order of the settings."""
        return [(name, score) for name, score in self.scores.items() if isinstance(score, AbstractScore)]

    def static_scores(self) -> list[tuple[str, AbstractScore]]:
        """Return the scores of single images with their names, in the order of the columns of `Scored`."""
        return [(name, score) for name, score in self.named_scores() if not isinstance(score, AbstractStreamScore)]

    def stream_scores(self) -> list[tuple[str, AnyStreamScore]]:
        """Return the scores that learn from the stream of test images, with their names."""
        return [(name, score) for name, score in self.named_scores() if isinstance(score, AbstractStreamScore)]

    def runs_streams(self) -> bool:
        """Return whether stream scores are evaluated now: in whole tests and validations, not while a run trains."""
        if self._trainer is None or not self.stream_scores():
            return False
        limits = {
            TrainerFn.TESTING: self._trainer.limit_test_batches,
            TrainerFn.VALIDATING: self._trainer.limit_val_batches,
        }
        return self._trainer.state.fn in limits and not limited(limits[self._trainer.state.fn])

    def join(self, data: OoDDataModule | None, ranks: Ranks, folder: Path, quiet: bool = False) -> None:
        """Take the features of these data from now on, and let the data be read for this detector.

        A Trainer does this at the start of every run (`JoinData`); without one, call it before `fit_scores`.

        Args:
            data: the sets; None for none.
            ranks: the processes that encode together.
            folder: of the run; `features` below it is for what is kept no longer than the run.
            quiet: show no progress.
        """
        if data is None:
            self.provider = None
            return
        self.encoder.resize_by(data.resize)
        encoding = Encoding(self.encoder, ranks, folder / "features", self.encoder_changes(), quiet)
        self.provider = data.provider(encoding)
        data.connect(self)

    def configure_callbacks(self) -> list[Callback]:
        """Return the callback that joins detector and data, and the monitors."""
        return [JoinData(self.join), *self.monitors()]

    def training_strategy(self) -> Strategy | str | None:
        """Return the strategy that a Trainer which fits must have; None, the default, for whatever it has."""
        return None

    def monitors(self) -> list[Callback]:
        """Return callbacks that log the training; by default none."""
        return []

    def id_features(self) -> FeatureProvider:
        """Return the provider of the features of the ID images.

        Raises:
            MmoodError: the detector does not run over an OoDDataModule.
        """
        if self.provider is None:
            raise MmoodError(
                f"{type(self).__name__} has no ID images here; run it over an OoDDataModule with `data.train` set."
            )
        return self.provider

    def stored_features(self, indices: Mapping[str, SetIndex]) -> dict[str, StoredFeatures]:
        """Return the features to read in place of the images of sets under evaluation; every rank must call this."""
        if self.provider is None or not self.reads_stored_features():
            return {}
        # Streams read stores in any case: encoded before the steps, they serve these too, and no image is read twice.
        return self.provider.on_disk(indices) if self.runs_streams() else self.provider.found(indices)

    def training_rows(self) -> Rows | None:
        """Return the stored features to train on, with their targets; None, the default, to train on images."""
        return None

    def few_shot(self) -> FewShot | None:
        """Return the draw of the images to train on, and their transform; None, the default, to train on all."""
        return None

    def without_scores(self, outputs: Iterable[Output]) -> Self:
        """Drop all scores, so that steps return images as scores would read them, and no score. Returns self.

        Args:
            outputs: what to return of each image; features, embedding and logits come in any case.
        """
        self.scores, self._wanted = nn.ModuleDict(), frozenset(outputs)
        return self

    def training_transform(self) -> ImageTransform:
        """Return the transform of the images to train on; by default the encoder's."""
        return self.encoder.transform(train=True)

    def image_transform(self, train: bool) -> ImageTransform:
        """Return the transform that the data module applies to an RGB image."""
        return self.training_transform() if train else self.encoder.transform()

    def fit_scores(self) -> None:
        """Fit every score to the ID data.

        While a run trains, a stream score is not evaluated; it learns once what a checkpoint keeps, such as words mined
        with the weights before training.
        """
        # Lightning tests in inference mode; a stream score may have to differentiate what it learned here.
        with torch.inference_mode(False), torch.no_grad(), self.shards.whole():
            self.reference_ = self.reference()
            for _, score in self.named_scores():
                if not (self.fitting() and isinstance(score, AbstractStreamScore) and score.learned()):
                    score.fit(self.reference_)

    def requirements(self, training_set: Callable[[], str]) -> Iterator[tuple[str, Requirement]]:
        """Yield what each score needs to be fitted and asked, with the name of the score.

        Args:
            training_set: returns the name of the ID training set; raises MmoodError where the settings name none.
        """
        with torch.no_grad():
            reference = self.reference()
        reads = tuple(head.reads for head in reference.heads())
        around = Surroundings(self.encoder, reads, training_set, reference.learned)
        for name, score in self.named_scores():
            for requirement in (*around.of_outputs(score.needs), *score.requirements(around)):
                yield name, requirement

    def embed(self, batch: Batch) -> Embedded:
        """Return what the scores read of a batch, float32 whatever the precision of the trainer."""
        if "features" in batch:
            encoded = _stored(batch)
        else:
            outputs = self.outputs
            encoded = self.encoder.encode_image(batch["image"], "patches" in outputs, "feature_map" in outputs)
        with torch.autocast(self.device.type, enabled=False):
            logits = self.logits(encoded)
        return Embedded(encoded.features, logits, encoded.embedding, encoded.patches, encoded.feature_map)

    def read_images(self) -> None:
        """Let evaluation steps get images even where features are stored: something looks at pixels."""
        self._images_wanted = True

    def reads_stored_features(self) -> bool:
        """Return whether stored features can stand for images now: nothing needs pixels or maps, the tower stays."""
        return not LOCAL & self.outputs and not self._images_wanted and not self.encoder_changes()

    def encoder_changes(self) -> bool:
        """Return whether the run trains the encoder."""
        return self.fitting() and _trains_encoder(self)

    def evaluate(self, batch: Batch) -> Evaluated:
        """Return a batch with its static scores, which are computed in float32 outside autocast."""
        embedded = self.embed(batch)
        with torch.autocast(self.device.type, enabled=False):
            rows = [self._scores_of(part) for part in embedded.parts()]
        scored = Scored(
            key=batch["key"],
            label=batch["label"],
            predicted=embedded.logits.argmax(dim=-1),
            scores=torch.cat(rows),
        )
        # Without what the scores shared, which whoever keeps the batch would keep too.
        return Evaluated(scored, replace(embedded))

    def _scores_of(self, embedded: Embedded) -> Float[Tensor, "batch scores"]:
        columns = [score(embedded).float() for _, score in self.static_scores()]
        return torch.stack(columns, dim=-1) if columns else embedded.logits.new_empty(len(embedded.logits), 0)

    def on_validation_start(self) -> None:
        """Fit the scores with the weights of this moment, which every device holds until the end of the validation."""
        self.shards.gather()
        self.fit_scores()

    def on_validation_end(self) -> None:
        """Let every device hold its share of the weights again."""
        self.shards.release()

    def on_test_start(self) -> None:
        """Fit the scores with the weights of this moment."""
        self.fit_scores()

    def on_predict_start(self) -> None:
        """Fit the scores with the weights of this moment."""
        self.fit_scores()

    # Lightning hands on whatever a step returns, though its types know tensors and mappings alone.
    def validation_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> Evaluated:
        """Return a batch of a validation set with its scores."""
        return self.evaluate(batch)

    def test_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> Evaluated:
        """Return a batch of a test set with its scores."""
        return self.evaluate(batch)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Evaluated:
        """Return a batch of images without labels with its scores."""
        return self.evaluate(batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only the trained tensors: frozen towers are named, not stored."""
        with self.shards.whole():
            checkpoint["state_dict"] = self.shards.kept(self.trained_state())
            checkpoint["mmood_encoder"] = self.encoder.identity()
        checkpoint["mmood_training"] = training_record(self)
        checkpoint["mmood_recipe"] = self.belongs_to()
        if _trains_encoder(self):
            checkpoint["mmood_scores"] = {name: score.learned() for name, score in self.named_scores()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint whose tensors or frozen encoder are not those of this module."""
        stored, own = checkpoint["state_dict"], self.trained_state()
        check_names(stored, own)
        # Weights of a trained tower come from the checkpoint: nothing to compare, nor to hash what is replaced.
        if not _trains_encoder(self):
            check_encoder(checkpoint.get("mmood_encoder", {}), self.encoder.identity())
        check_recipe(checkpoint.get("mmood_recipe", {}), self.belongs_to())
        check_shapes(stored, own)
        self.trained_with = checkpoint_record(checkpoint)
        for name, score in self.named_scores():
            score.restore(checkpoint.get("mmood_scores", {}).get(name, {}))
        checkpoint["state_dict"] = self.weights_to_load(stored)

    def fitting(self) -> bool:
        """Return whether a run trains now."""
        # The module's own property raises where it has no trainer.
        return self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING


def limited(batches: float | int | None) -> bool:
    """Return whether a limit of Lightning's leaves batches out.

    >>> limited(1), limited(1.0)
    (True, False)
    """
    # Of `fast_dev_run` the limit is the whole number 1, one batch; the share 1.0 is all of them.
    return isinstance(batches, int) or batches not in (None, 1.0)


def _stored(batch: Batch) -> EncodedImages:
    """Return the encoded images of a batch from a feature store; what was stored in half is made of unit norm again."""
    embedding = batch.get("embedding")
    if embedding is not None and embedding.dtype != torch.float32:
        embedding = nn.functional.normalize(embedding.float(), dim=-1)
    return EncodedImages(batch["features"].float(), embedding)


def _trains_encoder(module: AbstractDetector) -> bool:
    return any(name.startswith("encoder.") for name in module.trained_state())


def _checked(scores: Mapping[str, AbstractScore]) -> dict[str, AbstractScore]:
    for name in scores:
        if not name.replace("_", "").replace("-", "").isalnum():
            raise MmoodError(f"model.scores has the name '{name}'; use letters, digits, '_' and '-' only.")
        if name in _RESERVED:
            raise MmoodError(
                f"model.scores has the name '{name}', which is reserved in the score files; choose another."
            )
        if isinstance(scores[name], AbstractStreamScore) and LOCAL & scores[name].needs:
            raise MmoodError(f"model.scores.{name} reads patches, but streams run on stored features, which have none.")
    if not scores:
        raise MmoodError("model.scores is empty; name at least one score, such as {mcm: {class_path: MCM}}.")
    return dict(scores)
