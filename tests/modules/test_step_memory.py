"""What a training step is said to need against the peak that a profiler sees."""

import pytest
import torch
from bench_alignment import rise
from tiny import CLASSES, adamw, batches, save_tiny, trainer, tune

from mmood.encoders import EncoderSettings
from mmood.modules.fine_tuning.captions import Captions
from mmood.modules.fine_tuning.cross_entropy import CrossEntropyFineTune
from mmood.modules.fine_tuning.execution import Execution, prepare
from mmood.modules.fine_tuning.measuring import image_pass, measured, model_weights
from mmood.modules.fine_tuning.memory import Held, Pass, Size, Weights, said, step_memory
from mmood.modules.fine_tuning.multi_scale import MultiScale, MultiScaleLoss
from mmood.modules.fine_tuning.trained import TrainedTowers, training_mode
from mmood.scores.logits import MCM

DEEP = {"image_size": 32, "layers": 6, "width": 64, "head_width": 32, "patch_size": 4}
IMAGES = 64
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("deep") / "clip", DEEP)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize(
    "execution",
    [Execution(), Execution(chunk=16), Execution(checkpointing=True), Execution(chunk=16, checkpointing=True)],
    ids=["plain", "chunk", "checkpointing", "both"],
)
def test_the_estimate_is_within_a_fifth_of_the_measured_peak(deep, execution, autocast):
    module = tune(deep, execution=execution)
    prepare(module.encoder, execution)
    training_mode(module.encoder, module.trained)
    module._captions = Captions(module.encoder, CLASSES, module.templates)
    (batch,) = batches(1, IMAGES, side=32)

    def forward_and_backward():
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = module.training_step(batch, 0)
        loss.backward()

    forward_and_backward()
    module.zero_grad()
    peak = rise(forward_and_backward) * 2**20
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        passes = module.step_passes(IMAGES, 1)
    needed = step_memory(model_weights(module, module.encoder, adamw), passes, execution, world=1)
    # The batch is there before, and no optimiser takes part.
    found = needed.peak - needed.weights - needed.states - batch["image"].nbytes
    assert found == pytest.approx(peak, rel=0.2)


@pytest.mark.parametrize("execution", [Execution(), Execution(chunk=16)], ids=["plain", "chunk"])
@pytest.mark.parametrize("loss", [MultiScaleLoss(local=0), MultiScaleLoss()], ids=["contrastive", "with ALPA"])
def test_it_is_so_for_two_views_and_heads(deep, execution, loss):
    trained = TrainedTowers(towers="image", batch_norm=False)
    settings = {"loss": loss, "trained": trained, "optimizer": adamw, "execution": execution}
    module = MultiScale(deep, CLASSES, {"mcm": MCM()}, **settings)
    prepare(module.encoder, execution)
    training_mode(module.encoder, module.trained)
    (batch,) = batches(1, IMAGES, side=32)
    batch["image"] = torch.stack([batch["image"], batch["image"].flip(-1)], dim=1)

    def forward_and_backward():
        module.zero_grad()
        module.training_step(batch, 0).backward()

    forward_and_backward()
    module.zero_grad()
    peak = rise(forward_and_backward) * 2**20
    needed = step_memory(model_weights(module, module.encoder, adamw), module.step_passes(IMAGES), execution, world=1)
    found = needed.peak - needed.weights - needed.states - batch["image"].nbytes
    assert found == pytest.approx(peak, rel=0.2)


def test_counting_changes_nothing(deep):
    module = tune(deep, trained=TrainedTowers(batch_norm=True), execution=Execution(checkpointing=True))
    prepare(module.encoder, module.execution)
    training_mode(module.encoder, module.trained)
    modes = [part.training for part in module.encoder.modules()]
    state, drawn = torch.get_rng_state(), module.encoder.weights_hash()
    module.step_memory(8, 2, CPU)
    assert [part.training for part in module.encoder.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert module.encoder.weights_hash() == drawn
    assert module.encoder.model.visual.transformer.grad_checkpointing
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_training_says_it_once_before_its_first_step(deep, capsys):
    trainer(2).fit(tune(deep), batches(2, 8, side=32))
    assert capsys.readouterr().err.count("mmood: A step needs about 0.0") == 1


def test_image_only_towers_are_measured_and_frozen_ones_need_nothing():
    def module(towers):
        settings = EncoderSettings("timm:test_resnet.r160_in1k", "random", image_size=32)
        return CrossEntropyFineTune(settings, CLASSES, {"mcm": MCM()}, trained=TrainedTowers(towers))

    trained, frozen = module("image"), module("none")
    assert (
        measured(trained.encoder, [image_pass(trained.encoder, trained._read_images, 4)], Execution())[0].held.each > 0
    )
    (nothing,) = measured(frozen.encoder, [image_pass(frozen.encoder, frozen._read_images, 4)], Execution())
    assert nothing.activations(Execution()) == 0


GIB = 2**30
WEIGHTS = Weights(trained=8 * GIB, frozen=0, sharded=8 * GIB, states=2.0)
PASS = Pass(512, 0, Held(GIB // 8, 0, 0), Held(GIB // 64, 0, 0), Size(32, 8 * GIB))


def peak(world=1, weights=WEIGHTS, **execution):
    return step_memory(weights, [PASS], Execution(**execution), world).peak / GIB


def test_the_arithmetic_of_a_step():
    # Weights and two moments, then the activations, which are more than the gradients.
    assert peak() == 8 + 16 + 64
    # Gradients of earlier chunks are there already.
    assert peak(chunk=64) == 8 + 16 + 8 + 8
    # Inputs of blocks, and one of the 32 blocks again.
    assert peak(checkpointing=True) == 8 + 16 + 8 + 2
    # DDP sends copies of the gradients.
    assert peak(world=8) == peak() + 8
    # An eighth of weights and moments, and four of the blocks.
    assert peak(world=8, strategy="fsdp") == 1 + 2 + 64 + 4 * 8 / 32
    assert peak(world=8, strategy="fsdp", chunk=64) == 1 + 8 + 2 + 1 + 8
    assert peak(weights=Weights(0, 8 * GIB, 0, 2.0)) == 8 + 64


def test_what_does_not_fit_is_said_with_what_would():
    assert said(WEIGHTS, [PASS], Execution(), 8, None).startswith(
        "A step needs about 96 GiB on each of 8 devices (weights 8"
    )
    sentence = said(WEIGHTS, [PASS], Execution(chunk=64), 8, 40 * GIB)
    assert "and it has 40; with model.execution.strategy fsdp: 20; with" in sentence
    assert "with model.execution.chunk 16: 42" in sentence
    assert said(WEIGHTS, [PASS], Execution(), 1, 90 * GIB).endswith("activations 64).")
