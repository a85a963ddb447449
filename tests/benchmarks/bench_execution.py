"""What each setting of `model.execution` costs and saves in a step of alignment fine-tuning, and what fused AdamW saves.

Ratios of time are medians of steps in turn, ratios of memory those of the peaks of forward and backward pass. On a CPU
the towers are small ones of ViT-B/16's and ResNet-50's shape; with a GPU, these themselves in bf16 at a batch of 512.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from bench_alignment import CUDA, DEVICE, SMALL, compare, noise, peak_memory, settings, stepper

from mmood.encoders import EncoderSettings
from mmood.modules.fine_tuning.alignment import AlignmentFineTune, LossSettings
from mmood.modules.fine_tuning.captions import Captions
from mmood.modules.fine_tuning.execution import Execution, prepare
from mmood.modules.fine_tuning.trained import training_mode
from mmood.modules.optimisation import fused
from mmood.scores.logits import MCM

RESNET = {**SMALL, "vision_cfg": {"image_size": 96, "layers": [2, 2, 3, 2], "width": 32, "head_width": 64}}


def build(encoder: EncoderSettings, classes: list[str], execution: Execution) -> AlignmentFineTune:
    """Return a module that is ready to train, without a trainer."""
    loss = LossSettings(texts="distinct")
    module = AlignmentFineTune(encoder, classes, {"mcm": MCM()}, 1e-3, loss=loss, execution=execution).to(DEVICE)
    prepare(module.encoder, execution)
    training_mode(module.encoder, module.trained)
    module._captions = Captions(module.encoder, classes, module.templates)
    return module


def settings_against_plain(
    encoder: EncoderSettings, classes: list[str], size: int, repeats: int, settings: dict[str, Execution]
) -> None:
    """Print time and memory of a step with each setting against a plain one."""
    plain = build(encoder, classes, Execution())
    batch = noise(size, len(classes), plain)
    step, peak = stepper(plain, batch), peak_memory(plain, batch)
    for name, execution in settings.items():
        module = build(encoder, classes, execution)
        saved = "" if execution.compile else f"; peak memory {peak_memory(module, batch) / peak:.3f} of plain"
        compare(f"{name} against plain", stepper(module, batch), step, repeats)
        if saved:
            print(f"{name}{saved}")


def optimizer_step(module: AlignmentFineTune, own: Callable[[torch.optim.Optimizer], torch.optim.Optimizer]):
    """Return the function that takes one step of AdamW alone."""
    optimizer = own(module.optimizer(module.encoder.parameters()))
    for parameter in module.encoder.parameters():
        parameter.grad = torch.randn_like(parameter)

    def step() -> torch.Tensor:
        optimizer.step()
        return module.encoder.logit_scale.detach()

    return step


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=512 if CUDA else 64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-compile", action="store_true", help="leave out what takes a minute to compile")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size, repeats = arguments.batch, arguments.repeats
    classes = [f"thing {number}" for number in range(size * 1000 // 512)]
    chunk = size // 4
    of_vit = {
        "checkpointing": Execution(checkpointing=True),
        f"chunk {chunk} of {size}": Execution(chunk=chunk),
        "both": Execution(checkpointing=True, chunk=chunk),
        **({} if arguments.no_compile else {"compile": Execution(compile=True)}),
    }
    print(f"{DEVICE}, batch {size}, {len(classes)} classes, {arguments.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        vit = settings(Path(folder) / "vit")
        resnet = EncoderSettings("RN50", "random") if CUDA else settings(Path(folder) / "resnet", RESNET)
        settings_against_plain(vit, classes, size, repeats, of_vit)
        settings_against_plain(
            resnet, classes, size, repeats, {"channels_last (ResNet)": Execution(channels_last=True)}
        )
        steps = [optimizer_step(build(vit, classes, Execution()), own) for own in (fused, lambda plain: plain)]
        compare("step of AdamW alone, fused against plain", *steps, repeats)


if __name__ == "__main__":
    main()
