"""Cross-entropy fine-tuning of a tiny CLIP: FFT, linear probing, LP-FT."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import CLASSES, adamw, batches, save_tiny, trainer, weights
from torch.nn.functional import cross_entropy

from mmood.encoders import EncodedImages, EncoderSettings
from mmood.errors import MmoodError
from mmood.modules.fine_tuning.cross_entropy import CrossEntropyFineTune, HeadSettings
from mmood.modules.fine_tuning.execution import Execution
from mmood.modules.fine_tuning.trained import TrainedTowers
from mmood.modules.probes.probe import Probe
from mmood.scores.logits import MCM

PROBE = TrainedTowers(towers="none")


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("clip") / "vit")


def module(settings, **more):
    return CrossEntropyFineTune(settings, CLASSES, {"mcm": MCM()}, **{"optimizer": adamw, **more})


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("execution", [Execution(), Execution(chunk=5)])
def test_image_tower_and_head_are_trained(vit, execution):
    tuned = module(vit, execution=execution)
    before, loader = weights(tuned), batches(3, 12)
    run = trainer(3)
    run.fit(tuned, loader)
    assert run.optimizers[0].param_groups[0]["fused"]
    moved = changed(before, weights(tuned))
    # The features come before the projection.
    expected = {name for name in before if ".visual." in name and not name.endswith(".proj")}
    assert moved == expected | {"head.weight", "head.bias"}


def test_the_loss_is_cross_entropy_of_the_head(vit):
    tuned, (batch,) = module(vit), batches(1, 12)
    logits = tuned.head(tuned.encoder.encode_image(batch["image"]).features)
    torch.testing.assert_close(tuned.training_step(batch, 0), cross_entropy(logits, batch["label"]))
    torch.testing.assert_close(tuned.embed(batch).logits, logits)


def test_a_probe_leaves_the_towers_alone_and_its_checkpoint_is_the_head(vit):
    probe = module(vit, trained=PROBE)
    encoder = {name: tensor.clone() for name, tensor in probe.encoder.state_dict().items()}
    trainer(3).fit(probe, batches(3, 12))
    assert changed(encoder, probe.encoder.state_dict()) == set()
    assert set(probe.trained_state()) == {"head.weight", "head.bias"}


def test_fine_tuning_goes_on_from_a_probe(vit, tmp_path):
    saves = {"enable_checkpointing": True, "callbacks": [ModelCheckpoint(tmp_path, "probe")]}
    probe = module(vit, trained=PROBE)
    trainer(3, **saves).fit(probe, batches(3, 12))
    tuned = module(vit, head=HeadSettings(start=str(tmp_path / "probe.ckpt")))
    tuned.setup("fit")
    assert torch.equal(tuned.head.weight, probe.head.weight)
    assert torch.equal(tuned.head.bias, probe.head.bias)
    with pytest.raises(MmoodError, match=r"one of shape \(5, 32\); a head of shape \(5, 24\)"):
        module(vit, head=HeadSettings(str(tmp_path / "probe.ckpt"), "embedding")).setup("fit")


def test_fine_tuning_goes_on_from_a_standardised_probe(vit, tmp_path):
    features = torch.randn(40, 32, generator=torch.Generator().manual_seed(0)) * 3 + 1
    probe = Probe({"features": 32}, len(CLASSES), heads=2)
    probe.learn_statistics({"features": features}, torch.arange(40))
    probe.chosen.fill_(1)
    torch.nn.init.normal_(probe.spaces["features"].heads[1].weight)
    torch.save(
        {"state_dict": {f"probe.{name}": value for name, value in probe.state_dict().items()}}, tmp_path / "p.ckpt"
    )
    tuned = module(vit, head=HeadSettings(str(tmp_path / "p.ckpt")))
    tuned.setup("fit")
    torch.testing.assert_close(tuned.head(features), probe(EncodedImages(features, None)), rtol=1e-5, atol=1e-5)
    assert torch.equal(tuned.reference().head().weight, tuned.head.weight)


def test_a_zero_shot_head_gives_the_zero_shot_logits(vit):
    tuned = module(vit, head=HeadSettings("zero-shot", "embedding"), prompts="a {}")
    tuned.setup("fit")
    (batch,) = batches(1, 6)
    embedded = tuned.embed(batch)
    prototypes = tuned.encoder.encode_text([f"a {name}" for name in CLASSES])
    torch.testing.assert_close(embedded.logits, tuned.encoder.logit_scale * embedded.embedding @ prototypes.T)
    # Scores that learn from the bank take the logits of the head, not the cosines with its start.
    with torch.no_grad():
        tuned.head.weight += 1
    head = tuned.reference().head()
    assert head.reads == "embedding"
    assert torch.equal(head.logits(embedded.embedding), tuned.embed(batch).logits)


def test_a_probe_on_other_rows_is_no_start(vit, tmp_path):
    probe = Probe({"embedding": 32}, len(CLASSES))
    torch.save(
        {"state_dict": {f"probe.{name}": value for name, value in probe.state_dict().items()}}, tmp_path / "p.ckpt"
    )
    with pytest.raises(MmoodError, match=r"reads embedding, but `model\.head\.reads` is features"):
        module(vit, head=HeadSettings(str(tmp_path / "p.ckpt"))).setup("fit")


def test_image_only_encoders_are_fine_tuned(tmp_path):
    tuned = module(EncoderSettings("timm:test_resnet.r160_in1k", "random", image_size=32))
    before = weights(tuned)
    trainer(2).fit(tuned, batches(2, 4, side=32))
    moved = changed(before, weights(tuned))
    assert moved
    assert not any("running" in name for name in moved)
    with pytest.raises(MmoodError, match="image-only encoder, which has no text encoder"):
        _ = tuned.reference().prototypes


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"trained": TrainedTowers()}, "trains no text tower"),
        ({"head": HeadSettings("zero-shot")}, "set `model.head.reads` to embedding"),
        ({"head": HeadSettings("none.ckpt")}, "is not a file"),
    ],
)
def test_what_cannot_be_is_refused(vit, more, words):
    with pytest.raises(MmoodError, match=words):
        module(vit, **more).setup("fit")
