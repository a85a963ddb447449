"""TINS against a slow, literal form: one image at a time, AdamW by hand, the text tower by hand, lists for bank and buffer."""

import doctest
import json

import pytest
import torch
from inversion_by_hand import adamw_by_hand, gaps, proxies_by_hand, text_by_hand, tokenizer
from toy_texts import NAMES, WORDS, ToyReference, log_odds, near, run, stream

from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.scores import TINS
from mmood.scores.base import Embedded
from mmood.scores.test_time import functional_tins, word_inversion
from mmood.scores.test_time.class_images import ClassImages
from mmood.scores.test_time.functional_tins import tins, tins_log_odds
from mmood.scores.test_time.word_inversion import WordInversion, invert_from_words, read_starts

TEMPLATE = "a photo of a {}."


def make(words_file, **settings):
    inversion = WordInversion(**{"steps": 5, "learning_rate": 0.1, **settings.pop("inversion", {})})
    return TINS(**{"groups": 3, "negatives": words_file, "beta": 0.6, "inversion": inversion, **settings})


class Literal:
    """The specification, line by line, on lists."""

    def __init__(self, reference, groups=3, beta=0.6, bank=2000, buffer=2000, repulsion=0.3, update="before", steps=5):
        self.model = reference.encoder.model
        self.groups, self.beta, self.bank_size, self.buffer_size = groups, beta, bank, buffer
        self.repulsion, self.update, self.steps = repulsion, update, steps
        self.prompts = [TEMPLATE.replace("{}", word) for word in WORDS]
        with torch.no_grad():
            self.names = reference.encode_text([f"The nice {name}." for name in reference.class_names])
            self.words = reference.encode_text([f"The nice {word}." for word in WORDS])
            self.begin = reference.encode_text(self.prompts)
        self.proxies = proxies_by_hand(reference)
        self.generator = torch.Generator().manual_seed(0)
        self.bank, self.buffer = [], []  # of (deviation, place, embedding)
        self.gated = self.accepted = self.draws = self.seen = 0

    def score(self, images):
        """Softmax masses in float64, the negatives' as C times their mean."""
        texts = torch.cat([self.words, *(entry[2][None] for entry in self.bank)])
        kept = torch.randperm(len(texts) - len(texts) % self.groups, generator=torch.Generator().manual_seed(0))
        size = len(kept) // self.groups
        found = []
        for image in images.double():
            p = sum(torch.exp((image @ name) / 0.01 - 100) for name in self.names.double())
            inside = outside = 0
            for g in range(self.groups):
                group = texts[kept[g * size : (g + 1) * size]].double()
                n = len(self.names) * sum(torch.exp((image @ text) / 0.01 - 100) for text in group) / size
                inside, outside = inside + p / (p + n) / self.groups, outside + n / (p + n) / self.groups
            found.append(inside.log() - outside.log())
        return torch.stack(found) if found else torch.empty(0, dtype=torch.float64)

    def cost(self, image, text):
        return 1 - text @ image + self.repulsion * sum(1 + text @ p for p in self.proxies) / len(self.proxies)

    def invert(self, image):
        best = min(range(len(WORDS)), key=lambda w: float(self.cost(image, self.begin[w])))
        prompt = self.prompts[best]
        ids = tokenizer([prompt])
        place = int(ids.argmax()) - 2  # before the full stop and the end of the text
        start = self.model.token_embedding(ids)[0, place].detach()

        def gradient(token, _):
            token = token.clone().requires_grad_()
            return torch.autograd.grad(self.cost(image, text_by_hand(self.model, prompt, place, token)), token)[0]

        token = adamw_by_hand(start, gradient, self.steps, lr=0.1)
        with torch.no_grad():
            return text_by_hand(self.model, prompt, place, token)

    def take(self, entries):
        """Sort into the bank; what falls out goes to the buffer; a full buffer ends in a new draw."""
        self.accepted += len(entries)
        ranked = sorted([*self.bank, *entries], key=lambda entry: -entry[0])
        self.bank, fallen = ranked[: self.bank_size], ranked[self.bank_size :]
        if not self.buffer_size:
            return
        self.buffer += fallen
        if len(self.buffer) >= self.buffer_size:
            better = sorted(self.buffer, key=lambda entry: -entry[0])[: len(self.buffer) // 2]
            pool = sorted([*self.bank, *better], key=lambda entry: -entry[0])
            drawn = torch.randperm(len(pool), generator=self.generator)[: self.bank_size].tolist()
            self.bank, self.buffer = [pool[at] for at in sorted(drawn)], []
            self.draws += 1

    def step(self, images):
        before = self.score(images)
        entries = []
        for i in range(len(images)):
            if before[i].sigmoid() < self.beta:
                self.gated += 1
                text = self.invert(images[i])
                found = gaps(self.names, self.proxies, text)
                if all(gap > 0 for gap in found):
                    entries.append((sum(found) / len(found), self.seen + i, text))
        self.take(entries)
        self.seen += len(images)
        return before if self.update == "after" else self.score(images)


SIZES = (9, 1, 0, 17, 8)
CASES = {
    "default": {},
    "one group": {"groups": 1},
    "after": {"update": "after"},
    "no repulsion": {"repulsion": 0.0},
    "a small bank": {"bank": 3},
    "a small bank, no buffer": {"bank": 3, "buffer": 0},
    "a full buffer": {"bank": 3, "buffer": 3},
    "all look OoD": {"beta": 1.0},
    "none looks OoD": {"beta": 0.0},
}


def settings_of(case):
    names = {"bank": "bank_size", "buffer": "buffer_size"}
    found = {names.get(name, name): value for name, value in case.items() if name != "repulsion"}
    return found | {"inversion": {"repulsion": case.get("repulsion", 0.3), "chunk": 5}}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_the_literal_form(case, encoder, words_file):
    reference = ToyReference(NAMES, encoder, spread=3.8)
    score = make(words_file, **settings_of(case)).fit(reference)
    literal, batches = Literal(reference, **case), stream(reference, SIZES)
    for found, batch in zip(run(score, batches), batches, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), literal.step(batch.embedding), atol=5e-3, rtol=1e-3)
    assert score.members()["ood"].tolist() == [entry[1] for entry in literal.bank]
    counts = score.counts()
    held = {"bank": len(literal.bank), "buffer": len(literal.buffer)}
    assert counts == {"seen": sum(SIZES), "gated_ood": literal.gated, "accepted": literal.accepted, **held}
    # The case is one: some gated, some accepted, some refused, a full bank, a new draw.
    if case.get("beta") == 0.0:
        assert literal.gated == 0
    else:
        assert 0 < literal.accepted < literal.gated <= sum(SIZES)
    assert ("bank" in case) == (literal.accepted > len(literal.bank))
    assert (literal.draws > 0) == (case.get("buffer") == 3)


def test_one_class(encoder, words_file):
    reference = ToyReference(NAMES[:1], encoder)
    score = make(words_file).fit(reference)
    literal, batches = Literal(reference), stream(reference, (6, 6))
    for found, batch in zip(run(score, batches), batches, strict=True):
        torch.testing.assert_close(found.double(), literal.step(batch.embedding), atol=5e-3, rtol=1e-3)
    assert score.counts()["accepted"] > 0


def unit(rows, seed, dim=8):
    return near(torch.zeros(rows, dim), 1.0, seed)


def test_groups_of_as_many_negatives_as_classes_are_neglabel():
    images, names, words = unit(20, 1), unit(4, 2), unit(12, 3)
    kept = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    found = tins_log_odds(images, names, words[kept], temperature=0.1, groups=3)
    torch.testing.assert_close(found.double(), log_odds(images, names, words, 3, temperature=0.1), atol=1e-4, rtol=1e-4)


def test_the_number_of_negatives_does_not_count():
    """Every negative twice in its own group: a mean stays, a sum does not."""
    images, names, words = unit(20, 1), unit(4, 2), unit(12, 3)
    twice = torch.cat([group.repeat(2, 1) for group in words.split(4)])
    once = tins(images, names, words, temperature=0.1, groups=3)
    torch.testing.assert_close(tins(images, names, twice, temperature=0.1, groups=3), once)
    turned = torch.cat([words[4:8], words[8:], words[:4]])
    torch.testing.assert_close(tins(images, names, turned, temperature=0.1, groups=3), once)


def test_without_a_gate_it_is_static(reference, words_file):
    score = make(words_file, beta=0.0).fit(reference)
    one, two = stream(reference, (10, 10))
    assert torch.equal(torch.cat(run(score, [one, two])), torch.cat(run(score, [two, one])[::-1]))


def test_chunks_change_nothing(reference):
    starts, images = read_starts(reference, WORDS, TEMPLATE), stream(reference, (7,))[0].embedding
    proxies = torch.stack(proxies_by_hand(reference))
    made = [
        invert_from_words(images, starts, proxies, reference.text_tower, WordInversion(chunk=chunk))
        for chunk in (1, 3, 64)
    ]
    torch.testing.assert_close(made[0], made[2], atol=1e-4, rtol=0)
    torch.testing.assert_close(made[1], made[2], atol=1e-4, rtol=0)


def test_inversion_comes_nearer_to_the_image_and_repulsion_keeps_it_from_the_classes(reference):
    starts, images = read_starts(reference, WORDS, TEMPLATE), stream(reference, (12,))[0].embedding
    proxies = torch.stack(proxies_by_hand(reference))

    def inverted(**settings):
        return invert_from_words(images, starts, proxies, reference.text_tower, WordInversion(**settings))

    cosines = [float((inverted(steps=steps, repulsion=0.0) * images).sum(-1).mean()) for steps in (1, 10, 30)]
    assert cosines[0] < cosines[1] < cosines[2]
    classes = [float((inverted(repulsion=repulsion) @ proxies.T).mean()) for repulsion in (0.0, 1.0, 5.0)]
    assert classes[0] > classes[1] > classes[2]


def test_the_last_token_of_a_word_is_found_and_words_that_cannot_be_separated_are_left_out(reference):
    words = ("dog", "hot dog", "internationalization", "st. bernard", "what?", "a b c d e f g h i j k l m n", "1990s")
    starts = read_starts(reference, words, TEMPLATE)
    assert starts.texts == tuple(TEMPLATE.replace("{}", word) for word in words if "?" not in word and " n" not in word)
    for text, last in zip(starts.texts, starts.last.tolist(), strict=True):
        word = text.removeprefix("a photo of a ").removesuffix(".")
        own = tokenizer([word])[0]
        ids = tokenizer([text])[0]
        # Begin, "a photo of a", the word's own tokens, the full stop.
        assert last == 4 + int(own.argmax()) - 1
        assert ids[last] == own[int(own.argmax()) - 1]
    with pytest.raises(MmoodError, match="None of the 1 negative labels"):
        read_starts(reference, ["what?"], TEMPLATE)


def test_a_state_restored_goes_on_as_if_nothing_had_happened(reference, words_file):
    batches, settings = stream(reference, (8, 8, 8, 8)), {"bank_size": 2, "buffer_size": 3, "beta": 0.9}
    score = make(words_file, **settings).fit(reference)
    whole = run(score, batches)
    run(score, batches[:2])
    kept = {name: tensor.clone() for name, tensor in score.state().items()}
    run(score, batches)
    other = make(words_file, **settings).fit(reference)
    other.load_state(kept)
    for batch, expected in zip(batches[2:], whole[2:], strict=True):
        assert torch.equal(other.step(batch), expected)
    assert other.counts() == score.counts()
    assert torch.equal(other.members()["ood"], score.members()["ood"])


def test_the_seed_draws_the_bank(reference, words_file):
    score, batches = make(words_file, beta=1.0, bank_size=3, buffer_size=4).fit(reference), stream(reference, (20, 20))
    run(score, batches)
    banks = [score.members()["ood"].tolist()]
    for seed in range(1, 4):
        score.reset(seed)
        for batch in batches:
            score.step(batch)
        banks.append(score.members()["ood"].tolist())
    assert len({tuple(bank) for bank in banks}) > 1


def test_runs_in_inference_mode_and_leaves_no_gradient(reference, words_file):
    batches, generator = stream(reference, (10, 5)), torch.get_rng_state()
    expected = run(make(words_file).fit(reference), batches)
    with torch.inference_mode():
        found = run(make(words_file).fit(reference), batches)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert all(weight.grad is None for weight in reference.encoder.parameters())
    assert torch.equal(generator, torch.get_rng_state())


def test_images_near_words_fall_when_their_like_was_inverted(reference, words_file):
    """What the method is for: what was seen to be OoD counts against what comes later."""
    score = make(words_file, beta=0.9).fit(reference)
    with torch.no_grad():
        word = reference.encode_text(["a photo of a wet sea."])
    like = [Embedded(torch.empty(20, 0), torch.empty(20, 4), near(word.expand(20, -1), 0.5, seed)) for seed in (1, 2)]
    before = score(like[1])
    score.step(like[0])
    assert score.counts()["accepted"] > 0
    assert float((before - score(like[1])).mean()) > 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beta": 1.5}, "TINS.beta is 1.5"),
        ({"bank_size": 0}, "TINS.bank_size is 0"),
        ({"buffer_size": -1}, "TINS.buffer_size is -1"),
        ({"temperature": 0.0}, "TINS.temperature is 0.0"),
        ({"groups": 0}, "groups is 0"),
        ({"inversion": {"steps": 0}}, "inversion.steps is 0"),
        ({"inversion": {"chunk": 0}}, "inversion.chunk is 0"),
        ({"inversion": {"learning_rate": 0.0}}, "inversion.learning_rate is 0.0"),
        ({"inversion": {"repulsion": -1.0}}, "inversion.repulsion is -1.0"),
    ],
)
def test_impossible_settings_are_named(wrong, message, words_file):
    with pytest.raises(MmoodError, match=message):
        make(words_file, **wrong)


def test_shots_are_asked_for(reference, words_file):
    make(words_file, images=ClassImages(shots=5)).fit(reference)
    assert reference.asked == "5 eval"


def test_examples():
    for module in (functional_tins, word_inversion):
        found = doctest.testmod(module)
        assert found.attempted
        assert not found.failed


def test_from_the_command_line(toy_flags, words_file, tmp_path):
    """Bank, inversion and stream in a whole test, which Lightning runs in inference mode."""
    settings = f"{{groups: 3, beta: 1.0, negatives: {words_file}, inversion: {{steps: 2}}, images: {{shots: 5}}}}"
    scores = f"{{tins: {{class_path: TINS, init_args: {settings}}}}}"
    flags = ["--config", "vitb16_tins.yaml", *toy_flags, "--data.train", "toy-train", "--model.scores", scores]
    flags += ["--evaluation.stream.seeds", "[0]", "--evaluation.stream.batch_size", "16", "--run_dir", str(tmp_path)]
    assert main(["test", *flags]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert {(row["set"], row["protocol"]) for row in results["rows"]} == {
        (name, "test_time") for name in ("toy-near", "toy-far")
    }
    assert results["provenance"]["scores"]["tins"]["inversion_starts"] == len(WORDS)
