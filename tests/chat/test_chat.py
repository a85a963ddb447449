"""Asking a language model: what is sent, what is kept, and what an untrusted endpoint can do."""

import base64
import doctest
import io
import json
import time

import numpy as np
import pytest
from chat_server import ChatServer, chat_server
from PIL import Image

from mmood.chat import (
    DEFAULTS,
    Answer,
    AnswerCache,
    Endpoint,
    LanguageModel,
    Message,
    Question,
    client,
    model,
    small_jpeg,
    threads,
)
from mmood.errors import MmoodError


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in ("MMOOD_LLM_KEY", "OPENAI_API_KEY", "OPENAI_ORG_ID", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


def question(text="List fish.", images=(), **parameters) -> Question:
    return Question("parrot", (Message("user", text, images),), {**DEFAULTS, **parameters})


def endpoint(chat: ChatServer, **settings) -> Endpoint:
    return Endpoint(chat.url, **{"pause": 0.01, "timeout": 5.0, "retries": 3, **settings})


def echo(body) -> str:
    return f"answer to {body['messages'][-1]['content']}"


def photo(width=300, height=200) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    Image.fromarray(pixels).save(content, "JPEG", exif=exif)
    return content.getvalue()


@pytest.mark.parametrize("module", [client, model, threads])
def test_examples(module):
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted > 0


def test_an_answer_is_asked_once_and_kept(tmp_path):
    with chat_server(echo) as chat:
        first = LanguageModel(AnswerCache(tmp_path), endpoint(chat))
        questions = [question("a"), question("b"), question("a")]
        assert [answer.text for answer in first.answer(questions)] == ["answer to a", "answer to b", "answer to a"]
        assert sorted(chat.asked) == ["a", "b"]
        assert (first.usage.asked, first.usage.kept, first.usage.tokens_in, first.usage.tokens_out) == (2, 0, 200, 20)
        again = LanguageModel(AnswerCache(tmp_path), None)
        assert again.answer(questions) == first.answer(questions)
        assert (again.usage.asked, again.usage.kept) == (0, 2)
        assert again.missing([question("a"), question("c")]) == [question("c")]
    assert chat.paths == ["/v1/chat/completions"] * 2


def test_all_that_is_sent_is_the_stated_payload(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret of another endpoint")
    monkeypatch.setenv("OPENAI_ORG_ID", "mine")
    with chat_server(lambda body: "a fish") as chat:
        asked = question("What is this?", (small_jpeg(photo(), 64),), top_p=0.5, seed=None)
        LanguageModel(AnswerCache(tmp_path), endpoint(chat)).answer([asked])
        assert chat.bodies == [asked.payload()]
    allowed = {"host", "content-type", "content-length", "accept", "connection", "accept-encoding", "user-agent"}
    assert set(chat.headers[0]) <= allowed
    assert chat.headers[0]["user-agent"] == "mmood"
    assert asked.payload()["top_p"] == 0.5
    assert "seed" not in asked.payload()


def test_an_endpoint_on_this_machine_is_asked_without_a_proxy(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with chat_server(echo) as chat:
        assert LanguageModel(AnswerCache(tmp_path), endpoint(chat)).answer([question("a")])[0].text == "answer to a"


def test_images_are_small_and_bare():
    sent = small_jpeg(photo(300, 200), 64)
    image = Image.open(io.BytesIO(sent))
    assert (image.format, image.size, dict(image.getexif())) == ("JPEG", (64, 43), {})
    assert b"home" not in sent
    assert Image.open(io.BytesIO(small_jpeg(photo(30, 20), 64))).size == (30, 20)
    (shown, text) = question("What?", (sent,)).payload()["messages"][0]["content"]
    assert base64.b64decode(shown["image_url"]["url"].removeprefix("data:image/jpeg;base64,")) == sent
    assert text == {"type": "text", "text": "What?"}


def test_the_key_of_a_question_covers_all_of_it():
    image = small_jpeg(photo(), 32)
    different = [
        question(),
        question("List birds."),
        question(temperature=0.5),
        question(images=(image,)),
        question(images=(image + b"x",)),
        Question("another", question().messages, DEFAULTS),
        Question("parrot", (Message("system", "Be short."), *question().messages), DEFAULTS),
    ]
    assert len({each.key for each in different}) == len(different)
    assert question(seed=0, temperature=0.0).key == question().key
    with pytest.raises(MmoodError, match="'stream' of a request is set by mmood"):
        question(stream=True)


def test_the_key_of_the_endpoint_is_sent_and_never_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_LLM_KEY", "sesame-1")
    with chat_server(echo, ["401"]) as chat:
        asking = LanguageModel(AnswerCache(tmp_path), endpoint(chat))
        with pytest.raises(MmoodError, match=r"answers 401 \(wrong key the key\)") as refused:
            asking.answer([question()])
        assert "sesame" not in str(refused.value)
        asking.answer([question()])
    assert [headers["authorization"] for headers in chat.headers] == ["Bearer sesame-1"] * 2
    assert not [path for path in tmp_path.rglob("*.json") if "sesame" in path.read_text()]


PASSING = ["429", "500", "500 in HTML", "no JSON", "no choices", "another type", "cut", "shorter than it is"]


@pytest.mark.parametrize("fault", PASSING)
def test_a_failure_that_passes_is_tried_again(fault, tmp_path):
    with chat_server(echo, [fault, fault]) as chat:
        (answer,) = LanguageModel(AnswerCache(tmp_path), endpoint(chat)).answer([question("a")])
    assert answer.text == "answer to a"
    assert chat.asked == ["a"] * 3


LASTING = {
    "400": (r"answers 400 \('max_tokens' is not supported", 1),
    "404": (r"answers 404 \(Not Found\); the address is to be the one before /chat/completions", 1),
    "redirect": ("answers 307", 1),
    "429 for a day": ("asks to wait 86,400 s, more than 120 s", 1),
    "announces a terabyte": ("announces a response of 1000000000000 bytes, where at most 100,000 are read", 1),
    "gzip": ("compresses its response", 1),
    "flood": ("sends more than 100,000 bytes", 1),
    "flood of an error": ("sends more than 100,000 bytes", 1),
    "500": (r"answers 500 \(out of memory\) \(tries: 2\)", 2),
    "silence": (r"does not answer within 0.4 s \(tries: 2\)", 2),
    "drip": ("has not finished its response after 0.4 s", 1),
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_failure_that_lasts_is_one_sentence_and_takes_a_bounded_time(fault, tmp_path):
    said, tries = LASTING[fault]
    begun = time.monotonic()
    with chat_server(echo, [fault] * 9) as chat:
        asking = LanguageModel(AnswerCache(tmp_path), endpoint(chat, timeout=0.4, retries=1, largest=100_000))
        with pytest.raises(MmoodError, match=said) as failed:
            asking.answer([question()])
        assert time.monotonic() - begun < 3
        assert str(failed.value).startswith(f"The endpoint {chat.url} ")
        assert "0 of 1 answers have come and are kept in" in str(failed.value)
    assert len(chat.bodies) == tries
    assert list(tmp_path.rglob("*.json")) == []


def test_answers_that_came_before_a_failure_are_kept(tmp_path):
    questions = [question(str(number)) for number in range(20)]
    with chat_server(lambda body: b"{" if body["messages"][-1]["content"] == "13" else echo(body)) as chat:
        asking = LanguageModel(AnswerCache(tmp_path), endpoint(chat, retries=0, parallel=3))
        with pytest.raises(MmoodError, match="of 20 answers have come"):
            asking.answer(questions)
        chat.answer = echo
        before = set(chat.asked) - {"13"}
        asking.answer(questions)
    answered = [text for text in chat.asked if text != "13"]
    assert before < set(answered)
    assert len(answered) == len(set(answered)) == 19


def test_the_first_of_two_answers_stays(tmp_path):
    """Another process may have worked with it already."""
    cache, asked = AnswerCache(tmp_path), question()
    first, second = (Answer(text, "parrot-1", False, 1, 1) for text in ("first", "second"))
    assert cache.put(asked, first) == first
    assert cache.put(asked, second) == first == cache.get(asked)
    assert [path.name for path in tmp_path.rglob("*.*")] == [f"{asked.key}.json"]


def test_nobody_is_asked_offline(tmp_path):
    with pytest.raises(MmoodError, match=r"2 answers are missing in .*, and offline nobody is asked"):
        LanguageModel(AnswerCache(tmp_path), None).answer([question("a"), question("b"), question("a")])


def test_all_threads_wait_when_the_endpoint_asks_to(tmp_path):
    with chat_server(echo, ["429"]) as chat:
        asking = LanguageModel(AnswerCache(tmp_path), endpoint(chat, parallel=4))
        begun = time.monotonic()
        asking.answer([question(str(number)) for number in range(8)])
        assert time.monotonic() - begun >= 0.1


def test_a_rate_is_kept(tmp_path):
    with chat_server(echo) as chat:
        asking = LanguageModel(AnswerCache(tmp_path), endpoint(chat, rate=60 / 0.05, parallel=8))
        begun = time.monotonic()
        asking.answer([question(str(number)) for number in range(6)])
        assert time.monotonic() - begun >= 5 * 0.05


@pytest.mark.parametrize(
    ("url", "settings", "said"),
    [
        ("localhost:8000", {}, "must be an address such as"),
        ("file:///etc/passwd", {}, "must be an address such as"),
        ("https://me:secret@host/v1", {}, "without a password, query or fragment"),
        ("http://[::1/v1", {}, "is no address"),
        ("https://host/v1", {"timeout": 0}, "endpoint.timeout is 0"),
        ("https://host/v1", {"parallel": 0}, "endpoint.parallel is 0"),
    ],
)
def test_addresses_and_limits_are_checked(url, settings, said):
    with pytest.raises(MmoodError, match=said) as refused:
        Endpoint(url, **settings)
    assert "secret" not in str(refused.value)


def test_which_endpoints_need_a_key(monkeypatch):
    assert Endpoint("http://localhost:1/v1").key() is None
    assert Endpoint("http://[::1]:1/v1").key() is None
    assert Endpoint("https://host/v1", key_env="none").key() is None
    with pytest.raises(MmoodError, match="MMOOD_LLM_KEY is not set; it must hold the key of https://host/v1"):
        Endpoint("https://host/v1").key()
    with pytest.raises(MmoodError, match="variable MINE is not set"):
        Endpoint("http://localhost:1/v1", key_env="MINE").key()
    monkeypatch.setenv("MINE", "a\nb")
    with pytest.raises(MmoodError, match="characters that no key has"):
        Endpoint("https://host/v1", key_env="MINE").key()


@pytest.mark.parametrize("damage", [lambda text: text[:50], lambda text: text.replace('"text"', '"txet"')])
def test_a_damaged_kept_answer_is_named(damage, tmp_path):
    cache = AnswerCache(tmp_path)
    with chat_server(echo) as chat:
        LanguageModel(cache, endpoint(chat)).answer([question()])
    path = cache.path(question())
    path.write_text(damage(path.read_text()))
    with pytest.raises(MmoodError, match="Delete the file to ask again"):
        cache.get(question())


def test_an_answer_under_a_name_that_is_not_its_own_is_refused(tmp_path):
    cache = AnswerCache(tmp_path)
    with chat_server(echo) as chat:
        LanguageModel(cache, endpoint(chat)).answer([question("a")])
    other = cache.path(question("b"))
    other.parent.mkdir(exist_ok=True)
    other.write_text(cache.path(question("a")).read_text())
    with pytest.raises(MmoodError, match="belongs to another question"):
        cache.get(question("b"))


def test_a_kept_answer_says_what_was_asked(tmp_path):
    cache = AnswerCache(tmp_path)
    image = small_jpeg(photo(), 32)
    with chat_server(lambda body: "ein Fisch, größer") as chat:
        LanguageModel(cache, endpoint(chat)).answer([question("What?", (image,))])
    kept = json.loads(cache.path(question("What?", (image,))).read_text())
    assert kept["answer"]["text"] == "ein Fisch, größer"
    assert kept["question"]["messages"][0]["content"][1]["text"] == "What?"
    assert base64.b64encode(image).decode() not in json.dumps(kept)
