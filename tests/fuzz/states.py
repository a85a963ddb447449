"""Saved states of the published stream scores: valid ones, damaged ones, and what must hold of one that is taken."""

import io
import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from mutation import damaged_bytes, damaged_json
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import normalize

from mmood.detector.state_file import read_state, write_state
from mmood.scores import ANTS, TANL, TINS, AdaNeg, CoEvo, InterNeg
from mmood.scores.base import Embedded
from mmood.scores.test_time import adaneg, ants, coevo, interneg, tanl, tins
from mmood.scores.test_time.ants_settings import Descriptions, LookAlikes
from mmood.scores.test_time.base import AnyStreamScore
from mmood.scores.test_time.inversion import Prompts
from mmood.scores.test_time.word_inversion import Starts
from mmood.scores.text_tower import Tokens

METHODS = ("AdaNeg", "TANL", "CoEvo", "InterNeg", "TINS", "ANTS")
INVERTING = ("InterNeg", "TINS")
OWNER = {"score": "toy", "settings": {"groups": 2}, "class names (sha256)": "0" * 64}
CLASSES, WORDS, DIM = 3, 9, 4
TOWER: Any = None
"""No image is inverted, so nothing is asked of a text tower."""


def unit(rows: int, seed: int) -> Tensor:
    """Return random unit vectors."""
    return normalize(torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed)), dim=-1)


@cache
def score_of(method: str) -> AnyStreamScore:
    """Return a score that knows random texts."""
    texts, warm = unit(CLASSES + WORDS, 0), {"temperature": 0.3}
    score: AnyStreamScore
    if method == "AdaNeg":
        score = AdaNeg(2, gates=adaneg.Gates(gap=0.0, start=2), **warm)
        score.fitted_ = adaneg.Fitted(texts[:-1], CLASSES)
    elif method == "TANL":
        score = TANL(activation=tanl.Activation(words=5, length=6), gate=tanl.OtsuGate(gap=0.0), **warm)
        score.fitted_ = tanl.Fitted(texts, CLASSES, WORDS, torch.rand(2, WORDS), torch.rand(2))
    elif method == "CoEvo":
        score = CoEvo(2, gates=coevo.LeastVarianceGates(gap=0.0), **warm)
        score.fitted_ = coevo.Fitted(texts, CLASSES, 4)
    elif method == "InterNeg":
        score = InterNeg(2, beta=0.0, **warm)
        tokens = Tokens(torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, DIM))
        prompts = Prompts(tokens, torch.tensor([1]), torch.tensor([2]))
        score.fitted_ = interneg.Fitted(*_sides(texts), prompts, TOWER)
    elif method == "ANTS":
        # No image passes this gate, and no batch is the millionth, so nobody is asked.
        score = ANTS(2, descriptions=Descriptions(start=0.0, side=4), look_alikes=LookAlikes(first=10**6), **warm)
        names, negatives = ("a", "b", "c"), texts[CLASSES:]
        score.fitted_ = ants.Fitted(
            names, texts[:CLASSES], negatives, negatives[:8], torch.zeros(3), torch.ones(3), TOWER
        )
    else:
        score = TINS(2, beta=0.0, bank_size=2, buffer_size=3, **warm)
        starts = Starts(("a",), torch.tensor([1]), unit(1, 2))
        score.fitted_ = tins.Fitted(*_sides(texts), starts, TOWER)
    score.reset()
    return score


def _sides(texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ID names, image proxies and negatives."""
    return texts[:CLASSES], unit(CLASSES, 1), texts[CLASSES:]


def write_valid(folder: Path) -> None:
    """Write the state of every score after some batches."""
    folder.mkdir()
    for method in METHODS:
        score = score_of(method)
        for seed in range(3):
            score.step(_batch(seed))
        state = score.state()
        if method in INVERTING:
            counts = [30, 5, 3] if method == "InterNeg" else [30, 5, 4, 1]
            rows = {"bank": unit(3, 5), "deviation": torch.tensor([0.3, 0.2, 0.1]), "place": torch.tensor([4, 0, 9])}
            state |= {**rows, "counts": torch.tensor(counts)}
            score.load_state(state)
        if method == "ANTS":
            state |= _of_ants()
            score.load_state(state)
        write_state(folder / f"{method}.safetensors", state, OWNER)


def _of_ants() -> dict[str, Tensor]:
    """Return two images that wait, three descriptions and two look-alikes."""
    place = torch.tensor
    return {
        "waiting": torch.zeros(2, 4, 4, 3, dtype=torch.uint8),
        "waiting_class": place([0, 2]),
        "waiting_place": place([4, 17]),
        "levels": torch.tensor([0.0, 0.4, 0.6]),
        "sentences": unit(3, 5),
        "sentence_hash": place([7, 9, 11]),
        "sentence_place": place([3, 1, 2]),
        "near": unit(2, 6),
        "near_class": place([0, 1]),
        "counts": place([30, 8, 6, 3, 1]),
    }


def reader(method: str) -> Any:
    """Return what reads a state and goes on from it."""

    def read(folder: Path) -> None:
        score = score_of(method)
        state = read_state(folder / "states" / f"{method}.safetensors", OWNER)
        score.load_state(state)
        assert all(torch.equal(score.state()[name], tensor) for name, tensor in state.items())
        assert score(_batch(7)).isfinite().all()
        assert score.step(_batch(8)).isfinite().all()
        assert all(count >= 0 for count in score.counts().values())
        assert all((places >= 0).all() for places in score.members().values())

    return read


def damaged_state(content: bytes, rng: Random) -> bytes:
    """Return a state file with damaged bytes, or a whole one with a damaged tensor or a damaged owner."""
    kind = rng.randrange(6)
    if kind == 0:
        return damaged_bytes(content, rng)
    tensors, owner = load(content), _owner(content)
    if kind == 1:
        owner = "[" * 10**5 if rng.randrange(2) else damaged_json(owner.encode(), rng).decode(errors="replace")
    else:
        name = rng.choice(sorted(tensors))
        tensors[name] = _damaged_tensor(tensors[name], rng)
    buffer = io.BytesIO()
    try:
        buffer.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"mmood_stream": owner}))
    except (UnicodeEncodeError, ValueError):
        return damaged_bytes(content, rng)
    return buffer.getvalue()


def _damaged_tensor(tensor: Tensor, rng: Random) -> Tensor:
    kind = rng.randrange(7)
    if kind == 0 and tensor.dim():
        return tensor[: rng.randrange(len(tensor) + 1)].clone()
    if kind == 1 and tensor.dim():
        return torch.cat([tensor, tensor[rng.randrange(max(1, len(tensor))) :]])
    if kind == 2:
        return tensor.to(rng.choice((torch.float64, torch.float16, torch.int32, torch.bool)))
    if kind == 3:
        return tensor.unsqueeze(rng.randrange(tensor.dim() + 1))
    if kind == 4 and tensor.dim():
        return tensor.flip(0)
    found = tensor.clone().flatten()
    odd = (-1, 0, 1, 2**31, -(2**40), 99) if not tensor.is_floating_point() else (0.0, -1.0, torch.nan, torch.inf, 1e30)
    if len(found) and tensor.dtype != torch.uint8:
        found[rng.randrange(len(found))] = rng.choice(odd)
    elif len(found):
        found[rng.randrange(len(found))] = rng.randrange(256)
    return found.view(tensor.shape)


def _batch(seed: int) -> Embedded:
    return Embedded(torch.empty(10, 0), torch.empty(10, CLASSES), unit(10, 100 + seed))


def _owner(content: bytes) -> str:
    with io.BytesIO(content) as file:
        size = int.from_bytes(file.read(8), "little")
        return str(json.loads(file.read(size))["__metadata__"]["mmood_stream"])
