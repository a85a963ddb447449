"""TANL against a slow, literal form: lists and loops, one softmax for each number of words, in float64."""

import doctest
import math
from dataclasses import replace

import numpy
import pytest
import torch
from toy_words import batches, embedded

from mmood.encoders import EncoderSettings, build_encoder
from mmood.errors import MmoodError
from mmood.modules.reference import ModelReference
from mmood.scores import TANL, NegLabel
from mmood.scores.base import Embedded
from mmood.scores.test_time import functional_tanl as functional
from mmood.scores.test_time import noise, thresholds
from mmood.scores.test_time.tanl import Activation, OtsuGate
from mmood.words import CorpusSettings
from mmood.words.miner import ADANEG


def best_split(values):
    """Otsu by its other definition: the split of the least variance within."""
    ordered = sorted(values)
    found = (math.inf, 0.5)
    for k in range(1, len(ordered)):
        if ordered[k - 1] == ordered[k]:
            continue
        low, high = ordered[:k], ordered[k:]
        within = sum(len(part) * numpy.var(part) for part in (low, high))
        if within < found[0] - 1e-12:
            found = (within, (ordered[k - 1] + ordered[k]) / 2)
    return found[1]


class Literal:
    """The specification on lists and loops."""

    def __init__(self, names, words, noise, temperature, activation, gate, step, update="before", seed=0):
        self.names, self.words, self.s = names.double(), words.double(), 1 / temperature
        self.activation, self.gate, self.every, self.update = activation, gate, step, update
        drawn = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))[: activation.length]
        self.id_queue = [(self.softmax(self.names[i]), None) for i in drawn]
        self.ood_queue = [(self.softmax(image.double()), None) for image in noise][: activation.length]
        self.past, self.seen, self.gated = [], 0, [0, 0]

    def softmax(self, image):
        logits = (self.s * torch.cat([self.names, self.words]) @ image).tolist()
        logits = logits[len(self.names) :] if self.activation.over == "words" else logits
        mass = [math.exp(z - max(logits)) for z in logits]
        return [m / sum(mass) for m in mass][-len(self.words) :]

    def mean(self, queue, batch, word):
        a, b = ([row[word] for row in rows] for rows in ([q for q, _ in queue], batch))
        if a and b:
            return self.activation.alpha * sum(a) / len(a) + (1 - self.activation.alpha) * sum(b) / len(b)
        return sum(a or b) / max(1, len(a or b))

    def rank(self, new_id, new_ood):
        differences = [
            self.mean(self.ood_queue, new_ood, w) - self.mean(self.id_queue, new_id, w) for w in range(len(self.words))
        ]
        self.leading = sorted(range(len(self.words)), key=lambda w: -differences[w])[: self.activation.words]

    def share(self, image, leading, every):
        positive = (self.s * self.names @ image).tolist()
        negative = (self.s * self.words[list(leading)] @ image).tolist()
        top = max(positive + negative)
        mass = sum(math.exp(z - top) for z in positive)
        sizes = range(every, len(leading) + 1, every) if every else [len(leading)]
        inside = outside = 0.0
        for m in sizes:
            against = sum(math.exp(z - top) for z in negative[:m])
            inside += mass / (mass + against) / len(sizes)
            outside += against / (mass + against) / len(sizes)
        return inside, outside

    def learn(self, images):
        for image in images:
            if self.gate.score == "all":
                self.past.append(self.share(image, range(len(self.words)), 0)[0])
            else:
                self.past.append(self.share(image, self.leading, self.every)[0])
        shares = self.past[len(self.past) - len(images) :]
        self.past = self.past[-self.gate.history :]
        t = best_split(self.past)
        new = [[], []]
        for i, (image, share) in enumerate(zip(images, shares, strict=True)):
            if share > t + self.gate.gap * (1 - t):
                new[0].append((self.softmax(image), self.seen + i))
            elif share < t - self.gate.gap * t:
                new[1].append((self.softmax(image), self.seen + i))
        self.gated = [self.gated[0] + len(new[0]), self.gated[1] + len(new[1])]
        pushed = [
            (queue + fresh)[-self.activation.length :]
            for queue, fresh in zip((self.id_queue, self.ood_queue), new, strict=True)
        ]
        if self.activation.with_batch:
            self.id_queue, self.ood_queue = pushed
        self.rank(*([row for row, _ in fresh] for fresh in new))
        self.id_queue, self.ood_queue = pushed

    def step(self, images):
        images = images.double()
        self.rank([], [])
        shares = [self.share(image, self.leading, self.every) for image in images]
        self.learn(images)
        if self.update == "before":
            shares = [self.share(image, self.leading, self.every) for image in images]
        self.seen += len(images)
        return torch.tensor([math.log(a) - math.log(b) for a, b in shares], dtype=torch.float64)


SMALL = {"words": 6, "length": 9, "noise_side": 3}
CASES = {
    "paper": {},
    "steps of two": {"step": 2},
    "steps that leave a rest": {"step": 4},
    "plain": {"step": 0},
    "after": {"update": "after"},
    "batch alone": {"activation": {"alpha": 0.0}},
    "queues alone": {"activation": {"alpha": 1.0}},
    "with batch": {"activation": {"with_batch": True, "alpha": 0.6}},
    "only words": {"activation": {"over": "words"}},
    "no noise": {"activation": {"noise": 0}},
    "more room than words": {"activation": {"words": 50, "length": 500}},
    "one in a queue": {"activation": {"length": 1}},
    "all words gate": {"gate": OtsuGate(score="all")},
    "short history": {"gate": OtsuGate(history=10)},
    "all confident": {"gate": OtsuGate(gap=0.0)},
    "none confident": {"gate": OtsuGate(gap=1.0)},
}
SIZES = (7, 0, 1, 12, 30, 5, 16)


def build(reference, path, temperature=0.1, reference_behaviour=False, **settings):
    activation = Activation(**{**SMALL, **settings.pop("activation", {})})
    return TANL(
        temperature=temperature, negatives=path, activation=activation, reference_behaviour=reference_behaviour,
        **settings,
    ).fit(reference)  # fmt: skip


def literal(score, reference, names, words, seed=0):
    images = noise.noise_images(score.activation.noise, score.activation.noise_side, 0)
    noise_rows = reference.encode_images(images) if images else []
    return Literal(
        names, words, noise_rows, score.temperature, score.activation, score.gate, score.words_per_step,
        score.update, seed,
    )  # fmt: skip


@pytest.mark.parametrize("temperature", [0.05, 0.3])
@pytest.mark.parametrize("ood", [0.1, 0.9])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_literal_form(case, ood, temperature, setup):
    reference, path, names, words = setup()
    score = build(reference, path, temperature, **CASES[case])
    oracle = literal(score, reference, names, words, seed=5)
    score.reset(5)
    for images in batches(names, words, SIZES, ood=ood):
        found, truth = score.step(embedded(images)), oracle.step(images)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), truth, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(found.double().sigmoid(), truth.sigmoid(), atol=1e-5, rtol=0)
        oracle.rank([], [])
        assert score.leading().tolist() == oracle.leading
    counts, members = score.counts(), score.members()
    assert (counts["seen"], counts["gated_id"], counts["gated_ood"]) == (sum(SIZES), *oracle.gated)
    for side, queue in (("id", oracle.id_queue), ("ood", oracle.ood_queue)):
        assert members[side].tolist() == [place for _, place in queue if place is not None]
        assert counts[f"queue_{side}"] == len(members[side])
    assert (case == "none confident") == (sum(oracle.gated) == 0)


class Released:
    """The released code, from its description: two queues of softmax rows over the corpus, tensors in float64.

    The mined words count in the scores that Otsu's history starts with, and nowhere else.
    """

    def __init__(self, names, mined, corpus, noise, temperature, words, length, step, seed):
        self.names, self.mined, self.corpus, self.s = names.double(), mined.double(), corpus.double(), 1 / temperature
        self.words, self.length, self.every, self.classes = words, length, step, len(names)
        drawn = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))[:length]
        starts = self.names[drawn], noise.double()[:length]
        self.queues = [[self.softmax(row) for row in rows] for rows in starts]
        self.scores = [self.plain(row) for rows in starts for row in rows]

    def softmax(self, image):
        return (self.s * torch.cat([self.names, self.corpus]) @ image).softmax(-1)[self.classes :]

    def plain(self, image):
        texts = torch.cat([self.names, self.mined])
        return float((self.s * texts @ image).softmax(-1)[: self.classes].sum())

    def s_of(self, image, act_id, act_ood):
        order = (act_ood - act_id).sort(descending=True, stable=True).indices[: self.words]
        mass = (self.s * self.names @ image).exp().sum()
        against = (self.s * self.corpus[order] @ image).exp().cumsum(0)[self.every - 1 :: self.every]
        return float((mass / (mass + against)).mean())

    def threshold(self):
        scores, found = numpy.array(self.scores[-20_000:]), []
        for k in range(101):
            low, high = scores[scores < k / 100], scores[scores >= k / 100]
            found.append(sum(len(part) * part.var() for part in (low, high) if len(part)) / len(scores))
        tied = [k / 100 for k, value in enumerate(found) if value <= min(found) + 1e-12]
        return (tied[0] + tied[-1]) / 2

    def step(self, images):
        images = images.double()
        means = [torch.stack(queue).mean(0) for queue in self.queues]
        gate_scores = [self.s_of(image, *means) for image in images]
        self.scores += gate_scores
        t = self.threshold()
        new_id = [self.softmax(x) for x, s in zip(images, gate_scores, strict=True) if s > t + 0.5 * (1 - t)]
        new_ood = [self.softmax(x) for x, s in zip(images, gate_scores, strict=True) if s < t - 0.5 * t]
        # alpha 0: the batch alone, where it has any.
        acts = [torch.stack(new).mean(0) if new else mean for new, mean in zip((new_id, new_ood), means, strict=True)]
        self.queues = [(queue + new)[-self.length :] for queue, new in zip(self.queues, (new_id, new_ood), strict=True)]
        self.gated = [len(new_id), len(new_ood)]
        return torch.tensor([self.s_of(image, *acts) for image in images], dtype=torch.float64)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("ood", [0.2, 0.8])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_reference_behaviour_is_the_released_code(seed, ood, step, setup, tmp_path):
    reference, path, names, _ = setup(classes=6, words=9)
    corpus_words = [f"word {i}" for i in range(30)]  # of which 9 are in the list
    (tmp_path / "corpus.txt").write_text("\n".join(corpus_words))
    corpus = reference.encode_text([f"The nice {word}." for word in corpus_words])
    mining = replace(ADANEG, corpus=CorpusSettings(nouns=(str(tmp_path / "corpus.txt"),)))
    activation = Activation(words=12, length=5, noise=2)
    score = TANL(0.1, path, mining, activation, step=step, reference_behaviour=True, seed=3).fit(reference)
    drawn = reference.encode_pixels(noise.released_noise(2, (4, 4), seed=3))
    oracle = Released(names, corpus[:9], corpus, drawn, 0.1, 12, 5, step, seed)
    score.reset(seed)
    gated = [0, 0]
    for images in batches(names, corpus, (7, 1, 12, 30, 5, 16), seed=seed, ood=ood, spread=0.4):
        found = score.step(embedded(images, 6)).double().sigmoid()
        torch.testing.assert_close(found, oracle.step(images), atol=1e-5, rtol=0)
        gated = [a + b for a, b in zip(gated, oracle.gated, strict=True)]
    counts = score.counts()
    assert [counts["gated_id"], counts["gated_ood"]] == gated
    torch.testing.assert_close(score.state()["past"].double(), torch.tensor(oracle.scores).double(), atol=1e-5, rtol=0)
    assert min(gated) > 0
    assert score.record()["corpus_words"] == 30
    assert (score.gate.gap, score.activation.alpha, score.gate.steps) == (0.5, 0.0, 100)


def test_each_released_choice_is_a_setting_of_its_own(setup, tmp_path):
    """What `reference_behaviour` sets together changes the score one by one, and all of it makes the same."""
    reference, path, names, _ = setup(classes=6, words=9)
    (tmp_path / "corpus.txt").write_text("\n".join(f"word {i}" for i in range(30)))
    mining = replace(ADANEG, corpus=CorpusSettings(nouns=(str(tmp_path / "corpus.txt"),)))
    corpus = reference.encode_text([f"The nice word {i}." for i in range(30)])
    stream = batches(names, corpus, (1, 1, 1, 1, 1, 1, 20, 30), spread=0.9)

    def scores(activation, gate, reference_behaviour=False):
        activation = Activation(**{"words": 12, "length": 5, "noise": 2, **activation})
        score = TANL(0.1, path, mining, activation, OtsuGate(**gate), reference_behaviour=reference_behaviour)
        score.fit(reference)
        return torch.cat([score.step(embedded(images, 6)) for images in stream])

    choices = {"alpha": 0.0, "pool": "corpus", "noise_form": "released"}, {"gap": 0.5, "steps": 100, "start": "texts"}
    plain = scores({}, {})
    for activation, gate in [({k: v}, {}) for k, v in choices[0].items()] + [
        ({}, {k: v}) for k, v in list(choices[1].items())[:1]
    ]:
        assert not torch.equal(scores(activation, gate), plain), (activation, gate)
    assert torch.equal(scores(*choices), scores({}, {}, reference_behaviour=True))


def test_released_noise_is_what_the_code_draws():
    found = noise.released_noise(2, (64, 48), seed=1)
    assert found.shape == (10, 3, 64, 48)
    assert torch.equal(found, noise.released_noise(2, (64, 48), seed=1))
    assert found.min() == 0
    assert found.max() == 1
    normal, uniform, _, gamma, pepper = found.view(5, -1)
    for scaled in (0, 1, 4, 5, 6, 7, 8, 9):
        assert (float(found[scaled].min()), float(found[scaled].max())) == (0.0, 1.0)
    assert normal.mean() == pytest.approx(0.5, abs=0.05)
    assert uniform.std() == pytest.approx(12**-0.5, abs=0.01)
    counts = found[4].unique()  # of a Poisson variable: equal steps
    assert counts.diff().max() == pytest.approx(float(counts[1]), abs=1e-5)
    assert float(found[4].mean() / found[4].std()) == pytest.approx(5**0.5, abs=0.05)
    assert float(gamma.mean() / gamma.std()) == pytest.approx(2**0.5, abs=0.05)
    assert set(pepper.unique().tolist()) == {0.0, 1.0}
    assert not (found[8, :1] == found[8]).all(), "channels are independent"


@pytest.mark.parametrize(("classes", "words"), [(1, 5), (1, 1), (6, 30)])
def test_few_and_single_texts(classes, words, setup):
    reference, path, names, negatives = setup(classes, words)
    score = build(reference, path)
    oracle = literal(score, reference, names, negatives)
    for images in batches(names, negatives, (9, 1, 20, 14)):
        found = score.step(embedded(images, classes)).double()
        torch.testing.assert_close(found, oracle.step(images), atol=1e-4, rtol=1e-5)


def test_plain_score_on_all_words_is_neglabel(setup):
    reference, path, names, words = setup()
    (images,) = batches(names, words, (25,))
    score = build(reference, path, step=0, activation={"words": 100})
    neglabel = NegLabel(groups=1, temperature=0.1, negatives=path, mining=ADANEG).fit(reference)
    torch.testing.assert_close(score.step(embedded(images)), neglabel(embedded(images)), atol=1e-4, rtol=1e-5)


def test_forward_learns_nothing_and_its_blocks_do_not_show(setup, monkeypatch):
    reference, path, names, words = setup()
    score = build(reference, path)
    for images in batches(names, words, SIZES):
        score.step(embedded(images))
    (images,) = batches(names, words, (33,), seed=2)
    before, whole = score.state(), score(embedded(images))
    monkeypatch.setattr("mmood.scores.test_time.base.ROWS", 10)
    torch.testing.assert_close(score(embedded(images)), whole)
    assert all(torch.equal(score.state()[name], tensor) for name, tensor in before.items())
    assert score(embedded(images[:0])).shape == (0,)


@pytest.mark.parametrize("cut", [0, 1, 3, 5])
def test_a_saved_state_goes_on_as_if_never_stopped(cut, setup, tmp_path):
    reference, path, names, words = setup()
    settings = {"activation": {"with_batch": True}, "gate": OtsuGate(history=40)}
    stream = [embedded(images) for images in batches(names, words, SIZES)]
    score = build(reference, path, **settings)
    score.reset(3)
    for batch in stream[:cut]:
        score.step(batch)
    torch.save(score.state(), tmp_path / "state.pt")
    rest = [score.step(batch) for batch in stream[cut:]]
    other = build(reference, path, **settings)
    other.step(stream[-1])  # something to forget
    other.load_state(torch.load(tmp_path / "state.pt"))
    for batch, expected in zip(stream[cut:], rest, strict=True):
        torch.testing.assert_close(other.step(batch), expected, atol=0, rtol=0)
    assert other.counts() == score.counts()
    assert all(torch.equal(other.state()[name], tensor) for name, tensor in score.state().items())


def test_reset_forgets_draws_names_and_leaves_the_global_generator(setup):
    reference, path, names, words = setup(classes=12)
    score = build(reference, path, activation={"length": 5})
    stream = [embedded(images, 12) for images in batches(names, words, SIZES)]
    random = torch.get_rng_state()
    runs = []
    for seed in (3, 3, 4):
        score.reset(seed)
        start = score.state()["id_activation"]
        runs.append((start, torch.cat([score.step(batch) for batch in stream])))
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][0], runs[2][0])
    assert not torch.equal(runs[0][1][:7], score.step(stream[0]))  # carried over: the queues know the stream
    assert torch.equal(random, torch.get_rng_state())


def test_works_across_inference_mode(setup):
    reference, path, names, words = setup()
    first, second = (embedded(images) for images in batches(names, words, (20, 20)))
    with torch.inference_mode():
        score = build(reference, path)
        score.step(first)
        state = score.state()
    score.step(second)
    with torch.inference_mode():
        score.load_state(state)
    score.step(second)


@pytest.mark.parametrize("seed", range(20))
def test_otsu_is_the_split_of_the_least_variance_within(seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(int(torch.randint(1, 40, (1,), generator=generator)), generator=generator)
    values = (values * 12).round() / 12 if seed % 2 else values  # with ties
    assert thresholds.otsu(values) == pytest.approx(best_split(values.tolist()), abs=1e-9)


def test_otsu_parts_two_kinds_and_has_no_opinion_on_one():
    values = torch.cat([torch.linspace(0.0, 0.2, 900), torch.linspace(0.9, 1.0, 50)])
    assert thresholds.otsu(values) == pytest.approx(0.55, abs=1e-6)
    assert thresholds.otsu(torch.full((9,), 0.25)) == 0.5
    assert thresholds.otsu(torch.empty(0), otherwise=0.3) == 0.3


def test_saturated_scores_do_not_tie():
    gaps = torch.linspace(20, 60, 200).unsqueeze(1)
    ranked = torch.tensor([[1.0, 0.0]]).expand(200, 2)
    assert functional.tanl(gaps, ranked).unique().numel() < 20
    assert functional.tanl_log_odds(gaps, ranked).unique().numel() == 200


def test_noise_is_of_five_kinds_and_repeatable():
    images = noise.noise_images(2, side=64, seed=1)
    pixels = torch.stack([torch.from_numpy(numpy.array(image)) for image in images]).double() / 255
    assert pixels.shape == (10, 64, 64, 3)
    again = torch.stack([torch.from_numpy(numpy.array(image)) for image in noise.noise_images(2, 64, 1)])
    assert torch.equal(again.double() / 255, pixels)
    gaussian, uniform, poisson, gamma, pepper = pixels.view(5, -1, 3)
    assert gaussian.std() == pytest.approx(0.24, abs=0.01)  # 0.25, a little less for what was cut
    assert uniform.std() == pytest.approx(12**-0.5, abs=0.01)
    assert len(poisson.unique()) == 9  # 0 to 8 of 8
    assert poisson.var() == pytest.approx(4 / 64, abs=0.01)
    assert gamma.mean() == pytest.approx(0.5 - 0.25 * 6 * math.exp(-4), abs=0.01)  # E min(X, 1), shape 2, scale 1/4
    assert set(pepper.unique().tolist()) == {0.0, 1.0}
    assert (pepper == pepper[:, :1]).all()


def test_noise_passes_the_image_tower_as_test_images_do(toy_model):
    encoder = build_encoder(EncoderSettings(toy_model)).eval()
    images = noise.noise_images(1, side=40, seed=0)
    found = ModelReference(encoder, ("cat",), ["{}"]).encode_images(images)
    transform = encoder.transform()
    expected = torch.cat([encoder.encode_image(transform(image)[None]).embedding for image in images])
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=0)
    assert not found.requires_grad
    assert (found @ found.T).fill_diagonal_(0).max() < 0.9999


def test_examples():
    assert not doctest.testmod(functional).failed
    assert not doctest.testmod(noise).failed
    assert not doctest.testmod(thresholds).failed


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TANL(temperature=0.0), "TANL.temperature is 0.0"),
        (lambda: TANL(step=1001), "TANL.step is 1001"),
        (lambda: Activation(words=0), "activation.words is 0"),
        (lambda: Activation(alpha=1.5), "activation.alpha is 1.5"),
        (lambda: Activation(over="names"), "activation.over is 'names'"),
        (lambda: OtsuGate(gap=-0.1), "gate.gap is -0.1"),
        (lambda: OtsuGate(history=0), "gate.history is 0"),
        (lambda: OtsuGate(score="none"), "gate.score is 'none'"),
        (lambda: OtsuGate(steps=-1), "gate.steps is -1"),
        (lambda: OtsuGate(start="noise"), "gate.start is 'noise'"),
        (lambda: Activation(pool="words"), "activation.pool is 'words'"),
        (lambda: Activation(noise_form="raw"), "activation.noise_form is 'raw'"),
    ],
)
def test_impossible_settings_are_named(make, message):
    with pytest.raises(MmoodError, match=message):
        make()


def test_wrong_states_lists_and_early_calls_are_named(setup, tmp_path):
    reference, path, _, _ = setup()
    with pytest.raises(MmoodError, match=r"call TANL\.fit"):
        TANL().reset()
    with pytest.raises(MmoodError, match="step is 20, but the list has only 13 negative labels"):
        build(reference, path, step=20, activation={"words": 30})
    score = build(reference, path)
    with pytest.raises(MmoodError, match="vision-language model"):
        score(Embedded(torch.empty(2, 3), torch.empty(2, 4)))
    with pytest.raises(MmoodError, match="A state of TANL holds"):
        score.load_state({"bank": torch.zeros(1)})
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    with pytest.raises(MmoodError, match="'id_activation' is"):
        build(reference, str(tmp_path / "few.txt")).load_state(score.state())


def test_settings_name_all_that_counts(setup):
    reference, path, _, _ = setup()
    settings = build(reference, path).record()
    assert settings["activation"]["alpha"] == 0.95
    assert settings["gate"] == {"gap": 0.2, "history": 20_000, "score": "ranked", "start": "empty", "steps": 0}
    assert (settings["step"], settings["negatives_found"], settings["temperature"]) == (1, 13, 0.1)
    assert "groups" not in settings
