"""What the tests of stream scores share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy_texts import NAMES, WORDS, ToyReference
from toy_words import WordReference

from mmood.encoders import EncoderSettings, build_encoder
from mmood.encoders.vision_language import VisionLanguageEncoder


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def setup(tmp_path: Path) -> Callable[..., tuple[WordReference, str, Tensor, Tensor]]:
    """Return what builds a reference, a file with a list of words, and the embeddings of names and words."""

    def build(classes: int = 4, words: int = 13) -> tuple[WordReference, str, Tensor, Tensor]:
        names = tuple(f"class {i}" for i in range(classes))
        listed = [f"word {i}" for i in range(words)]
        (tmp_path / "words.txt").write_text("\n".join(listed))
        reference = WordReference(names)
        texts = reference.encode_text([f"The nice {text}." for text in (*names, *listed)])
        return reference, str(tmp_path / "words.txt"), texts[:classes], texts[classes:]

    return build


@pytest.fixture(scope="module")
def encoder(toy_model: str) -> VisionLanguageEncoder:
    """Return a tiny CLIP as after fine-tuning: weights that require gradients, and texts that lie apart."""
    encoder = build_encoder(EncoderSettings(toy_model)).eval()
    assert isinstance(encoder, VisionLanguageEncoder)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        encoder.model.token_embedding.weight.normal_(std=0.3)
    return encoder


@pytest.fixture
def reference(encoder: VisionLanguageEncoder) -> ToyReference:
    return ToyReference(NAMES, encoder)


@pytest.fixture
def words_file(tmp_path: Path) -> str:
    """Return the path of a list of the toy words."""
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS))
    return str(path)
