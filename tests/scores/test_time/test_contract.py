"""What every stream score must fulfil, published or of one's own: a step is pure, a torn state is refused."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from fake_model import FakeModel
from jaxtyping import Float32, Int64
from torch import Tensor
from toy_texts import WORDS, stream

from mmood.errors import MmoodError
from mmood.scores import ANTS, TANL, TINS, AdaNeg, CoEvo, InterNeg
from mmood.scores.portable import PortableScore, packed, unpacked
from mmood.scores.test_time.adaneg import Gates
from mmood.scores.test_time.ants_settings import Descriptions, LookAlikes, SeeingModel
from mmood.scores.test_time.coevo import LeastVarianceGates
from mmood.scores.test_time.image_proxies import Proxies
from mmood.scores.test_time.inversion import Inversion
from mmood.scores.test_time.memory import Derived, device_of, moved, schema
from mmood.scores.test_time.tanl import Activation, OtsuGate
from mmood.scores.test_time.word_inversion import WordInversion
from mmood.words import CorpusSettings
from mmood.words.miner import NegativeMiner

METHODS = ("AdaNeg", "AdaNeg, task", "TANL", "CoEvo", "InterNeg", "TINS", "ANTS")


@pytest.fixture(autouse=True)
def model(monkeypatch):
    monkeypatch.setattr(SeeingModel, "model", lambda self: FakeModel())


@pytest.fixture
def fitted(reference, tmp_path):
    """Return what builds a fitted score and a stream of whose images some pass its gates."""

    def build(method):
        (tmp_path / "words.txt").write_text("\n".join(WORDS))
        mining = NegativeMiner(corpus=CorpusSettings(nouns=(str(tmp_path / "words.txt"),)), count=8)
        listed = {"temperature": 0.05, "negatives": str(tmp_path / "words.txt")}
        scores = {
            "AdaNeg": lambda: AdaNeg(2, gates=Gates(gap=0.0, start=2), proxies=Proxies(length=3), **listed),
            "AdaNeg, task": lambda: AdaNeg(2, gates=Gates(gap=0.0), proxies=Proxies("task", length=2), **listed),
            "TANL": lambda: TANL(activation=Activation(words=6, length=9, noise=0), gate=OtsuGate(gap=0.0), **listed),
            "CoEvo": lambda: CoEvo(2, 0.05, mining=mining, gates=LeastVarianceGates(gap=0.0)),
            "InterNeg": lambda: InterNeg(
                3, negatives=listed["negatives"], beta=0.9, inversion=Inversion(("a {}", "the {}."), steps=6, learning_rate=0.2)
            ),
            "TINS": lambda: TINS(
                3, beta=0.9, bank_size=3, buffer_size=4, inversion=WordInversion(steps=5, learning_rate=0.1), negatives=listed["negatives"]
            ),
            "ANTS": lambda: ANTS(
                3, descriptions=Descriptions(start=0.6, waiting=4, bins=2, quantile=1.0, side=8), look_alikes=LookAlikes(2, 2, 3), **listed
            ),
        }  # fmt: skip
        return scores[method]().fit(reference), stream(reference, (9, 12, 1, 0, 14, 8))

    return build


def states(score, memory):
    score.memory_ = memory
    return score.state()


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_pure(method, fitted):
    """From one memory the same scores and memory as often as one likes, in any order; no memory changes."""
    score, stream = fitted(method)
    memories, found = [score.memory_], []
    for batch in stream:
        scores, memory = score.advance(score.fitted_, memories[-1], batch)
        memories.append(memory)
        found.append(scores)
    kept = [states(score, memory) for memory in memories]
    for at in (2, 0, 5, 1, 4, 3, 0):
        scores, memory = score.advance(score.fitted_, memories[at], stream[at])
        assert torch.equal(scores, found[at])
        again = states(score, memory)
        assert all(torch.equal(again[name], tensor) for name, tensor in kept[at + 1].items())
        score.advance(score.fitted_, memory, stream[0])
    for memory, before in zip(memories, kept, strict=True):
        assert all(torch.equal(tensor, before[name]) for name, tensor in states(score, memory).items())
    assert any(not torch.equal(kept[-1][name], tensor) for name, tensor in kept[0].items()), (
        "the stream taught something"
    )


@pytest.mark.parametrize("method", METHODS)
def test_what_was_learned_is_plain_data_and_tensors(method, fitted, reference):
    """Shipped and taken back with the encoder alone, a score gives the same numbers to the bit."""
    score, batches = fitted(method)
    portable = packed(score)
    settings, values = (json.loads(json.dumps(dict(part))) for part in (portable.settings, portable.values))
    again = unpacked(
        PortableScore(portable.kind, settings, values, portable.tensors), reference.encoder, "The folder x"
    )
    for batch in batches:
        assert torch.equal(again.step(batch), score.step(batch))
    assert again.counts() == score.counts()
    torn = dict(list(portable.tensors.items())[1:])
    with pytest.raises(MmoodError, match=f"does not fit the score {portable.kind}"):
        unpacked(PortableScore(portable.kind, settings, values, torn), reference.encoder, "The folder x")


@pytest.mark.parametrize("method", METHODS)
def test_torn_states_are_refused_and_change_nothing(method, fitted):
    """Every tensor emptied, cut, made longer, of another type, with one more dimension, or not a number."""
    score, stream = fitted(method)
    for batch in stream:
        score.step(batch)
    state = score.state()
    assert all(len(tensor) for name, tensor in state.items()), "each tensor has something to lose"
    torn = {
        "emptied": lambda t: t[:0],
        "cut": lambda t: t[:-1],
        "longer": lambda t: torch.cat([t, t[-1:]]),
        "of another type": lambda t: t.double(),
        "deeper": lambda t: t[None],
        "a scalar": lambda t: t.flatten()[0],
    }
    for name, tensor in state.items():
        for how, tear in torn.items():
            with pytest.raises(MmoodError, match="state") as caught:
                score.load_state({**state, name: tear(tensor)})
            assert name in str(caught.value) or "inconsistent" in str(caught.value), how
        if tensor.is_floating_point():
            with pytest.raises(MmoodError, match=f"'{name}' holds a NaN"):
                score.load_state({**state, name: tensor.index_fill(0, torch.tensor([0]), torch.nan)})
        with pytest.raises(MmoodError, match="A state of"):
            score.load_state({other: kept for other, kept in state.items() if other != name})
    after = score.state()
    assert all(torch.equal(after[name], tensor) for name, tensor in state.items())
    score.load_state(state)


@pytest.mark.parametrize(
    ("method", "name", "value", "said"),
    [
        ("AdaNeg", "place", 1000, "image 1000 of a stream of 44"),
        ("AdaNeg", "place", -1, "image -1 of a stream"),
        ("AdaNeg", "text", -1, "text -1, but there are"),
        ("AdaNeg", "counts", -1, "its counts are"),
        ("AdaNeg", "history", 7, r"outside of \[0, 1\]"),
        ("TANL", "id_place", -2, "image -2 of a stream"),
        ("TANL", "counts", 3, "its counts are"),
        ("AdaNeg", "image", 2.0, "without unit norm"),
        ("AdaNeg", "entropy", -1.0, "outside of"),
        ("TANL", "ood_activation", 2.0, "outside of"),
        ("TANL", "past", 2.0, "outside of"),
        ("InterNeg", "bank", 2.0, "without unit norm"),
        ("CoEvo", "words", 0, "not in this CoEvo's corpus"),
        ("CoEvo", "place", 44, "image 44 of a stream of 44"),
        ("InterNeg", "deviation", -9, "not in descending order"),
        ("InterNeg", "place", 44, "image 44 of a stream of 44"),
        ("InterNeg", "generator", 255, "'generator' is not a generator state"),
        ("TINS", "bank", 2.0, "without unit norm"),
        ("TINS", "deviation", -9, "not in descending order"),
        ("TINS", "place", 44, "image 44 of a stream of 44"),
        ("TINS", "generator", 255, "'generator' is not a generator state"),
        ("ANTS", "levels", 2.0, r"outside of \[0, 1\]"),
        ("ANTS", "past", -1.0, r"outside of \[0, 1\]"),
        ("ANTS", "predicted", 40, "predictions"),
        ("ANTS", "waiting_place", 44, "image 44 of a stream of 44"),
        ("ANTS", "waiting_class", 4, r"outside of \[0, 3\]"),
        ("ANTS", "sentences", 2.0, "without unit norm"),
        ("ANTS", "sentence_place", -1, "image -1 of a stream"),
        ("ANTS", "near", 2.0, "without unit norm"),
        ("ANTS", "near_class", 4, r"outside of \[0, 3\]"),
    ],
)
def test_values_that_no_stream_leaves_are_refused(method, name, value, said, fitted):
    score, stream = fitted(method)
    for batch in stream:
        score.step(batch)
    state = score.state()
    state[name] = torch.full_like(state[name], value) if name == "generator" else state[name].clone()
    state[name][0] = value
    with pytest.raises(MmoodError, match=said):
        score.load_state(state)


@pytest.mark.parametrize("method", METHODS)
def test_an_image_that_is_not_a_number_is_refused_and_teaches_nothing(method, fitted):
    score, stream = fitted(method)
    score.step(stream[0])
    state, expected = score.state(), score(stream[1])
    broken = stream[1].embedding.clone()
    broken[4, 2] = torch.nan
    with pytest.raises(MmoodError, match="Image 4 of the batch"):
        score.step(replace(stream[1], embedding=broken))
    assert all(torch.equal(score.state()[name], tensor) for name, tensor in state.items())
    assert torch.equal(score(stream[1]), expected)


def test_what_was_learned_moves_and_the_text_tower_stays(fitted):
    """Tensors on "meta" hold nothing, but lie somewhere else."""
    learned = fitted("InterNeg")[0].fitted_
    there = moved(learned, torch.device("meta"))
    assert device_of(learned).type == "cpu"
    assert {rows.device.type for rows in (there.positive, there.proxies, there.negative)} == {"meta"}
    assert there.prompts is learned.prompts
    with torch.inference_mode():
        prompts = learned.prompts.on(torch.device("meta"))
    begun = prompts.begun
    tensors = (prompts.tokens.ids, prompts.tokens.embeddings, begun.keys, begun.values, begun.lengths)
    assert {rows.device.type for rows in tensors} == {"meta"}
    assert not any(rows.is_inference() for rows in tensors)
    assert {prompts.place.device.type, prompts.lengths.device.type} == {"cpu"}


def test_a_field_without_a_shape_is_refused_when_the_score_is_written():
    @dataclass(frozen=True)
    class Loose:
        bank: Tensor

    @dataclass(frozen=True)
    class Wide:
        bank: Float32[Tensor, "kept dim"]
        counts: Int64[Tensor, " 2"]
        sums: Derived[Tensor]

    Loose.__annotations__["bank"] = Tensor
    with pytest.raises(TypeError, match=r"Loose\.bank needs a type like"):
        schema(Loose)
    assert list(schema(Wide)) == ["bank", "counts"]
