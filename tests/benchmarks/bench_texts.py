"""Texts without the padding behind them, against whole texts: `python tests/benchmarks/bench_texts.py [--cuda]`.

The text tower of ViT-B/16 (12 layers, 512 wide, 77 tokens) with random weights. The whole form is open_clip's own
`encode_text` on what its tokenizer returns. Names of ImageNet's classes in one prompt, and in the eight prompts of CSP;
then a step of training: forward, backward to the weights. Both forms take turns in one run, and the best times count.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from open_clip import CLIP
from torch import Tensor

from mmood.classes.names import load_class_names
from mmood.encoders import EncoderSettings
from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.words.miner import CSP


def best(calls: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, float]:
    times = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            times[name] = min(times[name], time.perf_counter() - start)
    return times


def whole(encoder: VisionLanguageEncoder, texts: list[str], batch: int = 256) -> Tensor:
    parts = [encoder.tokenizer(texts[start : start + batch]) for start in range(0, len(texts), batch)]
    return torch.cat([encoder.model.encode_text(part.to(encoder.device), normalize=True) for part in parts])


def say(what: str, times: dict[str, float]) -> None:
    print(f"{what}: {times['whole'] / times['ours']:.1f} times as fast ({times['ours']:.2f} s, {times['whole']:.2f} s)")


def main() -> None:
    device = "cuda" if "--cuda" in sys.argv else "cpu"
    encoder = VisionLanguageEncoder(EncoderSettings("ViT-B-16", "random")).to(device)
    assert isinstance(encoder.model, CLIP)
    names = list(load_class_names("imagenet-openai"))
    for title, templates in (("one prompt", ["The nice {}."]), ("CSP's prompts", list(CSP.templates.noun))):
        texts = [template.format(name) for name in names[: 256 // len(templates)] for template in templates]
        with torch.no_grad():
            calls = {"whole": lambda t=texts: whole(encoder, t), "ours": lambda t=texts: encoder.encode_text(t)}
            say(f"{len(texts)} texts, {title}", best(calls, 3, device))
            print(f"  largest difference: {float((calls['whole']() - calls['ours']()).abs().max()):.1e}")
    captions = encoder.tokenize([f"The nice {name}." for name in names])[:64]
    long = encoder.tokenizer([f"The nice {name}." for name in names[:64]]).to(device)
    steps = {
        "whole": lambda: encoder.model.encode_text(long).sum().backward(),
        "ours": lambda: encoder.encode_token_ids(captions).sum().backward(),
    }
    say(f"a step of training on {len(long)} texts", best(steps, 3, device))


if __name__ == "__main__":
    main()
