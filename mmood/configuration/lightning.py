"""LightningCLI for mmood: fit, validate, test and predict over one model family and one data module."""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from jsonargparse import Namespace
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import Strategy

import mmood.scores  # noqa: F401  (class names in configs may then be short)
from mmood.configuration.config_errors import building_error, own_error, sentence
from mmood.configuration.config_files import with_found_configs
from mmood.configuration.families import IMAGES, Family, family_of
from mmood.configuration.flag_checks import LARGEST_SEED, check_flags, no_such_score, score_flags, without_flags
from mmood.configuration.strategies import training_strategy
from mmood.configuration.yaml_loader import use_checked_yaml
from mmood.data.datamodule import OoDDataModule
from mmood.errors import MmoodError
from mmood.evaluation.callback import OoDCallback
from mmood.evaluation.maps import LocalMaps
from mmood.evaluation.progress import with_progress
from mmood.evaluation.tuned import TunedSettings
from mmood.modules import AbstractDetector
from mmood.modules.sharding import ShardedStrategy
from mmood.runs.checkpoint_files import WholeCheckpoints
from mmood.runs.checkpoints import readable, stored_config
from mmood.runs.earlier import refuse_earlier
from mmood.runs.ending_callback import EndAtSignals
from mmood.runs.finite_loss import FiniteLoss
from mmood.runs.folder import known_folder, run_folder
from mmood.runs.locks import lock_or_refuse
from mmood.runs.requeue import checkpoint_to_resume, job_id, turns
from mmood.runs.requeue_callback import Requeue
from mmood.runs.run_files import RunFiles
from mmood.runs.signals import is_first_rank
from mmood.settings import check_count
from mmood.settings.seeds import with_seeds

_NOT_DENSE = (
    "This command is for detectors of images; a model that scores pixels has fit, validate, test and calibrate."
)


class SeedingParser(LightningArgumentParser):
    """A parser that builds objects with every `seed: null` as it follows from `seed_everything`.

    The config itself keeps the nulls: it stays true when somebody runs it again with another `--seed_everything`.
    """

    def instantiate_classes(self, cfg: Namespace, **kwargs: Any) -> Namespace:
        """Return the objects of a config."""
        if stage := cfg.get("subcommand"):
            cfg = cfg.clone()
            cfg[stage] = with_seeds(cfg[stage])
        else:
            cfg = cast(Namespace, with_seeds(cfg))
        built: Namespace = super().instantiate_classes(cfg, **kwargs)
        return built


class DetectorCLI(LightningCLI):
    """LightningCLI whose config is the truth: a checkpoint's config is read first, files and flags win over it."""

    def __init__(
        self, args: list[str], held: ExitStack, run: bool = True, build: bool = True, family: Family = IMAGES
    ) -> None:
        self._held, self._run, self._build, self._family = held, run, build, family
        self._stages = (args[0],) if run else ()
        strict: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}
        super().__init__(
            family.module,
            family.data,
            subclass_mode_model=True,
            auto_configure_optimizers=False,
            save_config_callback=RunFiles,
            seed_everything_default=0,
            trainer_class=Trainer,
            parser_class=SeedingParser,
            trainer_defaults={"callbacks": [EndAtSignals()]},
            parser_kwargs={**strict, **{stage: dict(strict) for stage in self._stages}},
            args=args,
            run=run,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # static there
        """Return the stage that is run; parsers of all four take longer to build than the one takes to parse."""
        return {stage: LightningCLI.subcommands()[stage] for stage in self._stages}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments; what `sys.argv` holds besides is no concern here."""
        assert isinstance(args, list)
        try:
            self.config = parser.parse_args(args)
        except (argparse.ArgumentError, argparse.ArgumentTypeError) as error:
            of_stage = self._subcommand_parsers.get(args[0], parser) if self._run else parser
            known = sentence(error, list(of_stage.get_defaults().keys()))
            raise own_error(error) or MmoodError(self._without_class(args) or known) from error
        seed = self.config[self.config.subcommand].seed_everything if self._run else self.config.seed_everything
        if not isinstance(seed, bool):
            check_count("seed_everything", seed, least=0, most=LARGEST_SEED, null="0")

    def _without_class(self, arguments: list[str]) -> str | None:
        """Return a sentence if a flag sets something of a score that the config does not have; None if none does."""
        of_scores = score_flags(arguments)
        if not of_scores:
            return None
        parser = self._subcommand_parsers.get(arguments[0], self.parser) if self._run else self.parser
        rest = without_flags(arguments[1:] if self._run else arguments, [f"model.scores.{name}" for name in of_scores])
        try:
            config = parser.parse_args(rest)
        except (argparse.ArgumentError, argparse.ArgumentTypeError):
            return None
        known = config.model.init_args.scores
        missing = next((name for name in of_scores if name not in known), None)
        return None if missing is None else no_such_score(missing, known)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would let the checkpoint's settings win over the command line."""

    def _add_instantiators(self) -> None:
        """Do nothing: Lightning would write the whole config out for `hparams`, which nothing here reads."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what a run is called, the evaluation, and the one link: the ID classes belong to the data."""
        parser.add_argument("--name", type=str | None, default=None, help="Name of the run (default: the model's).")
        parser.add_argument(
            "--run_dir", type=str | None, default=None, help="Folder of the run (default: runs/NAME/VERSION)."
        )
        parser.add_argument(
            "--overwrite", type=bool, default=False, help="Move the files of an earlier run to `previous/` first."
        )
        parser.add_argument(
            "--strict", type=bool, default=False, help="predict: return exit code 2 if an image could not be scored."
        )
        parser.add_lightning_class_args(self._family.evaluation, "evaluation")
        if self._family is IMAGES:
            parser.add_lightning_class_args(LocalMaps, "maps")
            parser.add_lightning_class_args(TunedSettings, "tuned")
        # On instantiation: so the data are built and checked before a model is loaded.
        parser.link_arguments(
            "data", "model.init_args.class_names", compute_fn=self._checked_class_names, apply_on="instantiate"
        )
        parser.set_defaults({"trainer.use_distributed_sampler": False, "trainer.num_sanity_val_steps": 0})

    def before_instantiate_classes(self) -> None:
        """Leave the table to us: Lightning's repeats every value under each loader. Unpickle no code."""
        if self.subcommand in ("test", "validate"):
            self.config[self.subcommand].verbose = False
        if self.subcommand == "predict":
            # It would keep the outputs of all steps in memory, and nobody asks for them.
            self.config.predict.return_predictions = False
        if self.subcommand is not None:
            # By itself Lightning runs whatever a checkpoint behind a URL asks for.
            self.config[self.subcommand].weights_only = True
            config = self.config[self.subcommand]
            config.ckpt_path = readable(config.ckpt_path)
            if self.subcommand == "fit" and config.ckpt_path is not None:
                _refuse_endless(config.trainer, config.ckpt_path)
            self._refuse_earlier_run(self.config[self.subcommand], self.subcommand)

    def _refuse_earlier_run(self, config: Namespace, stage: str) -> None:
        """Refuse a run folder with results in it, before anything is built."""
        name = config.name or config.model.class_path.rpartition(".")[2].lower()
        folder = known_folder(config.run_dir or config.trainer.default_root_dir, name)
        if folder is not None and not config.overwrite and not config.trainer.fast_dev_run:
            refuse_earlier(folder, stage, config.ckpt_path)
        # The config that the run leaves can be run again, and then must not overwrite by itself.
        config.overwrite = False

    def validate(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        ckpt_path: str | None,
        verbose: bool,
        weights_only: bool,
    ) -> None:
        """Evaluate the validation sets, with each of the weights that the model asks for."""
        self._family.evaluate("validate", self.trainer, model, datamodule, ckpt_path)

    def test(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        ckpt_path: str | None,
        verbose: bool,
        weights_only: bool,
    ) -> None:
        """Evaluate the test sets, with each of the weights that the model asks for."""
        self._family.evaluate("test", self.trainer, model, datamodule, ckpt_path)

    def after_predict(self) -> None:
        """Under `--strict`, refuse a prediction that left images out; its file is written."""
        if not self.config.predict.strict:
            return
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, OoDCallback) and callback.predicted is not None and callback.predicted.unscored:
                raise MmoodError(f"--strict is set, and {callback.predicted.summary()}")

    def instantiate_classes(self) -> None:
        """Build data, model and trainer, unless only the config is wanted."""
        if self._build:
            super().instantiate_classes()

    def data_module(self) -> OoDDataModule:
        """Return the data module of a parsed config."""
        data = self._instantiated(Namespace(data=self.config.data, seed_everything=self.config.seed_everything)).data  # type: ignore[no-untyped-call]
        assert isinstance(data, OoDDataModule)
        return data

    def detector(self) -> AbstractDetector:
        """Return the detector of a parsed config, with its weights."""
        model = self._instantiated(self.config).model
        assert isinstance(model, AbstractDetector)
        return model

    def objects(self) -> tuple[AbstractDetector, OoDDataModule, Trainer]:
        """Return detector, data and a trainer of a parsed config, which writes nothing and has no logger."""
        built = self._instantiated(self.config)
        settings = dict(built.trainer.items(branches=True, nested=False))
        settings |= {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "callbacks": None}
        return built.model, built.data, _trainer(lambda: Trainer(**settings))

    def _instantiated(self, config: Namespace) -> Namespace:
        try:
            instantiated: Namespace = self.parser.instantiate_classes(config)
            return instantiated
        except (TypeError, ValueError) as error:
            raise building_error(error) or error from error

    def _checked_class_names(self, data: LightningDataModule) -> str | list[str]:
        return self._family.class_names(data, self.subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer so that everything that a run writes lies in its own folder."""
        config = self.config_init[self.subcommand] if self.subcommand else self.config_init
        stage = self.subcommand or "tool"
        given = config.run_dir or config.trainer.default_root_dir
        folder = run_folder(given, config.name or type(self.model).__name__.lower())
        if is_first_rank():
            self._held.enter_context(lock_or_refuse(folder / ".lock", f"writes into {folder}", "set another --run_dir"))
        kwargs["default_root_dir"] = folder
        if config.trainer.logger in (None, True):
            # One for each turn of a requeued job: Lightning would delete what the turn before has logged.
            kwargs["logger"] = CSVLogger(folder, name="logs", version=f"{stage}.{turn}" if (turn := turns()) else stage)
        kwargs["callbacks"] = with_progress(config.trainer.callbacks, config.trainer.enable_progress_bar)
        if stage == "fit":
            kwargs["callbacks"] = _with_checkpoints(
                config.trainer, kwargs["callbacks"], folder, self._family.validates(config.data)
            )
            kwargs["strategy"] = strategy = training_strategy(config.trainer, self.model)
            kwargs["plugins"] = _with_whole_files(config.trainer, strategy)
            if checkpoint := checkpoint_to_resume(folder / "checkpoints"):
                config.ckpt_path = str(checkpoint)
        make = super().instantiate_trainer
        return _trainer(lambda: make(**kwargs))


def _trainer(make: Callable[[], Trainer]) -> Trainer:
    """Return the trainer, or raise Lightning's objection to its settings as MmoodError."""
    try:
        return make()
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise MmoodError(f"trainer: {' '.join(str(error).split())}") from error


def _refuse_endless(trainer: Namespace, checkpoint: str) -> None:
    """Refuse to resume training without an end: Lightning's 1,000 epochs would be another schedule."""
    if trainer.max_epochs is None and trainer.max_steps == -1 and trainer.max_time is None:
        raise MmoodError(
            f"--ckpt_path {checkpoint} does not say how long to train; set --trainer.max_epochs as the run was started."
        )


def _with_checkpoints(settings: Namespace, callbacks: list[Callback], folder: Path, validated: bool) -> list[Callback]:
    """Return the callbacks of a training; its checkpoints are always saved in the run folder."""
    if not validated:
        callbacks = [callback for callback in callbacks if not _chosen_by_validation(callback)]
    checkpoints = [callback for callback in callbacks if isinstance(callback, ModelCheckpoint)]
    if not checkpoints and settings.enable_checkpointing is not False and not settings.fast_dev_run:
        # A second run into the folder replaces last.ckpt; Lightning's default would write last-v1.ckpt beside it.
        checkpoints = [ModelCheckpoint(save_last="link", enable_version_counter=False)]
        callbacks += checkpoints
    callbacks.append(FiniteLoss())
    for callback in checkpoints:
        callback.dirpath = callback.dirpath or str(folder / "checkpoints")
    if job_id() is not None:
        callbacks.append(Requeue(folder / "checkpoints"))
    return callbacks


def _chosen_by_validation(callback: Callback) -> bool:
    return isinstance(callback, ModelCheckpoint) and (callback.monitor or "").startswith(("id/", "ood/"))


def _with_whole_files(settings: Namespace, strategy: Strategy | str) -> list[Any]:
    """Return the plugins of a training; unless one of them writes checkpoints, ours does where one process writes."""
    given = settings.plugins or []
    plugins = list(given) if isinstance(given, list) else [given]
    by_one = isinstance(strategy, ShardedStrategy) or str(strategy).startswith(("auto", "ddp"))
    if by_one and not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(WholeCheckpoints())
    return plugins


def run(arguments: list[str]) -> int:
    """Run `fit`, `validate`, `test` or `predict` with these command line arguments; returns the exit code."""
    stage, *rest = arguments
    found = [*stored_config(rest, resume=stage == "fit"), *with_found_configs(rest)]
    family = family_of(found)
    if stage not in family.stages:
        raise MmoodError(_NOT_DENSE)
    _cli([stage, *found], run=True, family=family)
    return 0


def parsed(arguments: list[str]) -> DetectorCLI:
    """Return the CLI with its config parsed and nothing built, for tools that look at a config."""
    return _parsed(arguments, build=False)


def built(arguments: list[str], pixels: bool = False) -> DetectorCLI:
    """Return the CLI with model, data and trainer built and nothing run, for tools that need them.

    Args:
        arguments: of the command line.
        pixels: whether the model may be one that scores pixels.
    """
    return _parsed(arguments, build=True, pixels=pixels)


def _parsed(arguments: list[str], build: bool, pixels: bool = False) -> DetectorCLI:
    found = [*stored_config(arguments), *with_found_configs(arguments)]
    family = family_of(found)
    if family is not IMAGES and not pixels:
        raise MmoodError(_NOT_DENSE)
    return _cli(found, run=False, build=build, family=family)


def _cli(arguments: list[str], run: bool, build: bool = True, family: Family = IMAGES) -> DetectorCLI:
    """Return the CLI after it did its work; a MmoodError that jsonargparse wrapped comes out bare."""
    check_flags(arguments)
    _quiet()
    use_checked_yaml()
    try:
        with ExitStack() as held:
            return DetectorCLI(arguments, held, run=run, build=build, family=family)
    except (TypeError, ValueError) as error:
        if (known := building_error(error)) is not None:
            raise known from error
        raise


# Lightning's advertisements; and that a detector brings its callbacks to every pass of a run over several weights.
_ADVICE = ("Tip:", "will override existing callbacks passed to Trainer")


def _quiet() -> None:
    """Leave out Lightning's advertisements and the tokenizer's talk about forks."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", message=r".*LeafSpec.*deprecated.*")
    # `srun` on the path means nothing; within a job the run is started by it (configs/slurm).
    warnings.filterwarnings("ignore", message=r"The `srun` command is available on your system but is not used")
    # Frozen towers are in eval mode on purpose.
    warnings.filterwarnings("ignore", message=r".*in eval mode at the start of training.*")
    # Every rank computes the same metrics from what all ranks gathered.
    warnings.filterwarnings("ignore", message=r"It is recommended to use `self\.log\(.*sync_dist=True.*")
    # Frozen towers and BatchNorm are in eval mode on purpose.
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode.*")
    # No validation sets is a choice.
    warnings.filterwarnings("ignore", message=r"Total length of `dict` across ranks is zero.*")
    # What an encoder returns is never changed in place.
    warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module .* returned a view tensor.*")
    # A test writes into a folder of its own, and keeps no checkpoints there.
    warnings.filterwarnings("ignore", message=r"The dirpath has changed.*")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(lambda record: not any(text in str(record.msg) for text in _ADVICE))
