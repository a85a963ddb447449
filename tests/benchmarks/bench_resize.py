"""Decoding and transform with both resizes, against open_clip's own transform, in one run.

Pictures at their native size, 224 pixels, one thread, CPU time; the three take turns. Printed are also the largest and
the mean difference of torch's resize from Pillow's, in steps of 8 bits.

    MMOOD_REAL_DATA=FOLDER python tests/benchmarks/bench_resize.py      (FOLDER/data/imagenet-native/*.tar)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from detectors import real_data
from open_clip import image_transform
from torch import Tensor

from mmood.encoders.transforms import eval_transform
from mmood.images.preprocessing import Preprocessing
from mmood.loading.decoding import decode_image
from mmood.shards.reading import RawSample, read_shard

ROUNDS, IMAGES = 5, 200
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP = Preprocessing((224, 224), MEAN, STD, "bicubic", "shortest")


def seconds(samples: list[RawSample], transform: Callable[..., Tensor]) -> float:
    """Return the CPU time of decoding and transforming all samples."""
    start = time.process_time()
    for sample in samples:
        transform(decode_image(sample, "ignore"))
    return time.process_time() - start


def main() -> None:
    """Print the rates, the ratios and the differences."""
    torch.set_num_threads(1)
    (shard,) = (real_data() / "data/imagenet-native").glob("*.tar")
    samples = list(read_shard(str(shard), IMAGES, 0, np.arange(IMAGES)))
    pillow, by_torch = eval_transform(CLIP), eval_transform(replace(CLIP, resize="torch"))
    theirs = image_transform(224, is_train=False, mean=MEAN, std=STD)
    transforms = {"open_clip": theirs, "pillow": pillow, "torch": by_torch}
    rounds = [{name: seconds(samples, transform) for name, transform in transforms.items()} for _ in range(ROUNDS)]
    for name in transforms:
        taken = statistics.median(found[name] for found in rounds)
        ratio = statistics.median(found[name] / found["open_clip"] for found in rounds)
        print(f"{name}: {len(samples) / taken:.0f} images a second of CPU, {ratio:.2f} of open_clip's time")
    pictures = [decode_image(sample, "ignore") for sample in samples]
    steps = 255 * torch.tensor(STD).view(3, 1, 1)
    gaps = torch.stack([(pillow(picture) - by_torch(picture)).abs() * steps for picture in pictures])
    same = all(torch.equal(pillow(picture), theirs(picture)) for picture in pictures)
    print(f"torch differs from pillow by {gaps.mean():.4f} of 255 in the mean, {gaps.max():.1f} at most")
    print(f"pillow is open_clip to the bit: {same}")


if __name__ == "__main__":
    main()
