"""A step of CoOp against a loop by hand, and class chunks against all classes at once: time, memory, gradients.

Everything is a ratio of two measurements in one run, alternating. Images are stored views, so a step is its texts. On a CPU
the text tower has CLIP's shape with a fraction of its width; with a GPU it is that of ViT-B/16 in bf16. Weights are random:
they change no time. Limits: 1.1 for the loop, 1.4 and a quarter for the chunks.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from bench_alignment import CUDA, DEVICE, SMALL, compare, rise, seconds, settings
from torch.nn.functional import cross_entropy, normalize

from mmood.encoders import EncoderSettings
from mmood.modules.prompt_learning import CoOp, PromptLearning
from mmood.modules.prompt_learning.method import Views
from mmood.scores.logits import MCM

BATCH, TOKENS = 32, 16
WIDER = {**SMALL, "text_cfg": {**SMALL["text_cfg"], "width": 256, "heads": 4}}
"""Wide enough that a step is arithmetic and not calls."""


def build(encoder: EncoderSettings, names: list[str], chunk: int | None = None) -> PromptLearning:
    """Return a module that is ready to train, without a trainer."""
    return PromptLearning(encoder, names, {"mcm": MCM()}, CoOp(), chunk=chunk).to(DEVICE)


def images(module: PromptLearning) -> Views:
    """Return random images."""
    generator = torch.Generator().manual_seed(0)
    rows = normalize(torch.randn(BATCH, 1, module.encoder.embedding_dim, generator=generator), dim=-1)
    return Views(rows.to(DEVICE), None, (torch.arange(BATCH) % len(module.class_names)).to(DEVICE))


def forward_backward(module: PromptLearning, views: Views, bf16: bool = CUDA) -> Callable[[], torch.Tensor]:
    """Return the function that computes loss and gradient as `training_step` does."""

    def run() -> torch.Tensor:
        side = module.side()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=bf16):
            texts = module.method.texts(side, views, torch.Generator())
        loss = module.method.loss(views, texts, side.scale, 0)
        module.zero_grad()
        loss.backward()
        return loss.detach()

    return run


def stepper(module: PromptLearning, views: Views) -> Callable[[], torch.Tensor]:
    """Return the function that takes one step of mmood."""
    run, optimizer = forward_backward(module, views), module.optimizer(module.method.parameters())

    def step() -> torch.Tensor:
        loss = run()
        optimizer.step()
        return loss

    return step


def loop_by_hand(module: PromptLearning, views: Views) -> Callable[[], torch.Tensor]:
    """Return the function that takes the same step in plain PyTorch on open_clip's CLIP, as CoOp's code is written."""
    model = module.encoder.model
    prompts = [" ".join(["X"] * TOKENS + [name]) + "." for name in module.class_names]
    tokens = module.encoder.tokenizer(prompts).to(DEVICE)
    # As short as mmood cuts them: CoOp's code passes all 77 tokens.
    tokens = tokens[:, : int(tokens.argmax(-1).max()) + 1]
    with torch.no_grad():
        fixed = model.token_embedding(tokens)
    length = tokens.shape[1]
    mask = model.attn_mask[:length, :length]
    start = 0.02 * torch.randn(TOKENS, fixed.shape[-1], generator=torch.Generator().manual_seed(0))
    context = torch.nn.Parameter(start.to(DEVICE))
    optimizer = torch.optim.SGD([context], lr=2e-3, momentum=0.9, weight_decay=5e-4)

    def step() -> torch.Tensor:
        rows = context.expand(len(fixed), -1, -1)
        x = torch.cat([fixed[:, :1], rows, fixed[:, 1 + TOKENS :]], dim=1)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=CUDA):
            x = model.transformer(x + model.positional_embedding[:length], attn_mask=mask)
            x = model.ln_final(x)[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection
        texts = normalize(x.float(), dim=-1)
        loss = cross_entropy(model.logit_scale.exp().detach() * views.embedding[:, 0] @ texts.T, views.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def chunks(encoder: EncoderSettings, names: list[str], repeats: int, bf16: bool = CUDA) -> None:
    """Print time, memory and gradients of four chunks against all classes at once."""
    whole, chunked = build(encoder, names), build(encoder, names, chunk=len(names) // 4)
    views = images(whole)
    one, other = forward_backward(whole, views, bf16), forward_backward(chunked, views, bf16)
    seconds(one), seconds(other)
    plain, cut = (module.method.positive.vectors.grad.clone() for module in (whole, chunked))
    print(
        f"{len(names)} classes: gradients in chunks against whole: relative error {(cut - plain).norm() / plain.norm():.1e}"
    )
    title = f"{len(names)} classes in chunks of {len(names) // 4} against whole, {'bf16' if bf16 else 'float32'}"
    compare(title, other, one, repeats)
    peaks = [statistics.median(rise(run) for _ in range(3)) for run in (other, one)]
    print(f"peak memory in chunks {peaks[0]:.0f} MiB, whole {peaks[1]:.0f} MiB, ratio {peaks[0] / peaks[1]:.3f}")
    if bf16 == CUDA:
        compare(
            f"a step in chunks with {len(names)} classes against a loop by hand without",
            stepper(chunked, views),
            loop_by_hand(build(encoder, names), views),
            repeats,
        )


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    names = [f"thing {number}" for number in range(1000)]
    with tempfile.TemporaryDirectory() as folder:
        encoder = settings(Path(folder) / "clip", WIDER)
        module = build(encoder, names[:100])
        views = images(module)
        by_hand = loop_by_hand(build(encoder, names[:100]), views)
        print(f"{DEVICE}, batch {BATCH}, 100 classes, {TOKENS} tokens")
        compare("step against a loop by hand", stepper(module, views), by_hand, arguments.repeats)
        chunks(encoder, names, arguments.repeats)
        if CUDA:  # where a step is arithmetic, not the launching of small kernels
            chunks(encoder, names, arguments.repeats, bf16=False)


if __name__ == "__main__":
    main()
