"""The settings as the command line and YAML files give them."""

import pytest
from data_world import CLASSES, write_set
from jsonargparse import ArgumentParser

from mmood.data.datamodule import OoDDataModule
from mmood.encoders import EncoderSettings
from mmood.features.stores import FeatureStores
from mmood.words.lists import load_negatives


def parse(*arguments):
    parser = ArgumentParser()
    parser.add_class_arguments(OoDDataModule, "data")
    return parser.instantiate_classes(parser.parse_args(["--data.root", "sets", *arguments])).data


@pytest.mark.parametrize(("given", "understood"), [("0.05", 0.05), ("id-val", "id-val")])
def test_val_id_is_a_fraction_or_a_set(tmp_path, given, understood):
    assert parse("--data.val.id", given).val.id == understood
    config = tmp_path / "val.yaml"
    config.write_text(f"id: {given}\nood: {{far: [sun]}}\n")
    val = parse("--data.val", str(config)).val
    assert (val.id, val.ood) == (understood, {"far": ["sun"]})


def test_nested_settings():
    data = parse("--data.benchmark", "imagenet-mos", "--data.loader.workers", "0", "--data.loader.on_error", "skip")
    assert (data.loader.workers, data.loader.on_error, data.loader.prefetch) == (0, "skip", 2)
    assert data.plan.ood == {"far": ["inaturalist", "sun", "places", "textures"]}
    assert parse("--data.ood", '{"near": ["a", "b"]}').plan.ood == {"near": ["a", "b"]}


def test_home_folders_in_every_path_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_set(tmp_path / "sets", "id", [6])
    (tmp_path / "names.txt").write_text("".join(f"name {number}\n" for number in range(CLASSES)))
    data = parse("--data.root", "~/sets", "--data.id", "id", "--data.class_names", "~/names.txt")
    (note,) = data.check("test")
    assert "has no class names in its index" in note
    assert data.catalog.index("id").location(0) == f"{tmp_path}/sets/id/id-0.tar"
    assert FeatureStores("~/stores").root == tmp_path / "stores"
    assert EncoderSettings("local-dir:~/clip", cache_dir="~/hub").name == f"local-dir:{tmp_path}/clip"
    assert EncoderSettings("ViT-B-16", pretrained="~/x.pt", cache_dir="~/hub").cache_dir == f"{tmp_path}/hub"
    (tmp_path / "words.txt").write_text("fox\n")
    assert len(load_negatives("~/words.txt")) == 1
