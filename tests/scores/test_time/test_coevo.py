"""CoEvo against a slow, literal form: one image and one word at a time, in float64."""

import doctest
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from toy_texts import NAMES, WORDS, ToyReference, near, run, stream

from mmood.errors import MmoodError
from mmood.scores import CoEvo
from mmood.scores.base import Embedded
from mmood.scores.test_time import functional_coevo as functional
from mmood.scores.test_time.coevo import Evolution, LeastVarianceGates
from mmood.scores.test_time.thresholds import least_variance_threshold
from mmood.words import CorpusSettings, NegativeMiner
from mmood.words.templates import Templates

PROMPTS = Templates(id=("The nice {}.",), noun=("The nice {}.",), adjective=("This is a {} photo.",))
INITIAL = 6


@pytest.fixture
def files(tmp_path):
    (tmp_path / "initial.txt").write_text("\n".join(WORDS[:INITIAL]))
    (tmp_path / "nouns.txt").write_text("\n".join((*WORDS, *NAMES)))
    return tmp_path


def make(files, near=2, far=1, length=3, gap=0.5, history=20_000, **settings):
    mining = NegativeMiner(corpus=CorpusSettings(nouns=(str(files / "nouns.txt"),)), templates=PROMPTS)
    evolution, gates = Evolution(near, far, length), LeastVarianceGates(gap, history)
    given = {"negatives": str(files / "initial.txt"), "mining": mining, "groups": 2, "temperature": 0.05}
    return CoEvo(**{**given, "evolution": evolution, "gates": gates, **settings})


def share(image, names, words, groups, temperature):
    """Return NegLabel's S of one image."""
    order = torch.randperm(len(words) - len(words) % groups, generator=torch.Generator().manual_seed(0)).tolist()
    size, parts = len(order) // groups, []
    a = sum(math.exp(float(image @ name) / temperature) for name in names)
    for g in range(groups):
        b = sum(math.exp(float(image @ words[i]) / temperature) for i in order[g * size : (g + 1) * size])
        parts.append(a / (a + b))
    return sum(parts) / groups


def entropy(image, texts, temperature):
    p = torch.stack([image @ text for text in texts]).div(temperature).softmax(0)
    return float(-(p * p.clamp_min(1e-300).log()).sum())


def threshold(scores):
    """Return the middle of the thresholds with the least weighted variance within the groups."""
    values = []
    for t in np.arange(101) / 100:
        low, high = [s for s in scores if s < t], [s for s in scores if s >= t]
        values.append(sum(len(part) / len(scores) * np.var(part) for part in (low, high) if part))
    best = [i / 100 for i, value in enumerate(values) if value <= min(values) + 1e-12]
    return (best[0] + best[-1]) / 2


class Literal:
    """The steps of the specification with our anchors, on lists."""

    def __init__(
        self,
        reference,
        near=2,
        far=1,
        length=3,
        gap=0.5,
        history=20_000,
        groups=2,
        temperature=0.05,
        weight=0.8,
        update="before",
    ):
        with torch.no_grad():
            self.names = list(reference.encode_text([f"The nice {n}." for n in reference.class_names]).double())
            self.pool = list(reference.encode_text([f"The nice {word}." for word in WORDS]).double())
        self.near, self.far, self.length, self.gap, self.history = near, far, length, gap, history
        self.groups, self.temperature, self.weight, self.update = groups, temperature, weight, update
        self.negatives, self.past, self.seen = list(range(INITIAL)), [], 0
        self.images = {}  # ("id", class) or ("ood", word) -> [entropy, place, image]

    def moved(self, key, text):
        return normalize(text + sum((image for _, _, image in self.images.get(key, [])), torch.zeros_like(text)), dim=0)

    def mixed(self, image, weight):
        words = [self.pool[w] for w in self.negatives]
        s_t = share(image, self.names, words, self.groups, self.temperature)
        names = [self.moved(("id", c), text) for c, text in enumerate(self.names)]
        words = [self.moved(("ood", w), self.pool[w]) for w in self.negatives]
        return weight * s_t + (1 - weight) * share(image, names, words, self.groups, self.temperature)

    def put(self, key, h, place, image):
        kept = self.images.setdefault(key, [])
        if len(kept) < self.length:
            kept.append([h, place, image])
        else:
            worst = max(range(len(kept)), key=lambda i: kept[i][0])
            if h < kept[worst][0]:
                kept[worst] = [h, place, image]

    def learn(self, batch, before):
        self.past = [*self.past, *before][-self.history :]
        d = threshold(self.past) if self.past else 0.5
        is_id = [i for i, s in enumerate(before) if s > d + self.gap * (1 - d)]
        is_ood = [i for i, s in enumerate(before) if s < d - self.gap * d]
        for group, count, sign in ((is_ood, self.near, -1), (is_id, self.far, 1)):
            for i in group:
                ranked = sorted(
                    range(len(self.pool)), key=lambda w, i=i, sign=sign: sign * float(batch[i] @ self.pool[w])
                )
                self.negatives += [w for w in ranked[:count] if w not in self.negatives]
        for i in is_id:
            c = max(range(len(self.names)), key=lambda c, i=i: float(batch[i] @ self.names[c]))
            self.put(("id", c), entropy(batch[i], self.names, self.temperature), self.seen + i, batch[i])
        words = [self.pool[w] for w in self.negatives]
        for i in is_ood:
            w = max(self.negatives, key=lambda w, i=i: float(batch[i] @ self.pool[w]))
            self.put(("ood", w), entropy(batch[i], words, self.temperature), self.seen + i, batch[i])
        self.seen += len(batch)

    def step(self, batch):
        batch = list(batch.double())
        before = [self.mixed(image, self.weight) for image in batch]
        after = [self.mixed(image, 1 - self.weight) for image in batch]
        self.learn(batch, before)
        if self.update == "before":
            after = [self.mixed(image, 1 - self.weight) for image in batch]
        return torch.tensor(after, dtype=torch.float64)


SIZES = (9, 1, 0, 17, 8, 12)
CASES = {
    "default": {},
    "after": {"update": "after"},
    "one group": {"groups": 1},
    "full memory": {"length": 1},
    "no new word": {"near": 0, "far": 0},
    "many words": {"near": 9, "far": 9},
    "only text after": {"weight": 0.0},
    "only images after": {"weight": 1.0},
    "all confident": {"gap": 0.0},
    "none confident": {"gap": 1.0},
    "short history": {"history": 5},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_the_literal_form(case, reference, files):
    score = make(files, **case).fit(reference)
    literal, batches = Literal(reference, **case), stream(reference, SIZES)
    for found, batch in zip(run(score, batches), batches, strict=True):
        assert found.dtype == torch.float32
        expected = literal.step(batch.embedding)
        torch.testing.assert_close(found.double(), expected.logit(), atol=2e-4, rtol=1e-4)
    places = {
        side: sorted(p for (s, _), kept in literal.images.items() if s == side for _, p, _ in kept)
        for side in ("id", "ood")
    }
    assert {side: sorted(members.tolist()) for side, members in score.members().items()} == places
    counts = score.counts()
    assert (counts["seen"], counts["words_added"]) == (sum(SIZES), len(literal.negatives) - INITIAL)
    assert [int(w) - len(NAMES) for w in score.memory_.words] == literal.negatives
    # The case is one.
    if case.get("gap") == 1.0:
        assert counts["gated_id"] == counts["gated_ood"] == counts["kept_id"] == 0
    else:
        assert min(counts["gated_id"], counts["gated_ood"], counts["kept_id"], counts["kept_ood"]) > 0
    if case.get("length") == 1:
        assert counts["kept_ood"] + counts["kept_id"] < counts["gated_ood"] + counts["gated_id"]
    assert (counts["words_added"] > 0) == (case.get("gap") != 1.0 and case.get("near") != 0)
    if case.get("gap") == 0.0:
        assert counts["gated_id"] + counts["gated_ood"] == sum(SIZES)


def test_one_class_and_batches_of_one(encoder, files):
    reference = ToyReference(NAMES[:1], encoder)
    (files / "nouns.txt").write_text("\n".join(WORDS))
    score, literal = make(files).fit(reference), Literal(reference)
    batches = stream(reference, (1,) * 12)
    for found, batch in zip(run(score, batches), batches, strict=True):
        torch.testing.assert_close(found.double(), literal.step(batch.embedding).logit(), atol=2e-4, rtol=1e-4)


def test_before_the_stream_it_is_neglabel(reference, files):
    score, batch = make(files).fit(reference), stream(reference, (20,))[0]
    literal = Literal(reference)
    words = [literal.pool[w] for w in range(INITIAL)]
    expected = [share(image, literal.names, words, 2, 0.05) for image in batch.embedding.double()]
    torch.testing.assert_close(score(batch).double(), torch.tensor(expected).double().logit(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_threshold_equals_its_definition(seed):
    generator = np.random.default_rng(seed)
    scores = np.r_[generator.beta(2, 5, 40 + seed), generator.beta(9, 2, 3 + 20 * seed)]
    if seed == 5:
        scores = np.round(scores, 1)  # scores on the grid, and equal ones
    assert least_variance_threshold(torch.tensor(scores)) == pytest.approx(threshold(scores))


def test_threshold_of_scores_that_say_nothing_is_the_middle():
    assert least_variance_threshold(torch.empty(0)) == 0.5
    assert least_variance_threshold(torch.tensor([0.3])) == 0.5
    # Float32 scores as they are in a stream: all at one end.
    assert least_variance_threshold(torch.ones(1000)) == 0.5


def test_a_state_restored_goes_on_as_if_nothing_had_happened(reference, files):
    batches = stream(reference, (8, 8, 8, 8))
    score = make(files).fit(reference)
    whole = run(score, batches)
    run(score, batches[:2])
    kept = {name: tensor.clone() for name, tensor in score.state().items()}
    run(score, batches)
    other = make(files).fit(reference)
    other.load_state(kept)
    for batch, expected in zip(batches[2:], whole[2:], strict=True):
        torch.testing.assert_close(other.step(batch), expected, atol=1e-6, rtol=1e-6)
    assert other.counts() == score.counts()
    for side in ("id", "ood"):
        assert sorted(other.members()[side].tolist()) == sorted(score.members()[side].tolist())


def test_reset_forgets_and_forward_learns_nothing(reference, files):
    score, batches = make(files).fit(reference), stream(reference, (10, 10))
    first = run(score, batches)
    assert all(torch.equal(a, b) for a, b in zip(run(score, batches), first, strict=True))
    before = score.state()
    score(batches[0])
    assert all(torch.equal(before[name], tensor) for name, tensor in score.state().items())
    assert not torch.equal(score(batches[0]), first[0]), "carried over"


def test_fitted_in_inference_mode_it_learns_outside(reference, files):
    batches = stream(reference, (10, 5))
    expected = run(make(files).fit(reference), batches)
    with torch.inference_mode():
        score = make(files).fit(reference)
        copies = [Embedded(b.features, b.logits, b.embedding * 1.0) for b in batches]
        inside = run(score, copies)
    for found in (inside, run(score, copies)):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_words_of_a_batch_serve_it_and_oo_d_images_fall(reference, files):
    """What the method is for: an image near a corpus word that is no negative yet falls once the word is one."""
    score = make(files, length=1).fit(reference)
    with torch.no_grad():
        word = reference.encode_text([f"The nice {WORDS[-1]}."])
    mixed = stream(reference, (30,))[0].embedding
    like = near(word.expand(10, -1), 0.3, seed=5)
    score.reset(0)
    static = score(Embedded(torch.empty(10, 0), torch.empty(10, 4), like))
    score.step(Embedded(torch.empty(40, 0), torch.empty(40, 4), torch.cat([mixed, like])))
    assert len(NAMES) + len(WORDS) - 1 in score.memory_.words.tolist()
    assert float((score(Embedded(torch.empty(10, 0), torch.empty(10, 4), like)) - static).mean()) < -0.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight": 1.5}, "CoEvo.weight is 1.5"),
        ({"temperature": 0.0}, "CoEvo.temperature is 0.0"),
        ({"groups": 0}, "groups is 0"),
        ({"near": -1}, "evolution.near is -1"),
        ({"length": 0}, "evolution.length is 0"),
        ({"gap": 2.0}, "gates.gap is 2.0"),
        ({"history": 0}, "gates.history is 0"),
    ],
)
def test_impossible_settings_are_named(wrong, message, files):
    with pytest.raises(MmoodError, match=message):
        make(files, **wrong)


def test_wrong_calls_are_named(reference, files):
    with pytest.raises(MmoodError, match="is not fitted yet"):
        make(files).reset()
    score = make(files).fit(reference)
    with pytest.raises(MmoodError, match="vision-language model"):
        score.step(Embedded(torch.empty(2, 3), torch.empty(2, 3)))
    with pytest.raises(MmoodError, match="A state of CoEvo holds"):
        score.load_state({})
    with pytest.raises(MmoodError, match=f"holds 1 words, but by its counts there should be {INITIAL}"):
        score.load_state({**score.state(), "words": torch.tensor([1])})
    with pytest.raises(MmoodError, match="image 1, text 0, entropy 0, place 0"):
        score.load_state({**score.state(), "image": torch.zeros(1, 16)})
    assert score.details()["corpus_words"] == len(WORDS)


def test_examples():
    found = doctest.testmod(functional)
    assert found.attempted
    assert not found.failed
