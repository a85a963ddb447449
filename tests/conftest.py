"""A small world for end-to-end tests: sets as shards, a tiny random CLIP, and the real data where they are."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import ForkServer
from PIL import Image
from safetensors.torch import save_model

from mmood.cli.main import main

pytest_plugins = ["longest_first"]

# Tiny tensors are no work for a second thread, and waiting for one another costs much where the cores are taken.
torch.set_num_threads(1)

CLASSES = ("red square", "green square", "blue square")
# Uneven on purpose, and `far` too small for every one of three ranks to get an image.
SIZES = {"toy-train": 48, "toy-test": 37, "toy-near": 21, "toy-far": 2, "toy-val-ood": 9}
MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory) -> None:
    """Feature stores of the tests, apart from the user's."""
    os.environ["MMOOD_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def forked(tmp_path_factory) -> Iterator[ForkServer]:
    """Processes that cost little to start; see CONTRIBUTING.md."""
    server = ForkServer(tmp_path_factory.mktemp("forked"))
    yield server
    server.end()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real images and a small real CLIP."""
    folder = os.environ.get("MMOOD_REAL_DATA")
    if not folder:
        pytest.skip("MMOOD_REAL_DATA is not set: it names the folder that holds data/ and models/")
    return Path(folder)


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory) -> str:
    """A tiny random CLIP, as `local-dir:` names it."""
    from open_clip import CLIP

    folder = tmp_path_factory.mktemp("toy-clip")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": MODEL, "preprocess_cfg": {}}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(CLIP(**MODEL), str(folder / "open_clip_model.safetensors"))
    return f"local-dir:{folder}"


@pytest.fixture(scope="session")
def toy_sigmoid_model(tmp_path_factory) -> str:
    """A tiny random CLIP with a logit bias and a tokenizer that canonicalises, as SigLIP has them."""
    from open_clip import CLIP

    folder = tmp_path_factory.mktemp("toy-siglip")
    model = {**MODEL, "init_logit_bias": -10.0}
    text = {**MODEL["text_cfg"], "tokenizer_kwargs": {"clean": "canonicalize"}}
    config = {"model_cfg": {**model, "text_cfg": text}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        save_model(CLIP(**model), str(folder / "open_clip_model.safetensors"))
    return f"local-dir:{folder}"


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory) -> Path:
    """A root with packed sets and the file of class names."""
    base = tmp_path_factory.mktemp("toy")
    root = base / "shards"
    root.mkdir()
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    for number, (name, size) in enumerate(SIZES.items()):
        labelled = name in ("toy-train", "toy-test")
        _images(base / "images" / name, size, seed=number, labelled=labelled)
        arguments = ["--out", str(root / name), "--folder", str(base / "images" / name), "--shard_size", "15"]
        names = ["--classes", str(root / "classes.txt")] if labelled else []
        assert main(["pack", *arguments, *names, "--quiet"]) == 0
    return root


def _images(folder: Path, size: int, seed: int, labelled: bool) -> None:
    generator = np.random.default_rng(seed)
    for index in range(size):
        label = index % len(CLASSES)
        pixels = generator.integers(0, 120, (36, 40, 3), dtype=np.uint8)
        if labelled:
            pixels[..., label] += 120
        path = folder / (CLASSES[label] if labelled else ".") / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def toy_flags(toy_root, toy_model) -> list[str]:
    """The flags that turn a config for ImageNet into a run over the toy sets."""
    return [
        *("--model.encoder.name", toy_model, "--data.root", str(toy_root), "--data.benchmark", "null"),
        *("--data.id", "toy-test", "--data.ood", "{near: [toy-near], far: [toy-far]}"),
        *("--data.class_names", str(toy_root / "classes.txt"), "--data.loader.workers", "0"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.enable_progress_bar", "false"),
    ]


@pytest.fixture(scope="session")
def toy_runs(toy_flags, tmp_path_factory) -> list[Path]:
    """Three run folders: two that differ in their seed, and one with another prompt."""
    base = tmp_path_factory.mktemp("runs")
    variants = {
        "photo": (),
        "photo_again": ("--seed_everything", "1"),
        "nice": ("--model.prompts", "the nice {}"),
    }
    for name, own in variants.items():
        assert main(["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, *own, "--run_dir", str(base / name)]) == 0
    return [base / name for name in variants]
