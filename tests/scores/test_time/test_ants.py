"""ANTS against a slow, literal form on lists; streams replayed from kept answers; what leaves the machine."""

import doctest
import hashlib
import io
import json
import math
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from chat_server import chat_server
from fake_model import FakeModel, compared, described
from PIL import Image
from toy_texts import NAMES, WORDS, log_odds, run, stream

from mmood.chat import Answer
from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.scores import ANTS
from mmood.scores.base import Embedded
from mmood.scores.test_time import functional_ants
from mmood.scores.test_time.ants_questions import look_alikes, squares
from mmood.scores.test_time.ants_settings import Descriptions, LookAlikes, SeeingModel
from mmood.scores.test_time.functional_ants import adaptive_weight, mining_threshold, mixed_log_odds


def make(words_file, model=None, **settings):
    described = {"waiting": 5, "updates": 2, "side": 8, "start": 0.6, **settings.pop("descriptions", {})}
    compared = {"first": 2, "every": 2, "classes": 3, **settings.pop("look_alikes", {})}
    nested = {"descriptions": Descriptions(**described), "look_alikes": LookAlikes(**compared)}
    score = ANTS(**{"groups": 3, "temperature": 0.05, "negatives": words_file, **nested, **settings})
    score._model = model or FakeModel()
    return score


class Literal:
    """The specification, line by line, on lists and in float64."""

    def __init__(self, reference, use="both", update="before", weight_of="mined", updates=2):
        self.use, self.update, self.weight_of, self.updates = use, update, weight_of, updates
        self.encode, self.encoder = reference.encode_text, reference.encoder
        with torch.no_grad():
            self.names = self.encode([f"The nice {name}." for name in NAMES])
            self.words = list(self.encode([f"The nice {word}." for word in WORDS]))
        self.waiting, self.past, self.queue = [], [], []  # queue: of (text, place, embedding), the newest first
        self.near = []
        self.threshold, self.averages, self.batches = 0.6, [], 0
        self.predicted, self.seen, self.mined = Counter(), 0, 0

    def odds(self, images, texts, groups):
        return log_odds(images, self.names, torch.stack(texts), groups, temperature=0.05)

    def far(self):
        return ([entry[2] for entry in self.queue] + self.words)[: len(self.words)]

    def mean_score(self, image, texts, groups):
        """P / (P + N) with N as if there were as many negatives as classes, the mean over groups."""
        kept = torch.randperm(len(texts) - len(texts) % 3, generator=torch.Generator().manual_seed(0))
        texts = [texts[i] for i in kept] if len(texts) == len(self.words) else texts
        p = sum(math.exp(float(image @ name) / 0.05) for name in self.names)
        size, found = len(texts) // groups, []
        for g in range(groups):
            n = sum(math.exp(float(image @ text) / 0.05) for text in texts[g * size : (g + 1) * size])
            found.append(p / (p + len(self.names) * n / size))
        return sum(found) / groups

    def square(self, pixels):
        settings = self.encoder.preprocessing
        shown = np.stack([pixels[c].numpy() * settings.std[c] + settings.mean[c] for c in range(3)], axis=-1)
        image = Image.fromarray((shown.clip(0, 1) * 255).round().astype(np.uint8)).resize(
            (8, 8), Image.Resampling.BICUBIC
        )
        content = io.BytesIO()
        image.save(content, "JPEG", quality=90)
        return content.getvalue()

    def describe(self):
        counts = Counter(min(9, int(s * 10)) for s in self.past)
        rises = [counts[i + 1] - counts[i] for i in range(9)]
        edge = (rises.index(max(rises)) + 1) / 10
        below = sorted(s for s in self.past if s < edge)
        if below:
            self.threshold = float(np.quantile(below, 0.5))
        new = []
        for place, jpeg in self.waiting:
            text = described(jpeg)
            if text not in NAMES and text not in [entry[0] for entry in [*new, *self.queue]]:
                with torch.no_grad():
                    new.append((text, place, self.encode([text])[0]))
        self.queue = [*new, *self.queue][: len(self.words)]
        self.waiting, self.updates = [], self.updates - 1

    def compare(self):
        often = sorted(self.predicted, key=lambda c: (-self.predicted[c], c))[:3]
        names = []
        for c in often:
            names += [name for name in compared(NAMES[c]) if name not in NAMES and name not in names]
        with torch.no_grad():
            self.near = list(self.encode([f"The nice {name}." for name in names]))

    def weight(self):
        far, near = (
            (sum(column) / len(column) for column in zip(*self.averages, strict=True)) if self.averages else (0, 0)
        )
        return 0 if self.use == "near" else (1 - far) / ((1 - far) + (1 - near))

    def scores(self, images):
        far = self.odds(images, self.far(), 3).sigmoid()
        if not self.near or self.use == "far":
            return far.logit()
        near = self.odds(images, self.near, max(1, len(self.near) * 3 // len(self.words))).sigmoid()
        return (self.weight() * far + (1 - self.weight()) * near).logit()

    def step(self, batch):
        images = batch.embedding
        if not len(images):
            return torch.empty(0, dtype=torch.float64)
        before = self.scores(images)
        self.batches += 1
        base = self.odds(images, self.words, 3).sigmoid()
        mined = [i for i in range(len(images)) if base[i] < self.threshold]
        self.mined += len(mined)
        for i in range(len(images)):
            self.past.append(float(base[i]))
            self.predicted[int((self.names @ images[i]).argmax())] += 1
            if i in mined and self.updates and self.use != "near":
                self.waiting.append((self.seen + i, self.square(batch.pixels(torch.tensor([i]))[0])))
        if len(self.waiting) > 5:
            self.describe()
        if self.batches >= 2 and self.batches % 2 == 0 and self.use != "far":
            self.compare()
        if self.near:
            for i in mined if self.weight_of == "mined" else range(len(images)):
                far = self.mean_score(images[i], self.far(), len(self.words) // len(self.names))
                self.averages.append((far, self.mean_score(images[i], self.near, 1)))
        self.seen += len(images)
        return self.scores(images) if self.update == "before" else before


SIZES = (9, 1, 0, 17, 8, 6)
CASES = {
    "default": {},
    "far": {"use": "far"},
    "near": {"use": "near"},
    "after": {"update": "after"},
    "weight of all": {"weight_of": "all"},
    "one update": {"updates": 1},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_the_literal_form(case, reference, words_file):
    settings = {name: value for name, value in case.items() if name != "updates"}
    model = FakeModel()
    score = make(words_file, model, descriptions={"updates": case.get("updates", 2)}, **settings).fit(reference)
    literal, batches = Literal(reference, **case), stream(reference, SIZES)
    weights = set()
    for found, batch in zip(run(score, batches), batches, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), literal.step(batch), atol=2e-3, rtol=1e-3)
        weights.add(literal.weight())
    assert score.members()["ood"].tolist() == [entry[1] for entry in literal.queue]
    assert score.memory_.levels[0].item() == pytest.approx(literal.threshold, abs=1e-6)
    assert score.counts() == {
        "seen": sum(SIZES),
        "gated_ood": literal.mined,
        "updates": case.get("updates", 2) - literal.updates,
        "waiting": len(literal.waiting),
        "descriptions": len(literal.queue),
        "look_alikes": len(literal.near),
    }
    # The case is one: descriptions, look-alikes, weights that move.
    asked = Counter(bool(question.messages[0].images) for question in model.questions)
    assert (asked[True] > 0) == (case.get("use") != "near")
    assert (asked[False] > 0) == (case.get("use") != "far")
    assert len(weights) > 2 or "use" in case
    assert not literal.queue or 0 < len(literal.queue) < literal.mined


def test_the_threshold_is_the_median_below_the_largest_rise():
    draw = np.random.default_rng(0)
    scores = np.concatenate([draw.uniform(0, 0.3, 40), draw.uniform(0.3, 0.8, 20), draw.uniform(0.8, 1, 60)])
    counts, edges = np.histogram(scores, 10, (0, 1))
    edge = edges[1:-1][np.diff(counts).argmax()]
    assert edge == pytest.approx(0.8)
    found = mining_threshold(torch.tensor(scores))
    assert found == pytest.approx(np.median(scores[scores < edge]))
    assert mining_threshold(torch.tensor([0.95, 0.99]), otherwise=0.7) == 0.7


def test_weight_and_mixture():
    assert adaptive_weight(0.2, 0.8) == pytest.approx(0.8)
    assert adaptive_weight(1.0, 1.0) == 0.5
    far, near = torch.tensor([0.1, 0.9, 1e-6]), torch.tensor([0.7, 0.3, 1e-9])
    mixed = mixed_log_odds(far.logit(), near.logit(), 0.3)
    torch.testing.assert_close(mixed.sigmoid(), 0.3 * far + 0.7 * near)
    large = torch.tensor([200.0, 300.0])
    assert mixed_log_odds(large, large + 1, 0.5).diff() > 99, "no ties where S rounds to 1"
    assert torch.equal(mixed_log_odds(far, near, 1), far)
    assert torch.equal(mixed_log_odds(far, near, 0), near)


def test_images_are_shown_as_the_tower_sees_them():
    pixels = (torch.full((2, 3, 20, 20), 0.5) - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.25
    shown = squares(pixels, torch.tensor([0.1, 0.2, 0.3]), torch.full((3,), 0.25), side=7)
    assert shown.shape == (2, 7, 7, 3)
    assert set(shown.flatten().tolist()) == {128}


def test_answers_are_untrusted():
    def answer(text):
        return Answer(text, "fake", False, None, None)

    assert look_alikes(answer("1. Sea Lion\n2. sea lion\n3. <b>x</b>\n4. old dog\n5. fox"), NAMES, 5) == [
        "sea lion",
        "fox",
    ]
    assert look_alikes(answer("I'm sorry, but I cannot help with that."), NAMES, 5) == []
    assert len(look_alikes(answer("\n".join(f"- name {i}x" for i in range(99))), NAMES, 5)) == 5


@pytest.fixture
def flags(toy_flags, words_file):
    """A test of ANTS whose questions go to an address."""

    def build(url, out, seeds=(0, 1), **settings):
        own = {
            **{"groups": 3, "temperature": 0.1, "negatives": words_file},
            "llm": {"endpoint": url, "name": "parrot", "cache": str(out.parent / "answers"), **settings},
            "descriptions": {"waiting": 4, "start": 1.0, "side": 16},
            "look_alikes": {"first": 2, "every": 2, "classes": 2},
        }
        scores = {"ants": {"class_path": "ANTS", "init_args": own}}
        streams = ["--evaluation.stream.seeds", str(list(seeds)), "--evaluation.stream.batch_size", "8"]
        scored = ["--model.scores", json.dumps(scores), "--run_dir", str(out)]
        return ["test", "--config", "vitb16_ants.yaml", *toy_flags, *streams, *scored]

    return build


def answered(body) -> str:
    """What the server says: of an image something about its bytes, of a class two names."""
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return f"- copy of {content.split(chr(39))[1]}\n- plastic toy"
    return f"thing {hashlib.sha256(content[0]['image_url']['url'].encode()).hexdigest()[:5]}"


def streams_of(folder):
    paths = sorted((folder / "scores" / "streams").rglob("*.npz"))
    return {path.name: np.load(path)["score"] for path in paths}


@pytest.mark.ddp
def test_a_stream_is_replayed_from_its_answers_in_any_number_of_processes(flags, tmp_path, forked):
    with chat_server(answered) as server:
        assert main(flags(server.url, tmp_path / "one")) == 0
        asked = len(server.bodies)
        assert asked > 10
        assert main(flags(server.url, tmp_path / "again")) == 0
        assert len(server.bodies) == asked, "nothing is asked twice"
    images = [body for body in server.bodies if not isinstance(body["messages"][0]["content"], str)]
    assert 0 < len(images) < asked
    assert all(set(body) == {"model", "messages", "temperature", "seed", "max_tokens"} for body in images)
    # The server is gone, and there are two processes.
    finished = forked.ranks(flags(server.url, tmp_path / "two", offline=True))
    assert finished.code == 0, finished.err
    one, again, two = (streams_of(tmp_path / name) for name in ("one", "again", "two"))
    assert one.keys() == again.keys() == two.keys()
    assert len(one) == 4
    for name, scores in one.items():
        np.testing.assert_array_equal(again[name], scores)
        np.testing.assert_array_equal(two[name], scores)
    results = json.loads((tmp_path / "two" / "results.json").read_text())
    runs = results["provenance"]["streams"]["runs"]
    assert all(stream["counts"]["updates"] > 0 and stream["counts"]["look_alikes"] > 0 for stream in runs)
    assert results["provenance"]["scores"]["ants"]["questions"] == 1


def test_a_missing_answer_offline_is_one_sentence(flags, tmp_path, capsys):
    assert main(flags("http://127.0.0.1:9/v1", tmp_path / "run", seeds=(0,), offline=True)) == 2
    said = capsys.readouterr().err
    assert "answers are missing" in said
    assert said.count("\n") == 1


def test_images_are_sent_to_another_machine_only_where_that_is_allowed(words_file, capsys):
    away = SeeingModel(endpoint="https://models.example.com/v1")
    with pytest.raises(MmoodError, match=r"would send test images to https://models.example.com/v1, which is not this"):
        make(words_file, llm=away)
    make(words_file, llm=SeeingModel(endpoint=away.endpoint, offline=True))
    make(words_file, llm=away, use="near")
    score = make(words_file, llm=away, allow_send_images=True)
    score._model = None
    score._answers()
    assert "Test images that look OoD are sent to https://models.example.com/v1" in capsys.readouterr().err


def test_what_is_missing_to_ask_is_said_before_anything_is_encoded(words_file, reference, monkeypatch):
    for name in ("MMOOD_LLM_KEY", "OTHER_KEY"):
        monkeypatch.delenv(name, raising=False)
    away = SeeingModel(endpoint="https://models.example.com/v1", key_env="OTHER_KEY")
    with pytest.raises(MmoodError, match="OTHER_KEY is not set"):
        make(words_file, llm=away, use="near").fit(reference)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MmoodError, match=r"pip install 'mmood\[llm\]'"):
        make(words_file).fit(reference)


def test_without_the_images_it_is_refused(reference, words_file):
    score = make(words_file).fit(reference)
    batch = stream(reference, (9,))[0]
    with pytest.raises(MmoodError, match="looks at the images of the stream themselves"):
        score.step(Embedded(batch.features, batch.logits, batch.embedding))
    near = make(words_file, use="near").fit(reference)
    assert near.step(Embedded(batch.features, batch.logits, batch.embedding)).isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0.0}, "ANTS.temperature is 0.0"),
        ({"use": "none"}, "ANTS.use is 'none'"),
        ({"weight_of": "some"}, "ANTS.weight_of is 'some'"),
        ({"descriptions": {"bins": 1}}, "descriptions.bins is 1"),
        ({"descriptions": {"quantile": 2.0}}, "descriptions.quantile is 2.0"),
        ({"look_alikes": {"every": 0}}, "look_alikes.every is 0"),
    ],
)
def test_impossible_settings_are_named(wrong, message, words_file):
    with pytest.raises(MmoodError, match=message):
        make(words_file, **wrong)
    with pytest.raises(MmoodError, match="must be an address"):
        SeeingModel(endpoint="localhost")


def test_examples():
    found = doctest.testmod(functional_ants)
    assert found.attempted
    assert not found.failed
