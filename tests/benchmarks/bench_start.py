"""CPU time until `mmood` answers, against a bare script; the first score within 1.15 times of it is wanted.

The first score: `mmood predict` on one image, against a script that imports torch and open_clip, embeds the class names
and scores the same image with MCM. A flag with a typing error and the help of a command are measured beside it. All
are processes of their own, in turn, on one thread; the model is small, so that imports are what takes time.

    MMOOD_REAL_DATA=FOLDER python tests/benchmarks/bench_start.py [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from detectors import real_data
from PIL import Image

BARE = """
import sys, torch, open_clip
from PIL import Image
model, _, transform = open_clip.create_model_and_transforms("local-dir:" + sys.argv[1])
tokenize = open_clip.get_tokenizer("local-dir:" + sys.argv[1])
names = open(sys.argv[2]).read().splitlines()
with torch.no_grad():
    texts = model.encode_text(tokenize([f"a photo of a {name}" for name in names]), normalize=True)
    image = model.encode_image(transform(Image.open(sys.argv[3]).convert("RGB"))[None], normalize=True)
print(float((image @ texts.T).softmax(dim=1).max()))
"""


def cpu_seconds(command: list[str], folder: Path) -> float:
    """Return user and system time of a process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MMOOD_CACHE": str(folder / "cache")}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commands(folder: Path) -> dict[str, list[str]]:
    """Write an image; return the processes to compare."""
    model, names, image = real_data() / "models/miniclip", real_data() / "data/id-classes.txt", folder / "image.jpg"
    Image.effect_noise((64, 64), 50).save(image)
    mmood = [sys.executable, "-m", "mmood"]
    tower = ["--model.encoder.name", f"local-dir:{model}", "--data.class_names", str(names)]
    run = ["--run_dir", str(folder / "run"), "--overwrite", "true", "--trainer.accelerator", "cpu"]
    predict = ["predict", "--config", "vitb16_zeroshot.yaml", *tower, "--data.predict", str(image), *run]
    return {
        "bare script": [sys.executable, "-c", BARE, str(model), str(names), str(image)],
        "first score": [*mmood, *predict, "--trainer.precision", "32-true"],
        "typing error": [*mmood, "test", "--config", "vitb16_zeroshot.yaml", "--data.rot", "x"],
        "help": [*mmood, "test", "--help"],
        "plan": [*mmood, "prepare", "imagenet-x", "--dry_run"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        compared = commands(Path(name))
        taken = [{what: cpu_seconds(call, Path(name)) for what, call in compared.items()} for _ in range(rounds)]
    for what in compared:
        seconds = statistics.median(each[what] for each in taken)
        ratio = statistics.median(each[what] / each["bare script"] for each in taken)
        print(f"{what}: {seconds:.2f} s of CPU, {ratio:.3f} of the bare script")


if __name__ == "__main__":
    main()
