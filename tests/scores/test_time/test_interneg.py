"""InterNeg against a slow, literal form: one image at a time, AdamW by hand, the text tower by hand."""

import doctest
import json
import math
from dataclasses import replace

import pytest
import torch
from inversion_by_hand import adamw_by_hand, gaps, proxies_by_hand, text_by_hand, tokenizer
from torch.nn.functional import normalize
from toy_texts import NAMES, WORDS, ToyReference, log_odds, near, run, stream

from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.scores import InterNeg
from mmood.scores.base import Embedded
from mmood.scores.test_time import inverted_words, memory
from mmood.scores.test_time.class_images import ClassImages, class_proxies
from mmood.scores.test_time.inversion import Inversion, invert, read_prompts
from mmood.words import CorpusSettings
from mmood.words.miner import INTERNEG

TEMPLATES = ("a photo of a {}.", "the {} in a video game.", "a drawing of many {}.")


def make(words_file, **settings):
    inversion = {"templates": TEMPLATES, "steps": 6, "learning_rate": 0.2, **settings.pop("inversion", {})}
    nested = {"inversion": Inversion(**inversion), "images": ClassImages(**settings.pop("images", {}))}
    return InterNeg(**{"groups": 3, "negatives": words_file, "beta": 0.6, **nested, **settings})


class Literal:
    """The specification, line by line, on lists."""

    def __init__(self, reference, groups=3, beta=0.6, size=2000, how="mean", rescore="batch", update="before", steps=6):
        self.model = reference.encoder.model
        self.groups, self.beta, self.size, self.steps = groups, beta, size, steps
        self.how, self.rescore, self.update = how, rescore, update
        with torch.no_grad():
            self.names = reference.encode_text([f"The nice {name}." for name in reference.class_names])
            self.words = reference.encode_text([f"The nice {word}." for word in WORDS])
        self.proxies = proxies_by_hand(reference)
        self.generator = torch.Generator().manual_seed(0)
        self.bank = []  # (deviation, place, embedding)
        self.seen = 0

    def score(self, images):
        extra = [entry[2] for entry in self.bank[: self.size]]
        return log_odds(images, self.names, torch.cat([self.words, *(e[None] for e in extra)]), self.groups)

    def text(self, template, token):
        prompt = template.replace("{}", " $ ")
        place = int((tokenizer([prompt])[0] == 259).nonzero())  # CLIP's token of a "$" that stands alone
        return text_by_hand(self.model, prompt, place, token)

    def invert(self, images):
        starts = 0.02 * torch.randn(len(images), 32, generator=self.generator)
        drawn = torch.randint(len(TEMPLATES), (self.steps, len(images)), generator=self.generator)
        found = []
        for i, image in enumerate(images):

            def gradient(token, step, i=i, image=image):
                token = token.clone().requires_grad_()
                text = self.text(TEMPLATES[drawn[step, i]], token)
                loss = (1 - text @ image) / len(images)
                return torch.autograd.grad(loss, token)[0]

            token = adamw_by_hand(starts[i], gradient, self.steps)
            with torch.no_grad():
                texts = [self.text(template, token) for template in TEMPLATES]
            found.append(normalize(sum(texts) / 3, dim=0) if self.how == "mean" else texts[drawn[-1, i]])
        return found

    def step(self, images):
        before = self.score(images)
        gated = [i for i in range(len(images)) if before[i].sigmoid() <= self.beta]
        accepted = []
        if gated:
            for i, text in zip(gated, self.invert([images[i] for i in gated]), strict=True):
                found = gaps(self.names, self.proxies, text)
                if all(gap > 0 for gap in found):
                    accepted.append(i)
                    self.bank.append((sum(found) / len(found), self.seen + i, text))
            self.bank = sorted(self.bank, key=lambda entry: -entry[0])[: self.size]
        self.seen += len(images)
        if self.update == "after":
            return before
        after = self.score(images)
        if not len(images):
            return after
        if self.rescore == "accepted":
            return torch.stack([after[i] if i in accepted else before[i] for i in range(len(images))])
        return after


SIZES = (9, 1, 0, 17, 8)
CASES = {
    "default": {},
    "one group": {"groups": 1},
    "after": {"update": "after"},
    "last template": {"how": "last"},
    "per image": {"rescore": "accepted"},
    "full bank": {"size": 3},
    "all look OoD": {"beta": 1.0},
    "none looks OoD": {"beta": 0.0},
}


def settings_of(case):
    names = {"size": "bank_size"}
    found = {names.get(name, name): value for name, value in case.items() if name != "how"}
    return {**found, "inversion": {"read_out": case["how"], "chunk": 5}} if "how" in case else found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_the_literal_form(case, reference, words_file):
    score = make(words_file, **settings_of(case)).fit(reference)
    literal, batches = Literal(reference, **case), stream(reference, SIZES)
    for found, batch in zip(run(score, batches), batches, strict=True):
        assert found.dtype == torch.float32
        expected = literal.step(batch.embedding)
        torch.testing.assert_close(found.double(), expected.double(), atol=5e-3, rtol=1e-3)
    assert score.members()["ood"].tolist() == [entry[1] for entry in literal.bank]
    counts = score.counts()
    assert (counts["seen"], counts["bank"]) == (sum(SIZES), len(literal.bank))
    # The case is one: some gated, some accepted, some refused, a full bank.
    if case.get("beta") == 0.0:
        assert counts["gated_ood"] == 0
    else:
        assert 0 < counts["accepted"] < counts["gated_ood"] <= sum(SIZES)
    if "size" in case:
        assert counts["accepted"] > counts["bank"] == 3
    if case.get("beta") == 1.0:
        assert counts["gated_ood"] == sum(SIZES)


def test_one_class(encoder, words_file):
    reference = ToyReference(NAMES[:1], encoder)
    score = make(words_file).fit(reference)
    literal, batches = Literal(reference), stream(reference, (6, 6))
    for found, batch in zip(run(score, batches), batches, strict=True):
        torch.testing.assert_close(found.double(), literal.step(batch.embedding).double(), atol=5e-3, rtol=1e-3)
    assert score.counts()["accepted"] > 0


def test_chunks_change_nothing(reference):
    prompts, images = read_prompts(reference.text_tower, TEMPLATES), stream(reference, (7,))[0].embedding
    made = [
        invert(
            images,
            prompts,
            reference.text_tower,
            Inversion(TEMPLATES, chunk=chunk),
            torch.Generator().manual_seed(5),
        )
        for chunk in (1, 3, 64)
    ]
    torch.testing.assert_close(made[0], made[2], atol=1e-4, rtol=0)
    torch.testing.assert_close(made[1], made[2], atol=1e-4, rtol=0)


@pytest.mark.parametrize("read_out", ["mean", "last"])
def test_templates_that_are_begun_once_change_nothing(reference, read_out):
    """Templates whose places differ, against whole texts."""
    tower, images = reference.text_tower, stream(reference, (7,))[0].embedding
    prompts = read_prompts(tower, ("a {}", "this is a photo of the {} here", *TEMPLATES))
    assert prompts.begun is not None
    assert len(set(prompts.place.tolist())) > 1
    found, expected = (
        invert(images, one, tower, Inversion(read_out=read_out), torch.Generator().manual_seed(5))
        for one in (prompts, replace(prompts, begun=None))
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_inversion_comes_nearer_to_the_image(reference):
    prompts, images = read_prompts(reference.text_tower, "openai-80"), stream(reference, (12,))[0].embedding
    cosines = []
    for steps in (1, 10, 40):
        generator = torch.Generator().manual_seed(0)
        words = invert(images, prompts, reference.text_tower, Inversion(steps=steps), generator)
        cosines.append(float((words * images).sum(-1).mean()))
    assert cosines[0] < cosines[1] < cosines[2]


def test_a_state_restored_goes_on_as_if_nothing_had_happened(reference, words_file):
    batches = stream(reference, (8, 8, 8, 8))
    score = make(words_file, bank_size=5).fit(reference)
    whole = run(score, batches)
    run(score, batches[:2])
    kept = {name: tensor.clone() for name, tensor in score.state().items()}
    run(score, batches)
    other = make(words_file, bank_size=5).fit(reference)
    other.load_state(kept)
    for batch, expected in zip(batches[2:], whole[2:], strict=True):
        assert torch.equal(other.step(batch), expected)
    assert other.counts() == score.counts()
    assert torch.equal(other.members()["ood"], score.members()["ood"])


def test_reset_forgets_and_seeds(reference, words_file):
    score, batches = make(words_file, beta=1.0).fit(reference), stream(reference, (20, 10))
    first = run(score, batches)
    assert all(torch.equal(a, b) for a, b in zip(run(score, batches), first, strict=True))
    score.reset(1)
    assert any(not torch.equal(score.step(batch), expected) for batch, expected in zip(batches, first, strict=True))
    score.reset(0)
    static = score(batches[1])
    score.step(batches[0])
    assert not torch.equal(score(batches[1]), static), "carried over: the bank counts in later streams"


def test_forward_learns_nothing(reference, words_file):
    score, batches = make(words_file).fit(reference), stream(reference, (10, 10))
    run(score, batches[:1])
    before = {name: tensor.clone() for name, tensor in score.state().items()}
    assert torch.equal(score(batches[1]), score(batches[1]))
    assert all(torch.equal(before[name], tensor) for name, tensor in score.state().items())


def test_runs_in_inference_mode_and_leaves_no_gradient(reference, words_file):
    batches = stream(reference, (10, 5))
    expected = run(make(words_file).fit(reference), batches)
    with torch.inference_mode():
        copies = [replace(batch, embedding=batch.embedding * 1.0) for batch in batches]
        score = make(words_file).fit(reference)
        inside = run(score, copies)
    score.reset(0)
    outside = [score.step(batch) for batch in copies]
    for found in (inside, outside):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert any(weight.requires_grad for weight in reference.encoder.parameters())
    assert all(weight.grad is None for weight in reference.encoder.parameters())


def test_global_generators_are_left_alone(reference, words_file):
    score, before = make(words_file).fit(reference), torch.get_rng_state()
    run(score, stream(reference, (10,)))
    assert torch.equal(before, torch.get_rng_state())


def test_reference_behaviour(reference, words_file):
    score = make(words_file, bank_size=3, reference_behaviour=True).fit(reference)
    assert reference.asked == "16 train"
    batches = stream(reference, SIZES)
    literal = Literal(reference, size=3, how="last")
    for found, batch in zip(run(score, batches), batches, strict=True):
        torch.testing.assert_close(found.double(), literal.step(batch.embedding).double(), atol=5e-3, rtol=1e-3)
    counts = score.counts()
    assert counts["bank"] == counts["accepted"] > 3
    assert score.record()["inversion"]["read_out"] == "last"


def test_gate_is_on_the_probability():
    probability = torch.tensor([0.1, 0.35, 0.36, 0.99], dtype=torch.float64)
    assert inverted_words.gate(probability.logit() - 1e-9, 0.35).tolist() == [True, True, False, False]
    tie = torch.tensor([math.log(0.25 / 0.75)], dtype=torch.float64)
    assert inverted_words.gate(tie, 0.25).item()
    assert not inverted_words.gate(tie, 0.25, strict=True).item()


def test_proxies_are_normalised_means_and_a_missing_class_is_named(reference):
    bank = reference.bank(16)
    found = class_proxies(reference, ClassImages())
    for c in range(len(NAMES)):
        torch.testing.assert_close(found[c], normalize(bank.embedding[bank.labels == c].mean(0), dim=0))
    few = ToyReference(NAMES, reference.encoder, shots=1)
    few.class_names = (*NAMES, "grey goose")
    few.bank = lambda shots, transform: reference.bank(shots, transform)
    with pytest.raises(MmoodError, match="none of 'grey goose'"):
        class_proxies(few, ClassImages())


def test_negatives_are_mined_against_images_and_kept_by_a_checkpoint(encoder, tmp_path, monkeypatch):
    reference = ToyReference(NAMES, encoder, spread=1.0)
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "nouns.txt").write_text("\n".join(WORDS))
    mining = replace(INTERNEG, corpus=CorpusSettings(nouns=(str(tmp_path / "nouns.txt"),)), count=5)
    score = InterNeg(groups=1, mining=mining, inversion=Inversion(TEMPLATES, steps=2)).fit(reference)
    with torch.no_grad():
        names, words = (reference.encode_text([f"The nice {w}." for w in part]) for part in (NAMES, WORDS))
    proxies = class_proxies(reference, ClassImages())
    gaps = (names * proxies).sum(-1) - words @ proxies.T
    allowed = [i for i in range(len(WORDS)) if (gaps[i] > 0).all()]
    best = sorted(allowed, key=lambda i: -float(gaps[i].mean()))[:5]
    assert score.prototypes.list_.words == tuple(WORDS[i] for i in best)
    later = InterNeg(groups=1, mining=mining, inversion=Inversion(TEMPLATES, steps=2))
    later.restore(score.learned())
    assert later.fit(ToyReference(NAMES, encoder, spread=0.5)).prototypes.list_ == score.prototypes.list_
    assert score.details()["negatives_found"] == len(best)


def test_no_admissible_word_is_said(encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "nouns.txt").write_text("\n".join(WORDS))
    mining = replace(INTERNEG, corpus=CorpusSettings(nouns=(str(tmp_path / "nouns.txt"),)))
    with pytest.raises(MmoodError, match="than the name of that class"):
        InterNeg(groups=1, mining=mining).fit(ToyReference(NAMES, encoder, spread=100.0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beta": 1.5}, "InterNeg.beta is 1.5"),
        ({"bank_size": 0}, "InterNeg.bank_size is 0"),
        ({"temperature": 0.0}, "InterNeg.temperature is 0.0"),
        ({"rescore": "all"}, "InterNeg.rescore is 'all'"),
        ({"groups": 0}, "groups is 0"),
        ({"images": {"shots": 0}}, "images.shots is 0"),
        ({"images": {"transform": "test"}}, "images.transform is 'test'"),
        ({"inversion": {"steps": 0}}, "inversion.steps is 0"),
        ({"inversion": {"chunk": 0}}, "inversion.chunk is 0"),
        ({"inversion": {"learning_rate": 0.0}}, "inversion.learning_rate is 0.0"),
        ({"inversion": {"read_out": "first"}}, "inversion.read_out is 'first'"),
    ],
)
def test_impossible_settings_are_named(wrong, message, words_file):
    with pytest.raises(MmoodError, match=message):
        make(words_file, **wrong)


def test_wrong_calls_are_named(reference, words_file):
    with pytest.raises(MmoodError, match="is not fitted yet"):
        make(words_file).reset()
    score = make(words_file).fit(reference)
    with pytest.raises(MmoodError, match="vision-language model"):
        score.step(Embedded(torch.empty(2, 3), torch.empty(2, 3)))
    with pytest.raises(MmoodError, match="A state of InterNeg holds bank"):
        score.load_state({"bank": torch.zeros(0, 16)})
    with pytest.raises(MmoodError, match=r"'bank' is torch.float32 of shape \(2, 3\)"):
        score.load_state({**score.state(), "bank": torch.zeros(2, 3)})
    with pytest.raises(MmoodError, match="bank 2, deviation 0, place 0"):
        score.load_state({**score.state(), "bank": torch.zeros(2, 16)})
    with pytest.raises(MmoodError, match=r"'counts' is torch\.int64 of shape"):
        score.load_state({**score.state(), "counts": torch.zeros(4, dtype=torch.int64)})
    with pytest.raises(MmoodError, match="has 0 places"):
        read_prompts(
            reference.text_tower,
            "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen {}",
        )


def test_examples():
    for module in (inverted_words, memory):
        found = doctest.testmod(module)
        assert found.attempted
        assert not found.failed


def test_images_near_words_fall_when_their_like_was_inverted(reference, words_file):
    """What the method is for: what was seen to be OoD counts against what comes later."""
    score = make(words_file, beta=0.9).fit(reference)
    with torch.no_grad():
        word = reference.encode_text(["a photo of a wet sea."])
    like = [Embedded(torch.empty(20, 0), torch.empty(20, 4), near(word.expand(20, -1), 0.5, seed)) for seed in (1, 2)]
    score.reset(0)
    before = score(like[1])
    score.step(like[0])
    assert score.counts()["accepted"] > 0
    assert (score(like[1]) <= before + 1e-3).all()
    assert float((before - score(like[1])).mean()) > 0.1


def test_from_the_command_line(toy_flags, toy_root, words_file, tmp_path):
    """Bank, inversion and stream in a whole test, which Lightning runs in inference mode."""
    settings = f"{{groups: 3, beta: 1.0, negatives: {words_file}, inversion: {{steps: 2, read_out: last}}}}"
    scores = f"{{interneg: {{class_path: InterNeg, init_args: {settings}}}}}"
    flags = ["--config", "vitb16_interneg.yaml", *toy_flags, "--data.train", "toy-train", "--model.scores", scores]
    flags += ["--evaluation.stream.seeds", "[0]", "--evaluation.stream.batch_size", "16", "--run_dir", str(tmp_path)]
    assert main(["test", *flags]) == 0
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert {(row["set"], row["protocol"], row["seed"]) for row in rows} == {
        (name, "test_time", 0) for name in ("toy-near", "toy-far")
    }
