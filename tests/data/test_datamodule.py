import pytest
import torch
from data_world import CLASSES, noisy, number_of, png, to_tensor, write_set
from lightning.pytorch import LightningModule, Trainer

from mmood.data import benchmarks
from mmood.data.benchmarks import BENCHMARKS, Benchmark
from mmood.data.datamodule import OoDDataModule
from mmood.data.settings import ValSettings, resolve
from mmood.errors import MmoodError
from mmood.loading.settings import LoaderSettings
from mmood.recipes.recipe import parse_recipe
from mmood.recipes.registry import recipe_names

NAMES = [f"class {i}" for i in range(CLASSES)]


class Model(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = {"train": [], "val": {}, "test": {}, "predict": []}

    def image_transform(self, train):
        return noisy if train else to_tensor

    def stored_features(self, indices):
        return {}

    def training_rows(self):
        return None

    def few_shot(self):
        return None

    def training_step(self, batch, batch_idx):
        self.seen["train"] += batch["key"].tolist()
        return self.weight.sum()

    def evaluate(self, stage, loaders, batch, dataloader_idx):
        name = list(loaders)[dataloader_idx]
        self.seen[stage].setdefault(name, []).extend(batch["key"].tolist())

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.evaluate("val", self.trainer.val_dataloaders, batch, dataloader_idx)

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        self.evaluate("test", self.trainer.test_dataloaders, batch, dataloader_idx)

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        self.seen["predict"] += [number_of(image) for image in batch["image"]]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def root(tmp_path):
    for name, sizes, labelled in (
        ("id", [6, 5], True),
        ("train", [30, 10], True),
        ("near", [4], False),
        ("far", [3, 3], True),
    ):
        write_set(tmp_path / "sets", name, sizes, labelled)
    return tmp_path / "sets"


def module_of(root, **settings):
    options = {
        "id": "id",
        "ood": {"near": ["near"], "far": ["far"]},
        "class_names": NAMES,
        "batch_size": 4,
        "loader": LoaderSettings(workers=0),
    }
    return OoDDataModule(str(root), **{**options, **settings})


def trainer():
    return Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_every_stage_through_lightning(root, tmp_path):
    (tmp_path / "photos/sub").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.PNG", "sub/c.png"]):
        (tmp_path / "photos" / name).write_bytes(png(number))
    val = ValSettings(id=0.3, ood={"far": ["far"]})
    data = module_of(root, train="train", val=val, predict=str(tmp_path / "photos"))
    model = Model()
    data.connect(model)
    trainer().fit(model, data)
    trainer().test(model, data, verbose=False)
    trainer().predict(model, data)
    assert {name: sorted(keys) for name, keys in model.seen["test"].items()} == {
        "id": list(range(11)),
        "near": list(range(4)),
        "far": list(range(6)),
    }
    assert list(model.seen["test"]) == ["id", "near", "far"]
    held = data.evaluation_sets("validate")["train_held_out"]
    assert (held.group, held.count, held.index.name) == ("id", len(held.keys), "train")
    assert set(model.seen["val"]["train_held_out"]) == set(held.keys.tolist())
    assert not set(model.seen["train"]) & set(held.keys.tolist())
    assert 0 < held.count < 40
    assert len(data.train_keys()) + held.count == 40
    assert model.seen["predict"] == [0, 1, 2]
    assert data.predict_names() == ["a.png", "b.PNG", "sub/c.png"]


def test_evaluation_sets_and_reference(root):
    data = module_of(root, train="train")
    data.connect(Model())
    sets = data.evaluation_sets("test")
    assert [(e.name, e.group, e.count) for e in sets.values()] == [
        ("id", "id", 11),
        ("near", "near", 4),
        ("far", "far", 6),
    ]
    reference = list(data.reference_dataloader())
    assert [key for batch in reference for key in batch["key"].tolist()] == list(range(40))
    assert reference[0]["label"].tolist() == [0, 1, 2, 3]
    labels = [label for batch in data.test_dataloader()["far"] for label in batch["label"].tolist()]
    assert labels == [-1] * 6


def test_all_missing_sets_in_one_sentence(root):
    data = OoDDataModule(str(root), benchmark="imagenet-mos")
    with pytest.raises(MmoodError) as caught:
        data.setup("test")
    for name in ("imagenet", "inaturalist", "sun", "places", "textures"):
        assert f"'{name}'" in str(caught.value)
    assert "image-net.org" in str(caught.value)
    assert "`mmood prepare imagenet inaturalist sun places textures --root" in str(caught.value)
    assert "drive.google" not in str(caught.value)
    with pytest.raises(MmoodError, match="There is no set 'own'"):
        module_of(root, ood={"far": ["own"]}).check()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"id": "near", "ood": {}}, "'near' is used as ID, but it has no labels"),
        ({"class_names": NAMES[:3]}, "has 5 classes, but `data.class_names` has 3 names"),
        ({"ood": {"far": ["far", "id"]}}, "'id' is in `data` twice"),
        ({"ood": {"far": ["far"], "near": ["far"]}}, "'far' is in `data` twice"),
        ({"ood": {"far": ["far"], "near": []}}, "`data.ood.near` is empty"),
        ({"val": ValSettings(ood={"val": []})}, "`data.val.ood.val` is empty"),
        ({"id": None}, "`data.id` is not set"),
        ({"batch_size": 0}, "`data.batch_size` is 0"),
        ({"val": ValSettings(id=1.5)}, "`data.val.id` is 1.5"),
        ({"benchmark": "imagenet-moss"}, "did you mean 'imagenet-mos'"),
    ],
)
def test_settings_that_cannot_work(root, settings, sentence):
    with pytest.raises(MmoodError, match=sentence):
        module_of(root, **settings).setup("test")


def test_fit_needs_a_training_set(root):
    with pytest.raises(MmoodError, match=r"`data\.train` is not set"):
        module_of(root).setup("fit")
    with pytest.raises(MmoodError, match="a fraction of `data"):
        module_of(root, val=ValSettings(id=0.1)).setup("validate")
    with pytest.raises(MmoodError, match="workers` is -1"):
        LoaderSettings(workers=-1)


def test_the_module_must_know_its_transform(root):
    data = module_of(root)
    with pytest.raises(MmoodError, match="has no `image_transform"):
        data.test_dataloader()


def test_a_known_set_of_another_size_is_named(root, monkeypatch):
    own = Benchmark("own", "id", {"far": ("far",)}, "cifar10", "")
    monkeypatch.setattr(benchmarks, "BENCHMARKS", {"own": own})
    far = parse_recipe("{name: far, count: 7, variant: far_6, sets: [id]}", "far")
    monkeypatch.setattr(benchmarks, "known_recipe", {"far": far}.get)
    data = OoDDataModule(str(root), benchmark="own", class_names=NAMES)
    with pytest.raises(MmoodError, match=r"'far' holds 6 samples, but the protocol has 7; .* variant 'far_6'"):
        data.setup("test")


def test_a_benchmark_fills_only_what_is_unset():
    plan = resolve("imagenet-openood", None, {"far": ["own"]}, None)
    assert (plan.id, plan.ood, plan.class_names) == ("imagenet_openood", {"far": ["own"]}, "imagenet-openai")
    plan = resolve("imagenet-openood", "mine", None, ["a"])
    assert (plan.id, plan.class_names) == ("mine", ["a"])
    assert plan.ood["near"] == ["ssb_hard", "ninco"]
    # Classes of one's own are not those of the benchmark.
    assert resolve("imagenet-mos", "folder:pets", None, None).class_names is None
    assert resolve("imagenet-mos", None, None, None, train="photos/pets").class_names is None
    assert resolve("imagenet-mos", "mine", None, None, train="pets").class_names == "imagenet-openai"


def test_the_registry_is_complete():
    for benchmark in BENCHMARKS.values():
        assert {benchmark.id, *(n for names in benchmark.ood.values() for n in names)} <= set(recipe_names())
