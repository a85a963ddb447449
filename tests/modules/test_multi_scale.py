"""MODE: its loss on a batch, what is trained, ranks, a killed run, and from a fit to decisions."""

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from PIL import Image
from tiny import CLASSES, save_tiny, trainer, weights, write_shards
from torch.nn.functional import normalize
from torch.utils.data import DataLoader

from mmood.cli.main import main
from mmood.detector.detector import Detector
from mmood.encoders import EncoderSettings, build_encoder
from mmood.errors import MmoodError
from mmood.features.encoding import Ranks
from mmood.loading.loader import Decoder
from mmood.loading.settings import LoaderSettings
from mmood.loading.train import TrainLoader
from mmood.losses import alpa_loss, supcon_loss
from mmood.modules import MultiScale
from mmood.modules.fine_tuning.execution import Execution
from mmood.modules.fine_tuning.multi_scale import MultiScaleLoss, nearest_mean_head
from mmood.modules.fine_tuning.trained import TrainedTowers
from mmood.modules.optimisation import warmup_cosine
from mmood.scores import CSD

TIMM = EncoderSettings("timm:test_resnet.r160_in1k", "random", image_size=64)
FROZEN, STILL = TrainedTowers(towers="none"), TrainedTowers(towers="image", batch_norm=False)
FINE_TUNE = MultiScaleLoss(contrastive=0)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("clip") / "vit")


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def module(settings, **more):
    torch.manual_seed(0)
    return MultiScale(settings, CLASSES, {"csd": CSD(k=3)}, **{"optimizer": sgd, **more})


def views(number, size, side=16):
    """Return a loader of batches of noise, two views of each image."""
    generator = torch.Generator().manual_seed(1)
    noise = [
        {
            "image": torch.randn(size, 2, 3, side, side, generator=generator),
            "label": torch.randint(len(CLASSES), (size,), generator=generator),
            "key": torch.arange(size),
        }
        for _ in range(number)
    ]
    return DataLoader(noise, batch_size=None)


@pytest.mark.parametrize("execution", [Execution(), Execution(chunk=5)])
def test_the_loss_is_supcon_of_the_features_plus_alpa_of_the_map(vit, execution):
    tuned, (batch,) = module(vit, execution=execution, trained=STILL, loss=MultiScaleLoss(0.5, 2.0)), views(1, 6)
    encoded = tuned.encoder.encode_image(batch["image"].flatten(0, 1), feature_map=True)
    labels = torch.stack([batch["label"], batch["label"]], dim=1).flatten()
    head = tuned.projectors

    def projected(part):
        return torch.relu(encoded.feature_map @ part.first.weight.T) @ part.second.weight.T

    local = alpa_loss(projected(head.query), projected(head.key), projected(head.value), labels)
    contrast = supcon_loss(normalize(tuned.contrast(encoded.features), dim=1), labels)
    loss = tuned.training_step(batch, 0)
    torch.testing.assert_close(loss, 0.5 * contrast + 2 * local)
    assert head.value.second.weight.shape == (80, 512)
    assert tuned.contrast(encoded.features).shape == (12, 128)


@pytest.mark.parametrize(
    ("loss", "trained", "heads", "tower"),
    [
        (MultiScaleLoss(), STILL, {"contrast", "projectors"}, True),
        (MultiScaleLoss(local=0), STILL, {"contrast"}, True),
        (FINE_TUNE, STILL, {"projectors"}, True),
        (FINE_TUNE, FROZEN, {"projectors"}, False),
    ],
)
def test_what_is_trained_and_kept(vit, loss, trained, heads, tower):
    tuned = module(vit, loss=loss, trained=trained)
    before = {name: tensor.clone() for name, tensor in tuned.state_dict().items()}
    trainer(2).fit(tuned, views(2, 6))
    moved = {name for name, tensor in tuned.state_dict().items() if not torch.equal(before[name], tensor)}
    assert {name.partition(".")[0] for name in moved if not name.startswith("encoder.")} == heads
    assert any(".visual." in name for name in moved) == tower
    assert not any("transformer.resblocks" in name and "visual" not in name for name in moved), "no text is trained"
    kept = set(tuned.trained_state())
    assert moved <= kept
    assert any(name.startswith("encoder.") for name in kept) == tower
    assert all(parameter.grad is not None for parameter in tuned.parameters() if parameter.requires_grad)


def test_a_convolutional_network_of_its_own_starts_where_another_run_ended(tmp_path):
    first = module(TIMM)
    # Batches of one image for each class keep BatchNorm's variance away from 0.
    saves = {"enable_checkpointing": True, "callbacks": [ModelCheckpoint(tmp_path, "mode_t")]}
    trainer(2, **saves).fit(first, views(2, 6, 64))
    second = module(TIMM, loss=FINE_TUNE, start=str(tmp_path / "mode_t.ckpt"))
    second.setup("fit")
    ended = {name: tensor for name, tensor in weights(first).items() if name.startswith("encoder.")}
    assert all(torch.equal(second.state_dict()[name], tensor) for name, tensor in ended.items())
    assert any("running_mean" in name and tensor.abs().max() > 0 for name, tensor in ended.items())
    with pytest.raises(MmoodError, match=r"`model\.start` has another encoder"):
        module(EncoderSettings("timm:cifar_resnet18", "random"), start=str(tmp_path / "mode_t.ckpt")).setup("fit")
    with pytest.raises(MmoodError, match=r"`model\.start` none\.ckpt does not exist"):
        module(TIMM, start="none.ckpt").setup("fit")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": {"contrastive": 0, "local": 0}}, "are both 0"),
        ({"loss": {"temperature": 0}}, r"`model\.loss\.temperature`"),
        ({"crop": (0.5, 0.2)}, r"`model\.crop` is \[0\.5, 0\.2\]"),
        ({"trained": {"towers": "both"}}, "trains no text tower"),
        ({"trained": {"towers": "none"}}, r"set `model\.loss\.contrastive` to 0"),
        ({"trained": {"towers": "image", "batch_norm": True}, "execution": {"chunk": 4}}, r"`model\.execution\.chunk`"),
    ],
)
def test_wrong_settings_are_refused(settings, said, vit):
    kinds = {"loss": MultiScaleLoss, "trained": TrainedTowers, "execution": Execution}
    with pytest.raises(MmoodError, match=said):
        module(vit, **{name: kinds[name](**value) if name in kinds else value for name, value in settings.items()})


def test_gradients_are_not_accumulated_and_logits_need_training_images(vit):
    tuned = module(vit, trained=STILL)
    with pytest.raises(MmoodError, match="compared with all images of that batch"):
        trainer(2, accumulate_grad_batches=2).fit(tuned, views(2, 6))
    with pytest.raises(MmoodError, match=r"run it over data with `data\.train` set"):
        tuned.embed({"image": torch.zeros(1, 3, 16, 16)})


def test_the_logits_order_classes_by_the_distance_from_their_means(data, toy_root, toy_model, tmp_path):
    tuned = MultiScale(EncoderSettings(toy_model), str(toy_root / "classes.txt"), {"csd": CSD(k=3)}).eval()
    tuned.join(data(features="off"), Ranks.alone(), tmp_path)
    tuned.fit_scores()
    bank = tuned.reference_.bank()
    means = torch.stack([bank.features[bank.labels == label].mean(dim=0) for label in range(3)])
    embedded = tuned.embed({"image": torch.randn(5, 3, 32, 32)})
    distance = torch.cdist(embedded.features, means).square()
    expected = (embedded.features.square().sum(dim=1, keepdim=True) - distance) / 2
    torch.testing.assert_close(embedded.logits, expected, rtol=1e-3, atol=1e-3)
    assert embedded.feature_map.shape == (5, 16, 32)

    class Absent:
        class_names, encoder = ("a", "b", "c", "d"), tuned.encoder

        def bank(self, shots, transform):
            return bank

        def head(self):
            return None

    with pytest.raises(MmoodError, match="The class 'd' has no ID training image"):
        nearest_mean_head(Absent())


def test_two_views_are_drawn_apart_and_follow_the_seed(vit):
    image = Image.effect_mandelbrot((40, 30), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    transform = module(vit).image_transform(train=True)
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(transform(image))
    assert drawn[0].shape == (2, 3, 16, 16)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0][0], drawn[0][1])
    assert module(vit).image_transform(train=False)(image).shape == (3, 16, 16)


def test_the_learning_rate_ends_at_its_floor():
    assert warmup_cosine(0, 10, 0, 0.001) == 1
    assert warmup_cosine(10, 10, 0, 0.001) == pytest.approx(0.001)
    assert warmup_cosine(5, 10, 0, 0.2) == pytest.approx(0.6)


@torch.no_grad()
def test_cifar_resnets_keep_the_size_up_to_a_map_of_four():
    encoder = build_encoder(EncoderSettings("timm:cifar_resnet18", "random"))
    assert (encoder.image_size, encoder.map_grid(), encoder.feature_dim) == ((32, 32), (4, 4), 512)
    assert encoder.model.conv1.kernel_size == (3, 3)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 11_168_832
    assert encoder.weights_hash() == build_encoder(EncoderSettings("timm:cifar_resnet18", "random")).weights_hash()
    with pytest.raises(MmoodError, match="timm has no weights for 'cifar_resnet34'"):
        build_encoder(EncoderSettings("timm:cifar_resnet34"))


class Kill(Callback):
    """Ends the process before a step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder: Path, *callbacks: Callback) -> None:
    """Train for two epochs of four steps, from the last checkpoint in the folder if there is one."""
    saves = ModelCheckpoint(folder / "steps", "{step}", every_n_train_steps=3, save_top_k=-1)
    tuned = module(save_tiny(folder / "clip"), trained=STILL)
    last = max((folder / "steps").glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]), default=None)
    index = write_shards(folder / "data")
    decoder = Decoder(tuned.image_transform(train=True), len(CLASSES))
    loader = TrainLoader(index, index.keys(), decoder, 12, LoaderSettings(workers=0, shuffle_buffer=16))
    run = trainer(8, callbacks=[saves, *callbacks], enable_checkpointing=True, default_root_dir=folder)
    run.fit(tuned, loader, ckpt_path=last)
    torch.save(tuned.trained_state(), folder / "end.pt")


def test_a_killed_run_ends_with_the_same_weights(tmp_path, forked):
    train(tmp_path / "whole")
    killed = forked.call(train, tmp_path / "cut", Kill())
    assert killed.code == -signal.SIGKILL, killed.err
    train(tmp_path / "cut")
    whole, cut = (torch.load(tmp_path / name / "end.pt") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert [name for name in whole if not torch.equal(whole[name], cut[name])] == []


def on_ranks(folder: Path, world: int) -> None:
    """Train on a rank's share of each global batch of eight images, and keep the weights."""
    tuned = module(save_tiny(folder / f"clip-{os.environ.get('RANK', '0')}-{world}"), trained=STILL)
    spread = {"strategy": "ddp", "devices": world} if world > 1 else {}
    run = trainer(4, default_root_dir=folder, **spread)
    whole, size = list(views(4, 8)), 8 // world
    rows = slice(run.global_rank * size, (run.global_rank + 1) * size)
    share = [{name: tensor[rows] for name, tensor in batch.items()} for batch in whole]
    run.fit(tuned, DataLoader(share, batch_size=None))
    if run.global_rank == 0:
        torch.save(tuned.trained_state(), folder / f"{world}.pt")


@pytest.mark.ddp
def test_two_ranks_train_the_weights_of_one_at_the_same_global_batch(tmp_path, forked):
    on_ranks(tmp_path, 1)
    for rank in forked.start_ranks(on_ranks, tmp_path, 2):
        assert rank.wait() == 0, rank.err
    one, two = (torch.load(tmp_path / f"{world}.pt") for world in (1, 2))
    before = module(save_tiny(tmp_path / "start"), trained=STILL).trained_state()
    assert max(float((one[name] - before[name]).abs().max()) for name in one) > 1e-2, "the weights moved"
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, rtol=1e-4, atol=1e-5)


def flags(toy_root, encoder, *more):
    scores = {"csd": {"class_path": "CSD", "init_args": {"k": 3}}, "energy": {"class_path": "Energy"}}
    return [
        *("--model", "MultiScale", "--model.encoder", encoder, "--model.scores", json.dumps(scores)),
        *("--model.optimizer.lr", "0.05", "--data.root", str(toy_root), "--data.id", "toy-test"),
        *("--data.ood", "{near: [toy-near]}", "--data.train", "toy-train"),
        *("--data.class_names", str(toy_root / "classes.txt"), "--data.batch_size", "16"),
        *("--data.loader.workers", "0", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
        *("--trainer.logger", "false", "--trainer.enable_model_summary", "false", *more),
    ]


CONVOLUTIONS = "{name: timm:test_resnet.r160_in1k, pretrained: random, image_size: 64}"
OF_HEADS = ["--model.loss.contrastive", "0", "--model.trained.towers", "none"]


@pytest.mark.parametrize("frozen", [False, True])
def test_from_a_fit_in_bf16_to_decisions(frozen, toy_root, toy_model, tmp_path, capsys):
    arguments = flags(toy_root, f"{{name: '{toy_model}'}}", *OF_HEADS) if frozen else flags(toy_root, CONVOLUTIONS)
    validation = ["--data.val", "{id: 0.25, ood: {val: [toy-val-ood]}}", "--trainer.max_epochs", "2"]
    fit = [*arguments, *validation, "--trainer.precision", "bf16-mixed", "--run_dir", str(tmp_path / "fit")]
    assert main(["fit", *fit]) == 0
    checkpoint = ["--ckpt_path", str(tmp_path / "fit" / "checkpoints" / "last.ckpt"), "--trainer.accelerator", "cpu"]
    checkpoint += ["--trainer.precision", "32-true"]
    assert main(["test", *checkpoint, "--run_dir", str(tmp_path / "test")]) == 0
    with np.load(tmp_path / "test" / "scores" / "toy-near.npz") as found:
        expected = {name: found[name] for name in ("csd", "energy")}
    images = toy_root.parent / "images" / "toy-near"
    predict = ["--data.predict", str(images), "--run_dir", str(tmp_path / "predict")]
    assert main(["predict", *checkpoint, *predict]) == 0
    rows = list(csv.DictReader((tmp_path / "predict" / "predictions.csv").open()))
    np.testing.assert_allclose([float(row["csd"]) for row in rows], expected["csd"], atol=1e-4)
    out = tmp_path / "detector"
    assert main(["calibrate", *checkpoint, "--score", "csd", "--id_recall", "0.8", "--out", str(out)]) == 0
    decisions = Detector.load(out, "cpu")(sorted(images.iterdir()))
    np.testing.assert_allclose([decision.score for decision in decisions], expected["csd"], atol=1e-4)


def test_doctor_names_the_map_and_the_bank(toy_root, toy_model, capsys):
    assert main(["doctor", *flags(toy_root, f"{{name: '{toy_model}'}}", *OF_HEADS)]) == 0
    said = capsys.readouterr().out
    assert "feature map" in said
    assert "4 x 4 (value)" in said
