"""A detector on real images for the benchmarks: `models/liteclip` with MCM, for torch and as an ONNX graph."""

import os
import sys
import tarfile
from itertools import islice
from pathlib import Path

from mmood.detector.building.export import TOLERANCES, export_detector
from mmood.detector.detector import Detector


def real_data() -> Path:
    """Return the folder of the real data; ends the benchmark if there is none."""
    root = os.environ.get("MMOOD_REAL_DATA")
    if root is None:
        sys.exit("MMOOD_REAL_DATA is not set; it names the folder that holds data/id-test and models/liteclip.")
    return Path(root)


def read_images(data: Path, count: int) -> list[bytes]:
    """Return encoded images of the set `id-test`, in the order of its shards."""
    found: list[bytes] = []
    for shard in sorted((data / "data/id-test").glob("*.tar")):
        with tarfile.open(shard) as tar:
            members = (member for member in tar if member.name.endswith((".jpg", ".png")))
            found += [tar.extractfile(member).read() for member in islice(members, count - len(found))]
    return found


def write_detectors(data: Path, folder: Path, images: list[bytes]) -> tuple[Path, Path]:
    """Write the detector for torch and the one for onnxruntime, and return their folders."""
    names = [line.strip() for line in (data / "data/id-classes.txt").read_text().splitlines() if line.strip()]
    model = f"local-dir:{data / 'models/liteclip'}"
    detector = Detector.from_names(names, model, "mcm", device="cpu").calibrated(images[:100], id_recall=0.9)
    detector.save(folder / "torch")
    export_detector(detector, folder / "onnx", images[:64], "float32", TOLERANCES["float32"])
    return folder / "torch", folder / "onnx"
