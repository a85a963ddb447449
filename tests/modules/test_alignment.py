"""Alignment fine-tuning of a tiny CLIP on the CPU: against hand-written arithmetic, over ranks, chunks and restarts."""

import doctest
import importlib
import logging

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import CLASSES, RESNET, adamw, batches, save_tiny, trainer, tune, weights
from torch.nn.functional import normalize

from mmood.errors import MmoodError
from mmood.losses import alignment, modality_gap, uniformity
from mmood.modules.fine_tuning.alignment import LossSettings
from mmood.modules.fine_tuning.alignment_monitor import AlignmentMonitor
from mmood.modules.fine_tuning.execution import Execution
from mmood.modules.fine_tuning.interpolation import interpolate
from mmood.modules.fine_tuning.trained import TrainedTowers, parameter_groups
from mmood.modules.optimisation import WarmupCosine, fused, warmup_cosine


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("clip") / "vit")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("clip") / "resnet", RESNET)


def fitted(settings, loader, steps=3, fit=None, **more):
    module = tune(settings, schedule=lambda optimizer, steps: WarmupCosine(optimizer, steps, warmup=2), **more)
    trainer(steps, **(fit or {})).fit(module, loader)
    return module


def assert_same(found, expected, rtol=1e-5):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=rtol, atol=rtol, msg=name)


def by_hand(module, loader, steps, weight):
    """Train open_clip's own model with the loss as the paper writes it."""
    model, tokenizer = module.encoder.model.train(), module.encoder.tokenizer
    optimizer = adamw(model.parameters())
    for step, batch in zip(range(steps), loader, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * warmup_cosine(step, steps, 2)
        u = normalize(model.encode_image(batch["image"]), dim=-1)
        w = normalize(model.encode_text(tokenizer([f"The nice {CLASSES[label]}" for label in batch["label"]])), dim=-1)
        logits = model.logit_scale.exp() * u @ w.T
        terms = []
        for side in (logits, logits.T):
            evidence = side.logsumexp(dim=1)
            terms.append((evidence - side.diagonal()).mean() - weight * evidence.mean())
        optimizer.zero_grad()
        (sum(terms) / 2).backward()
        optimizer.step()
    return weights(module)


@pytest.mark.parametrize("module", ["fine_tuning.gradient_cache", "fine_tuning.interpolation", "optimisation"])
def test_examples(module):
    found = importlib.import_module(f"mmood.modules.{module}")
    assert doctest.testmod(found, extraglobs={"torch": torch}).failed == 0


def test_training_is_the_loop_written_by_hand(vit):
    loader = batches(4, 12)
    expected = by_hand(tune(vit), loader, 4, 0.1)
    assert_same(weights(fitted(vit, loader, 4)), expected, rtol=1e-6)
    assert any(not torch.equal(tensor, expected[name]) for name, tensor in weights(tune(vit)).items())


@pytest.mark.parametrize(
    "more",
    [
        {"loss": LossSettings(texts="distinct")},
        {"execution": Execution(chunk=5)},
        {"execution": Execution(chunk=5, checkpointing=True), "loss": LossSettings(texts="distinct")},
        {"execution": Execution(channels_last=True)},
    ],
    ids=["distinct", "chunk", "chunk-checkpointing-distinct", "channels-last"],
)
def test_the_same_weights_with_less_work(vit, more):
    loader = batches(3, 12)
    assert_same(weights(fitted(vit, loader, **more)), weights(fitted(vit, loader)))


@pytest.mark.parametrize("texts", ["pairs", "classes"])
@pytest.mark.parametrize("multi_positive", [False, True])
def test_variants_of_the_loss_train(vit, texts, multi_positive):
    loss = LossSettings(texts, detach_scale=True, multi_positive=multi_positive, max_scale=7.0)
    module = fitted(vit, batches(3, 12), loss=loss, prompts=["a {}", "one {}", "the {}"])
    assert module.trainer.callback_metrics["train/loss"].isfinite()
    assert module.logit_scale.item() == pytest.approx(7.0, rel=2e-3)


def test_drawn_prompts_are_a_function_of_epoch_and_key(vit):
    module = fitted(vit, batches(1, 12), 1, prompts=["a {}", "one {}", "the {}"])
    labels, keys = torch.tensor([3, 3, 0]), torch.tensor([5, 6, 7])
    draw = [module._captions.of_images(labels, keys, epoch) for epoch in range(20)]
    assert all(torch.equal(module._captions.class_of(ids), labels) for ids in draw)
    assert torch.equal(draw[3][1:], module._captions.of_images(labels[1:], keys[1:], 3))
    assert len({tuple(ids.tolist()) for ids in draw}) > 5


def test_batch_norm_keeps_its_statistics_and_trains_its_scale(resnet):
    before = weights(tune(resnet))
    after = weights(fitted(resnet, batches(3, 8, side=32)))
    statistics = [name for name in before if "running" in name or "num_batches" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert not torch.equal(before["encoder.model.visual.bn1.weight"], after["encoder.model.visual.bn1.weight"])
    trained = weights(fitted(resnet, batches(3, 8, side=32), trained=TrainedTowers(batch_norm=True)))
    assert all(not torch.equal(before[name], trained[name]) for name in statistics)


def test_image_tower_only(vit):
    before, after = weights(tune(vit)), weights(fitted(vit, batches(3, 12), trained=TrainedTowers(towers="image")))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if ".visual." in name or name.endswith("logit_scale")}


def test_last_groups_only(vit):
    module = tune(vit, trained=TrainedTowers(groups=2))
    names = {name for name, parameter in module.encoder.model.named_parameters() if parameter.requires_grad}
    assert {"visual.proj", "visual.ln_post.weight", "text_projection", "ln_final.weight", "logit_scale"} <= names
    assert not any("resblocks.0" in name or "conv1" in name or "token_embedding" in name for name in names)


def test_part_of_a_resnet_is_refused(resnet):
    with pytest.raises(MmoodError, match="cannot freeze a part"):
        tune(resnet, trained=TrainedTowers(groups=1))


def test_weight_decay_on_every_parameter_or_on_matrices(vit):
    encoder = tune(vit).encoder
    (everything,) = parameter_groups(encoder, decay_vectors=True)
    matrices, vectors = adamw(parameter_groups(encoder, decay_vectors=False)).param_groups
    assert len(everything["params"]) == len(matrices["params"]) + len(vectors["params"])
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert any(parameter is encoder.model.logit_scale for parameter in vectors["params"])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"alignment": 1.5}, r"model.alignment.* is 1.5"),
        ({"trained": TrainedTowers(towers="none")}, "nothing to train"),
        ({"trained": TrainedTowers(batch_norm=True), "execution": Execution(chunk=4)}, "BatchNorm in training"),
    ],
)
def test_what_cannot_be_is_refused(vit, more, words):
    with pytest.raises(MmoodError, match=words):
        tune(vit, **more)
    with pytest.raises(MmoodError, match="at least 1"):
        Execution(chunk=0)


def test_accumulation_is_refused(vit):
    with pytest.raises(MmoodError, match=r"accumulate_grad_batches. is 2"):
        fitted(vit, batches(4, 8), fit={"accumulate_grad_batches": 2})


def test_a_run_without_end_is_refused(vit):
    with pytest.raises(MmoodError, match="max_epochs"):
        trainer(-1, max_epochs=-1).fit(tune(vit), batches(1, 4))


def test_zero_says_that_it_is_flyp(vit, caplog):
    with caplog.at_level(logging.INFO, logger="mmood"):
        fitted(vit, batches(1, 4), 1, alignment=0.0)
    assert "this is FLYP" in caplog.text


def test_schedule_of_the_reference():
    rates = [warmup_cosine(step, 25_030, 500) for step in range(25_031)]
    assert rates[0] == 0
    assert rates[1] == pytest.approx(1 / 500)
    assert rates[500] == 1 == max(rates)
    assert rates[12_765] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0)


def test_bf16_computes_the_loss_in_float32(vit):
    module = fitted(vit, batches(2, 12), 2, fit={"precision": "bf16-mixed"})
    loss = module.trainer.callback_metrics["train/loss"]
    assert loss.dtype == torch.float32
    exact = fitted(vit, batches(2, 12), 2).trainer.callback_metrics["train/loss"]
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)


def test_validation_logs_how_the_embeddings_lie(vit):
    module = tune(vit)
    loaders = [batches(2, 7), batches(1, 5)]
    loaders[1].dataset[0]["label"].fill_(-1)
    run = trainer(1, callbacks=[AlignmentMonitor()])
    run.validate(module, loaders, verbose=False)
    whole = {name: torch.cat([batch[name] for batch in loaders[0]]) for name in ("image", "label")}
    labels = whole["label"]
    with torch.no_grad():
        u, t = module.embed(whole).embedding, module.prototypes
    logged = run.callback_metrics
    assert logged["val/alignment"].item() == pytest.approx(alignment(u, t[labels]).item(), rel=1e-5)
    assert logged["val/uniformity_image"].item() == pytest.approx(uniformity(u).item(), rel=1e-5)
    assert logged["val/uniformity_text"].item() == pytest.approx(uniformity(t).item(), rel=1e-5)
    assert logged["val/modality_gap"].item() == pytest.approx(modality_gap(u, t).item(), rel=1e-5)
    assert not module.scores["mcm"]._forward_pre_hooks


def test_prototypes_follow_the_tuned_text_tower(vit):
    module = tune(vit)
    module.fit_scores()
    before = module.prototypes
    trainer(3).fit(module, batches(3, 12))
    module.fit_scores()
    assert not torch.allclose(before, module.prototypes, atol=1e-4)


def test_interpolated_weights_at_test_time(vit, tmp_path):
    module = fitted(
        vit, batches(3, 12), fit={"enable_checkpointing": True, "callbacks": [ModelCheckpoint(tmp_path, "tuned")]}
    )
    tuned, pretrained = weights(module), weights(tune(vit))
    for alpha in (0.0, 0.5, 1.0):
        between = tune(vit, weight_interpolation=alpha)
        trainer(1).test(between, batches(1, 4), ckpt_path=tmp_path / "tuned.ckpt", verbose=False)
        expected = interpolate(pretrained, tuned, alpha)
        assert_same(weights(between), expected, rtol=0)
        reference = tune(vit)
        reference.load_state_dict(expected, strict=False)
        reference.fit_scores()
        torch.testing.assert_close(between.prototypes, reference.prototypes, rtol=0, atol=0)
    several = tune(vit, weight_interpolation=[0.0, 1.0])
    with pytest.raises(MmoodError, match="take several values"):
        trainer(1).test(several, batches(1, 4), ckpt_path=tmp_path / "tuned.ckpt", verbose=False)


def test_interpolation_refuses_other_shapes_and_weights_outside():
    a, b = {"w": torch.zeros(2), "n": torch.tensor(1)}, {"w": torch.ones(2), "n": torch.tensor(5)}
    between = interpolate(a, b, 0.25)
    assert between["w"].tolist() == [0.25, 0.25]
    assert between["n"].item() == 5
    with pytest.raises(MmoodError, match="differ"):
        interpolate(a, {**b, "w": torch.ones(3)}, 0.5)
    with pytest.raises(MmoodError, match=r"weight_interpolation.* is 1.5"):
        interpolate(a, b, 1.5)


def test_compile_marks_both_towers(vit):
    module = tune(vit, execution=Execution(compile=True))
    module.setup("fit")
    compiled = {name for name, part in module.encoder.model.named_modules() if part._compiled_call_impl is not None}
    assert compiled == {"transformer", "visual.transformer"}
    assert set(weights(module)) == set(weights(tune(vit)))


def test_a_fused_optimiser_takes_the_steps_of_a_plain_one():
    def moved(own):
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 50))
        optimizer = own(torch.optim.AdamW([parameter], lr=1e-2, weight_decay=0.1))
        for number in range(5):
            parameter.grad = torch.sin(number + torch.arange(50.0))
            optimizer.step()
        return optimizer, parameter.detach()

    optimizer, parameter = moved(fused)
    assert optimizer.param_groups[0]["fused"]
    torch.testing.assert_close(parameter, moved(lambda plain: plain)[1], rtol=1e-6, atol=1e-7)
    assert "fused" not in fused(torch.optim.Adafactor([torch.nn.Parameter(torch.ones(2))])).param_groups[0]
