"""The street for the tests of this folder."""

from pathlib import Path

import numpy as np
import pytest
from street_world import NAMES, SETS, png, scene, write_shard


@pytest.fixture(scope="session")
def street(tmp_path_factory) -> Path:
    """A root with sets of scenes, indexed."""
    from mmood.cli.main import main

    root = tmp_path_factory.mktemp("street")
    for number, (name, count) in enumerate(SETS.items()):
        draw = np.random.default_rng(number)
        members = []
        for index in range(count):
            pixels, labels = scene(draw, with_animal=index % 3 == 0)
            members += [(f"{index:03}.png", png(pixels)), (f"{index:03}.mask.png", png(labels))]
        write_shard(root / name / "000.tar", members)
        assert main(["pack", "--index", str(root / name), "--quiet"]) == 0
    return root


@pytest.fixture(scope="session")
def street_flags(street) -> list[str]:
    """The flags that turn a config for CamVid into a small run over the street."""
    return [
        *("--data.root", str(street), "--data.label_names", str(NAMES), "--data.ood_labels", "[3]"),
        *("--data.ignore_labels", "[4]", "--data.train", "street-train", "--data.val", "street-val"),
        *("--data.test", "[street-test]", "--data.image_size", "[32, 48]", "--data.batch_size", "4"),
        *("--data.loader.workers", "0", "--trainer.accelerator", "cpu", "--trainer.devices", "1"),
        *("--trainer.enable_progress_bar", "false"),
    ]


@pytest.fixture(scope="session")
def segmenter(street_flags, tmp_path_factory) -> Path:
    """A run folder with a small trained segmenter."""
    from mmood.cli.main import main

    folder = tmp_path_factory.mktemp("trained") / "segmenter"
    arguments = ["fit", "--config", "camvid_segnet.yaml", *street_flags, "--model.network.width", "0.125"]
    arguments += ["--trainer.max_epochs", "3", "--trainer.check_val_every_n_epoch", "3"]
    assert main([*arguments, "--run_dir", str(folder)]) == 0
    return folder
