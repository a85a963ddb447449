"""One step of alignment fine-tuning against a loop by hand; what distinct texts and gradient caching save.

Everything is a ratio of two measurements in one run, alternating. On a CPU the towers are ViT-B/16's shape with a tenth
of its work; with a GPU, ViT-B/16 itself in bf16 at a batch of 512. Weights are random: they change no time.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
from torch.nn.functional import normalize

from mmood.encoders import EncoderSettings
from mmood.loading.batch import Batch
from mmood.modules.fine_tuning.alignment import AlignmentFineTune, LossSettings
from mmood.modules.fine_tuning.captions import Captions
from mmood.modules.fine_tuning.execution import Execution, prepare
from mmood.modules.fine_tuning.trained import training_mode
from mmood.modules.optimisation import fused
from mmood.scores.logits import MCM

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
SMALL = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 96, "layers": 6, "width": 192, "head_width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 4},
}


def settings(folder: Path, small: dict = SMALL) -> EncoderSettings:
    """Return ViT-B/16, or on a CPU a model of its shape."""
    if CUDA:
        return EncoderSettings("ViT-B-16", "random")
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": small, "preprocess_cfg": {}}))
    torch.save(open_clip.CLIP(**copy.deepcopy(small)).state_dict(), folder / "open_clip_pytorch_model.bin")
    return EncoderSettings(f"local-dir:{folder}")


def build(
    encoder: EncoderSettings, classes: list[str], texts: str = "pairs", chunk: int | None = None, compiled: bool = False
) -> AlignmentFineTune:
    """Return a module that is ready to train, without a trainer."""
    loss, execution = LossSettings(texts=texts), Execution(chunk=chunk, compile=compiled)
    module = AlignmentFineTune(encoder, classes, {"mcm": MCM()}, 1e-3, loss=loss, execution=execution).to(DEVICE)
    prepare(module.encoder, execution)
    training_mode(module.encoder, module.trained)
    module._captions = Captions(module.encoder, classes, module.templates)
    return module


def noise(size: int, classes: int, module: AlignmentFineTune) -> Batch:
    """Return a batch of noise with labels drawn evenly."""
    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        image=torch.randn(size, 3, *module.encoder.image_size, generator=generator),
        label=torch.randint(classes, (size,), generator=generator),
        key=torch.arange(size),
    )
    return {name: value.to(DEVICE) for name, value in batch.items()}


def stepper(module: AlignmentFineTune, batch: Batch) -> Callable[[], torch.Tensor]:
    """Return the function that takes one step of mmood."""
    optimizer = fused(module.optimizer(module.encoder.parameters()))

    def step() -> torch.Tensor:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=CUDA):
            loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def loop_by_hand(module: AlignmentFineTune, batch: Batch, classes: list[str]) -> Callable[[], torch.Tensor]:
    """Return the function that takes the same step in plain PyTorch on open_clip."""
    model = module.encoder.model
    tokens = module.encoder.tokenizer([f"The nice {name}" for name in classes]).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.1)

    def step() -> torch.Tensor:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=CUDA):
            image = model.encode_image(batch["image"])
            text = model.encode_text(tokens[batch["label"]])
        image, text = normalize(image.float(), dim=-1), normalize(text.float(), dim=-1)
        logits = model.logit_scale.exp() * image @ text.T
        positive, rows, columns = logits.diagonal(), logits.logsumexp(1), logits.logsumexp(0)
        loss = (rows - positive - 1e-3 * rows).mean() / 2 + (columns - positive - 1e-3 * columns).mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def seconds(step: Callable[[], torch.Tensor]) -> float:
    """Return how long one step takes: on a CPU the time of its cores, for which other processes do not count."""
    clock = time.perf_counter if CUDA else time.process_time
    start = clock()
    step().item()
    return clock() - start


def compare(title: str, mine: Callable[[], torch.Tensor], other: Callable[[], torch.Tensor], repeats: int) -> None:
    """Print the medians of two steps measured in turn, the median of their ratios, and the peak memory of each."""
    for step in (mine, other):
        seconds(step)
    pairs = [(seconds(mine), seconds(other)) for _ in range(repeats)]
    ratio = statistics.median(first / second for first, second in pairs)
    medians = [statistics.median(column) * 1000 for column in zip(*pairs, strict=True)]
    memory = [rise(step) for step in (mine, other)]
    print(
        f"{title}: {medians[0]:.0f} ms against {medians[1]:.0f} ms, ratio {ratio:.3f}; memory rises by "
        f"{memory[0]:.0f} MiB against {memory[1]:.0f} MiB, ratio {memory[0] / memory[1]:.3f}"
    )


def peak_memory(module: AlignmentFineTune, batch: Batch) -> float:
    """Return by how many MiB memory rises at most in forward and backward pass, new gradients included."""

    def forward_backward() -> None:
        module.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=CUDA):
            loss = module.training_step(batch, 0)
        loss.backward()

    forward_backward()
    module.zero_grad()
    return rise(forward_backward)


def rise(run: Callable[[], object]) -> float:
    """Return by how many MiB memory rises at most while something runs."""
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    changes = [event.nbytes() for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(itertools.accumulate(changes)) / 2**20


def gradients(module: AlignmentFineTune, batch: Batch) -> torch.Tensor:
    """Return all gradients of a step in float32 as one vector."""
    module.zero_grad()
    module.training_step(batch, 0).backward()
    return torch.cat(
        [parameter.grad.flatten() for parameter in module.encoder.parameters() if parameter.grad is not None]
    )


def caching(encoder: EncoderSettings, classes: list[str], size: int, chunk: int) -> None:
    """Print memory, time and gradients of a batch in chunks against the whole batch and against a batch of one chunk."""
    whole, chunked = build(encoder, classes), build(encoder, classes, chunk=chunk)
    batch, small = noise(size, len(classes), whole), noise(chunk, len(classes), whole)
    plain, cached = gradients(whole, batch if not CUDA else small), gradients(chunked, batch if not CUDA else small)
    print(f"gradients in chunks against whole: relative error {((cached - plain).norm() / plain.norm()).item():.1e}")
    peaks = [peak_memory(chunked, batch), peak_memory(whole, small), peak_memory(whole, batch)]
    print(
        f"peak memory of {size} in chunks of {chunk}: {peaks[0]:.0f} MiB; plain {chunk}: {peaks[1]:.0f} MiB (ratio "
        f"{peaks[0] / peaks[1]:.3f}); plain {size}: {peaks[2]:.0f} MiB (ratio {peaks[0] / peaks[2]:.3f})"
    )
    compare(f"step of {size} in chunks of {chunk} against plain", stepper(chunked, batch), stepper(whole, batch), 3)


def main() -> None:
    """Run the three comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=512 if CUDA else 128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size, repeats = arguments.batch, arguments.repeats
    # As many classes for each image as ImageNet has at 512.
    classes = [f"thing {number}" for number in range(size * 1000 // 512)]
    with tempfile.TemporaryDirectory() as folder:
        encoder = settings(Path(folder) / "clip")
        module = build(encoder, classes)
        batch = noise(size, len(classes), module)
        by_hand = loop_by_hand(build(encoder, classes), batch, classes)
        step = stepper(module, batch)
        print(f"{DEVICE}, batch {size}, {len(classes)} classes, {len(batch['label'].unique())} of them in the batch")
        compare("step against a loop by hand", step, by_hand, repeats)
        compare(
            "step with distinct texts against pairs", stepper(build(encoder, classes, "distinct"), batch), step, repeats
        )
        caching(encoder, classes, size, size // 8)


if __name__ == "__main__":
    main()
