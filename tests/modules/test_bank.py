"""Banks of ID training images inside a run: under the training transform, and while a tower is trained."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import evaluating, trainer
from torch.utils.data import DataLoader

from mmood.data.datamodule import OoDDataModule
from mmood.encoders import EncoderSettings
from mmood.errors import MmoodError
from mmood.features.encoding import Ranks, SeededByImage
from mmood.modules import CrossEntropyFineTune, ZeroShot
from mmood.scores import KNN, MCM
from mmood.scores.base import AbstractScore, Bank, Embedded, Reference
from mmood.scores.descriptors import LocalDescriptors
from mmood.scores.functional_scales import region_means


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
        evaluating(tmp_path).test(module, own, verbose=False)
        ((bank, _),) = keeper.seen
        banks[name] = bank.features
        assert torch.equal(bank.keys, torch.from_numpy(own.train_keys()))
        assert module.provider.banks[None, transform, None]["transform"] == transform
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
    evaluating(tmp_path, max_epochs=3).fit(module, own)
    assert len(keeper.seen) == 3
    for bank, expected in keeper.seen:
        torch.testing.assert_close(bank.features, expected, atol=1e-4, rtol=1e-4)
    first, last = keeper.seen[0][0].features, keeper.seen[-1][0].features
    assert np.abs(first - last).max() > 1e-2, "the weights moved, and the bank with them"
    # DDP would broadcast buffers at every step, and a checkpoint would keep them.
    assert not any("scores" in name for name, _ in module.named_buffers())
    assert not (tmp_path / "cache").exists()
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_without_a_trainer_a_bank_is_the_one_of_a_run(data, toy_root, toy_model, tmp_path):
    def keeper() -> tuple[ZeroShot, Keeper]:
        score = Keeper()
        return ZeroShot(EncoderSettings(toy_model), str(toy_root / "classes.txt"), {"keeper": score}).eval(), score

    module, in_run = keeper()
    evaluating(tmp_path).test(module, data(features="off"), verbose=False)
    alone, by_hand = keeper()
    with pytest.raises(MmoodError, match="no ID training set here"):
        alone.fit_scores()
    own = data(features="off")
    alone.join(own, Ranks.alone(), tmp_path / "alone")
    alone.fit_scores()
    ((expected, _),), ((found, _),) = in_run.seen, by_hand.seen
    assert torch.equal(found.features, expected.features)
    assert torch.equal(found.embedding, expected.embedding)
    assert found.identity == expected.identity
    assert not list(tmp_path.rglob("*.safetensors")), "features of one run alone are left nowhere"
    # The data are read for the detector: its transform, and its stores in place of images.
    (batch,) = [batch for batch in own.test_dataloader()["toy-near"] if 0 in batch["key"]]
    images = sorted((toy_root.parent / "images" / "toy-near").iterdir())
    with Image.open(images[0]) as first:
        assert torch.equal(batch["image"][0], alone.image_transform(train=False)(first.convert("RGB")))


class Scales(AbstractScore):
    """Keeps banks with descriptors of the patches and of the feature map."""

    def fit(self, reference: Reference) -> AbstractScore:
        means = region_means(*reference.encoder.map_grid())
        self.made = [LocalDescriptors(reads, means) for reads in ("patches", "feature_map")]
        self.banks = [reference.bank(descriptors=descriptors) for descriptors in (*self.made, None)]
        return self

    def forward(self, embedded: Embedded) -> torch.Tensor:
        return embedded.logits[:, 0]


def test_a_bank_holds_several_descriptors_of_each_image_and_keeps_them(data, toy_root, toy_model, tmp_path):
    def run(features: str) -> tuple[ZeroShot, Scales]:
        score = Scales()
        module = ZeroShot(EncoderSettings(toy_model), str(toy_root / "classes.txt"), {"scales": score}).eval()
        module.join(data(features=features), Ranks.alone(), tmp_path / "run")
        module.fit_scores()
        return module, score

    module, score = run("off")
    *both, plain = score.banks
    assert plain.descriptors is None
    images = pictures(toy_root, data())
    transform = module.encoder.transform()
    with torch.inference_mode():
        batch = torch.stack([transform(images[key]) for key in plain.keys])
        encoded = module.encoder.encode_image(batch, patches=True, feature_map=True)
    for bank, descriptors, local in zip(both, score.made, (encoded.patches, encoded.feature_map), strict=True):
        torch.testing.assert_close(bank.descriptors, descriptors.of(local), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(bank.features, plain.features)
        assert bank.identity["descriptors"] == descriptors.identity()
    assert not list(tmp_path.rglob("*.safetensors"))
    kept = run("auto")[1]
    stored = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(stored) == 3
    again = run("auto")[1]
    assert stored == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    for one, other in zip(again.banks[:2], kept.banks[:2], strict=True):
        assert torch.equal(one.descriptors, other.descriptors)


def test_a_run_over_other_data_forgets_the_ones_before(data, toy_root, toy_model, tmp_path):
    module = ZeroShot(EncoderSettings(toy_model), str(toy_root / "classes.txt"), {"mcm": MCM()})
    evaluating(tmp_path).test(module, data(), verbose=False)
    first = module.provider
    evaluating(tmp_path).test(module, data(), verbose=False)
    assert module.provider is not first
    batch = {"image": torch.zeros(2, 3, 32, 32), "label": torch.zeros(2, dtype=torch.int64), "key": torch.arange(2)}
    trainer(1).test(module, DataLoader([batch], batch_size=None), verbose=False)
    assert module.provider is None
    with pytest.raises(MmoodError, match="no ID images here"):
        module.id_features()
