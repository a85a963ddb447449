"""DDP and FSDP train the weights of one process, and a checkpoint of one of them is a checkpoint for all."""

import json
import os
from pathlib import Path

import pytest
import torch
from forked import mmood
from jsonargparse import Namespace
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from tiny import CLASSES, adamw, batches, save_tiny, trainer, tune
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from mmood.cli.main import main
from mmood.configuration.strategies import training_strategy
from mmood.errors import MmoodError
from mmood.modules.fine_tuning.alignment import LossSettings
from mmood.modules.fine_tuning.cross_entropy import CrossEntropyFineTune
from mmood.modules.fine_tuning.execution import Execution
from mmood.modules.fine_tuning.trained import TrainedTowers
from mmood.scores.logits import MCM

GLOBAL_BATCH = 64
DISTINCT = LossSettings(texts="distinct")
CLASSES_AS_TEXTS = LossSettings(texts="classes", detach_scale=True, multi_positive=True)


def aligned(settings, execution):
    return tune(settings, execution=execution)


def distinct(settings, execution):
    return tune(settings, loss=DISTINCT, execution=execution)


def last_groups(settings, execution):
    trained = TrainedTowers(groups=2, decay_vectors=False)
    return tune(settings, loss=CLASSES_AS_TEXTS, trained=trained, execution=execution)


def cross_entropy(settings, execution):
    return CrossEntropyFineTune(settings, CLASSES, {"mcm": MCM()}, optimizer=adamw, execution=execution)


# The loss as it is for 20 steps; what else there is for fewer.
CASES = {
    "pairs": (aligned, 20, {}, {}),
    "chunks": (distinct, 4, {"chunk": 12}, {"gradient_clip_val": 0.05}),
    "groups": (
        *(last_groups, 4, {"checkpointing": True}),
        {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"},
    ),
    "cross_entropy": (cross_entropy, 4, {}, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.05}),
}


def share(rank: int, world: int, number: int) -> DataLoader:
    """Return a rank's rows of the global batches."""
    rows = slice(rank * GLOBAL_BATCH // world, (rank + 1) * GLOBAL_BATCH // world)
    own = [{name: value[rows] for name, value in batch.items()} for batch in batches(number, GLOBAL_BATCH)]
    return DataLoader(own, batch_size=None)


def run(module, world: int, steps: int, folder: Path, resume: Path | None = None, **more) -> None:
    """Train, and save halfway and at the end."""
    spread = {"devices": world, "strategy": module.training_strategy()} if world > 1 else {}
    saves = ModelCheckpoint(folder, "{step}", every_n_train_steps=steps // 2, save_top_k=-1)
    one = trainer(steps, enable_checkpointing=True, callbacks=[saves], **spread, **more)
    number = steps * more.get("accumulate_grad_batches", 1)
    one.fit(module, share(one.global_rank, world, number), ckpt_path=resume)


def train(strategy: str, world: int, folder: Path) -> None:
    settings = save_tiny(folder / f"clip{os.environ.get('RANK')}")
    for name, (make, steps, execution, more) in CASES.items():
        torch.manual_seed(0)
        run(make(settings, Execution(**execution, strategy=strategy)), world, steps, folder / strategy / name, **more)


def on_two_ranks(folder: Path) -> None:
    for strategy in ("ddp", "fsdp"):
        train(strategy, 2, folder)
    assert_halved(folder)
    settings = save_tiny(folder / f"clip{os.environ['RANK']}")
    for strategy, other in (("ddp", "fsdp"), ("fsdp", "ddp")):
        module, start = aligned(settings, Execution(strategy=other)), folder / strategy / "pairs" / "step=10.ckpt"
        run(module, 2, 12, folder / f"{strategy} to {other}", resume=start)


def assert_halved(folder: Path) -> None:
    """Fail unless a rank holds about half of the weights while it trains, all of them on request."""
    module = tune(save_tiny(folder / f"clip{os.environ['RANK']}"), execution=Execution(strategy="fsdp"))
    whole = {name: tensor.clone() for name, tensor in module.trained_state().items()}
    trainer(0, devices=2, strategy=module.training_strategy()).fit(module, share(0, 2, 1))
    held = sum(tensor.to_local().numel() for tensor in module.parameters() if isinstance(tensor, DTensor))
    assert 0.4 < held / sum(tensor.numel() for tensor in whole.values()) < 0.6
    with pytest.raises(MmoodError, match="build it anew from its checkpoint"):
        trainer(-1, devices=2, strategy=module.training_strategy()).validate(module, share(0, 2, 1), verbose=False)
    with module.shards.whole():
        assert all(torch.equal(tensor, whole[name]) for name, tensor in module.trained_state().items())


def end(folder: Path, step: int) -> dict:
    return torch.load(folder / f"step={step}.ckpt", weights_only=True)


def exact(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return 1 where a gradient is more than rounding: softmax does not see the bias of attention's keys."""
    mask = torch.ones_like(tensor)
    if name.endswith("attn.in_proj_bias"):
        mask.chunk(3)[1].zero_()
    return mask


def distances(found: dict, expected: dict) -> dict[str, float]:
    """Return how far each tensor is from the expected one, as a share of its norm."""
    assert found.keys() == expected.keys()
    return {
        name: (((found[name] - tensor) * exact(name, tensor)).norm() / tensor.norm().clamp_min(1e-3)).item()
        for name, tensor in expected.items()
    }


def assert_same(found: dict, expected: dict, what: str) -> None:
    """Fail unless two checkpoints have the same weights, and states of the optimiser of the same form."""
    far = {name: far for name, far in distances(found["state_dict"], expected["state_dict"]).items() if far >= 1e-5}
    assert far == {}, what
    (own,), (other,) = found["optimizer_states"], expected["optimizer_states"]
    assert own["param_groups"] == other["param_groups"]
    shapes = [
        {(number, moment): tensor.shape for number, values in one["state"].items() for moment, tensor in values.items()}
        for one in (own, other)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.ddp
def test_two_ranks_train_the_weights_of_one_under_both_strategies(tmp_path, forked):
    ranks = forked.start_ranks(on_two_ranks, tmp_path)
    train("auto", 1, tmp_path)
    halfway = tmp_path / "auto" / "pairs" / "step=10.ckpt"
    run(aligned(save_tiny(tmp_path / "clip"), Execution()), 1, 12, tmp_path / "resumed", resume=halfway)
    for rank in ranks:
        assert rank.wait() == 0, rank.err
    for name, (_, steps, _, _) in CASES.items():
        one = end(tmp_path / "auto" / name, steps)
        for strategy in ("ddp", "fsdp"):
            assert_same(end(tmp_path / strategy / name, steps), one, f"{strategy} {name}")
        moved = distances(end(tmp_path / "auto" / name, steps // 2)["state_dict"], one["state_dict"])
        assert max(moved.values()) > 1e-3, f"{name}: nothing to compare"
    for resumed in ("ddp to fsdp", "fsdp to ddp"):
        assert_same(end(tmp_path / resumed, 12), end(tmp_path / "resumed", 12), resumed)


@pytest.mark.ddp
def test_a_sharded_fit_validates_and_leaves_an_ordinary_checkpoint(toy_root, toy_flags, tmp_path, forked):
    words = tmp_path / "words.txt"
    words.write_text("\n".join(["quartz", "solvent", "mortar", "gasket", "barley", "plasma", "rhombus", "gravel"]))
    # 37 images to validate are 19 and 18 for the two ranks: four batches and three.
    fit = [
        *("fit", "--config", "vitb16_align.yaml", *toy_flags, "--data.train", "toy-train", "--data.batch_size", "6"),
        *("--data.val", json.dumps({"ood": {"val": ["toy-val-ood"]}, "id": "toy-test"})),
        *("--model.scores.neglabel.init_args.negatives", str(words), "--trainer.max_epochs", "2"),
        *("--trainer.precision", "bf16-mixed", "--model.execution.strategy", "fsdp", "--trainer.devices", "2"),
        *("--run_dir", str(tmp_path / "fit")),
    ]
    for rank in forked.start_ranks(mmood, fit):
        assert rank.wait() == 0, rank.err
    checkpoint = tmp_path / "fit" / "checkpoints" / "last.ckpt"
    test = ["test", "--ckpt_path", str(checkpoint), "--trainer.devices", "1", "--run_dir", str(tmp_path / "test")]
    assert main(test) == 0
    assert {row["score"] for row in json.loads((tmp_path / "test" / "results.json").read_text())["rows"]} == {
        "neglabel",
        "mcm",
    }


def test_averaged_weights_are_what_a_checkpoint_holds(tmp_path):
    module = tune(save_tiny(tmp_path / "clip"))
    start = {name: tensor.clone() for name, tensor in module.trained_state().items()}
    callbacks = [EMAWeightAveraging(decay=0.5), ModelCheckpoint(tmp_path, "{step}")]
    trainer(1, callbacks=callbacks, enable_checkpointing=True).fit(module, share(0, 1, 1))
    saved = end(tmp_path, 1)
    for name, tensor in saved["state_dict"].items():
        torch.testing.assert_close(tensor, start[name].lerp(saved["current_model_state"][name], 0.5))
    again = tune(save_tiny(tmp_path / "clip"))
    again.on_load_checkpoint(saved)


@pytest.mark.parametrize(
    ("execution", "trained", "words"),
    [
        ({"compile": True}, {}, "set one of them only"),
        ({}, {"batch_norm": True}, "running statistics of its own"),
        ({"strategy": "fsdp2"}, {}, "auto, ddp, fsdp"),
    ],
)
def test_what_cannot_be_sharded_is_refused(tmp_path, execution, trained, words):
    with pytest.raises(MmoodError, match=words):
        tune(
            save_tiny(tmp_path / "clip"),
            execution=Execution(**{"strategy": "fsdp", **execution}),
            trained=TrainedTowers(**trained),
        )


def test_a_trainer_that_does_not_shard_is_refused(tmp_path):
    module = tune(save_tiny(tmp_path / "clip"), execution=Execution(strategy="fsdp"))
    assert isinstance(module.training_strategy(), ModelParallelStrategy)
    with pytest.raises(MmoodError, match=r"`model.execution.strategy` is fsdp, but the Trainer has a SingleDevice"):
        trainer(1).fit(module, share(0, 1, 1))


@pytest.mark.parametrize(
    ("wanted", "given", "precision", "words"),
    [
        ("auto", "fsdp", "32-true", "leave `trainer.strategy` out"),
        ("auto", "deepspeed_stage_2", "32-true", "`trainer.strategy` is deepspeed_stage_2"),
        ("fsdp", "ddp", "32-true", "leave one out"),
        ("ddp", "ddp_find_unused_parameters_true", "32-true", "leave one out"),
        ("fsdp", "auto", "16-mixed", "set it to bf16-mixed"),
    ],
)
def test_a_command_with_two_strategies_is_refused(wanted, given, precision, words, tmp_path):
    module = tune(save_tiny(tmp_path / "clip"), execution=Execution(strategy=wanted))
    with pytest.raises(MmoodError, match=words):
        training_strategy(Namespace(strategy=given, precision=precision), module)


def test_the_model_and_the_trainer_agree_on_a_strategy(tmp_path):
    settings = save_tiny(tmp_path / "clip")
    for wanted, given, found in (("auto", "ddp_spawn", "ddp_spawn"), ("ddp", "auto", "ddp"), ("ddp", "ddp", "ddp")):
        module = tune(settings, execution=Execution(strategy=wanted))
        assert training_strategy(Namespace(strategy=given, precision="16-mixed"), module) == found
