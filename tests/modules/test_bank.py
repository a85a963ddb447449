"""Banks of ID training images inside a run: under the training transform, and while a tower is trained."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from mmood.data.datamodule import OoDDataModule
from mmood.data.settings import ValSettings
from mmood.encoders import EncoderSettings
from mmood.evaluation.callback import OoDCallback
from mmood.features.encoding import SeededByImage
from mmood.loading.settings import LoaderSettings
from mmood.modules import CrossEntropyFineTune, ZeroShot
from mmood.scores import KNN
from mmood.scores.base import AbstractScore, Bank, Embedded, Reference


class Keeper(AbstractScore):
    """Keeps copies of the banks that it was fitted on, with what `look` says at that moment."""

    def __init__(self, transform: str = "eval", look: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.transform, self.look = transform, look
        self.seen: list[tuple[Bank, object]] = []

    def fit(self, reference: Reference) -> AbstractScore:
        bank = reference.bank(transform=self.transform)
        copied = Bank(bank.features.clone(), bank.labels, bank.keys, bank.embedding.clone(), bank.identity)
        self.seen.append((copied, self.look()))
        return self

    def forward(self, embedded: Embedded) -> torch.Tensor:
        return embedded.logits[:, 0]


@pytest.fixture
def data(toy_root, tmp_path, monkeypatch) -> Callable[..., OoDDataModule]:
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))

    def make(**more) -> OoDDataModule:
        names = str(toy_root / "classes.txt")
        settings = {"id": "toy-test", "ood": {"near": ["toy-near"]}, "train": "toy-train", "val": ValSettings(id=0.25)}
        loader = LoaderSettings(workers=0, seed=more.pop("seed", 0))
        return OoDDataModule(str(toy_root), class_names=names, batch_size=16, loader=loader, **{**settings, **more})

    return make


def run(tmp_path, **more) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=[OoDCallback(save_scores=False, show=False)],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        default_root_dir=tmp_path / "run",
        **quiet,
        **more,
    )


def pictures(toy_root, data: OoDDataModule) -> list[Image.Image]:
    """The training images in the order of their keys, read from the files that were packed."""
    folder = toy_root.parent / "images" / "toy-train"
    paths = sorted(folder.rglob("*.png"))
    return [Image.open(path).convert("RGB") for path in paths]


def test_a_bank_under_the_training_transform_is_augmented_once_by_seed(data, toy_root, toy_model, tmp_path):
    banks = {}
    for name, transform, seed in (
        ("eval", "eval", 0),
        ("train", "train", 0),
        ("again", "train", 0),
        ("other", "train", 1),
    ):
        keeper = Keeper(transform)
        module = ZeroShot(EncoderSettings(toy_model), str(toy_root / "classes.txt"), {"keeper": keeper})
        own = data(seed=seed)
        run(tmp_path).test(module, own, verbose=False)
        ((bank, _),) = keeper.seen
        banks[name] = bank.features
        assert torch.equal(bank.keys, torch.from_numpy(own.train_keys()))
        assert module.provider.banks[None, transform]["transform"] == transform
    assert torch.equal(banks["again"], banks["train"])
    assert not torch.allclose(banks["train"], banks["eval"], atol=1e-3)
    assert not torch.allclose(banks["train"], banks["other"], atol=1e-3)
    # By hand: the transform with draws from the seed and the pixels, an image at a time.
    images, keys = pictures(toy_root, own), own.train_keys()
    for name, transform in (
        ("eval", module.encoder.transform(train=False)),
        ("train", SeededByImage(module.encoder.transform(train=True), 0)),
    ):
        with torch.inference_mode():
            expected = torch.cat([module.encoder.encode_image(transform(images[key])[None]).features for key in keys])
        torch.testing.assert_close(banks[name], expected, atol=1e-4, rtol=1e-4)


def test_while_a_tower_trains_banks_are_those_of_its_weights_and_leave_nothing(data, toy_root, toy_model, tmp_path):
    def encoded() -> torch.Tensor:
        transform = module.encoder.transform(train=False)
        batch = torch.stack([transform(images[key]) for key in own.train_keys()])
        with torch.inference_mode():
            return module.encoder.encode_image(batch).features

    keeper = Keeper(look=encoded)
    scores = {"keeper": keeper, "knn": KNN()}
    module = CrossEntropyFineTune(
        EncoderSettings(toy_model),
        str(toy_root / "classes.txt"),
        scores,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-2),
    )
    own = data()
    images = pictures(toy_root, own)
    trainer = run(tmp_path, max_epochs=3)
    trainer.fit(module, own)
    assert len(keeper.seen) == 3
    for bank, expected in keeper.seen:
        torch.testing.assert_close(bank.features, expected, atol=1e-4, rtol=1e-4)
    first, last = keeper.seen[0][0].features, keeper.seen[-1][0].features
    assert np.abs(first - last).max() > 1e-2, "the weights moved, and the bank with them"
    # DDP would broadcast buffers at every step, and a checkpoint would keep them.
    assert not any("scores" in name for name, _ in module.named_buffers())
    assert not (tmp_path / "cache").exists()
    assert not list((tmp_path / "run").rglob("*.safetensors"))
