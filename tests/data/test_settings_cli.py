"""The settings as the command line and YAML files give them."""

import pytest
from jsonargparse import ArgumentParser

from mmood.data.datamodule import OoDDataModule


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
