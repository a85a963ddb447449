"""A toy detector, shared by all tests of the room; and images that are no images."""

from pathlib import Path

import pytest
from PIL import Image

from mmood.detector.detector import Detector

NAMES = ["red square", "green square", "blue square"]


@pytest.fixture(scope="session")
def id_folder(toy_root) -> Path:
    return toy_root.parent / "images" / "toy-train"


@pytest.fixture(scope="session")
def detector(toy_model, id_folder) -> Detector:
    """A zero-shot detector that is calibrated on 48 images, 40 of 48 of which it accepts."""
    return Detector.from_names(NAMES, toy_model, "mcm", device="cpu").calibrated(id_folder, id_recall=0.8)


@pytest.fixture(scope="session")
def saved(detector, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("detector") / "det"
    detector.save(folder)
    return folder


@pytest.fixture(scope="session")
def mixed(toy_root, tmp_path_factory) -> list[str]:
    """Twenty-one images, three files that are none, and a path without a file."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("not an image")
    whole = toy_root.parent / "images" / "toy-near"
    paths = [str(path) for path in sorted(whole.iterdir())]
    (folder / "cut.png").write_bytes(Path(paths[0]).read_bytes()[:400])
    Image.new("L", (50, 20), 77).save(folder / "grey.png")
    broken = [str(folder / name) for name in ("empty.png", "text.jpg", "cut.png", "missing.png")]
    return [*paths[:7], broken[0], *paths[7:9], broken[1], broken[2], *paths[9:], broken[3], str(folder / "grey.png")]
