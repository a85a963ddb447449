"""`mmood propose` against a server of the same protocol that fails as real ones do."""

import json
import os
import re
import signal

import pytest
from chat_server import chat_server
from forked import mmood
from taxonomy_world import write_taxonomy

from mmood.cli.main import main
from mmood.words.class_texts import load_class_texts
from mmood.words.lists import load_negatives
from mmood.words.names_file import NamesFile


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    """No key of the user's, and a cache of each test's own."""
    for name in ("MMOOD_LLM_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("tench\ngreat white shark\nhen\n")
    return path


def command(classes, tmp_path, method="eoe-near", *more) -> list[str]:
    return [
        *("propose", "--class_names", str(classes), "--method", method, "--llm", "parrot"),
        *("--out", str(tmp_path / "names.json"), *map(str, more)),
    ]


def asked_class(body) -> str:
    """The class that the last turn of a request is about."""
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[-1]["text"]
    return re.findall(r'"([^"]+)"', text.split("One per line")[0])[-1]


def near(body) -> str:
    name = asked_class(body)
    return f"Here you are:\n1. {name[::-1]}\n2. **mimic of {len(name)}**: it looks alike\n- {name}"


def read(tmp_path) -> dict:
    return json.loads((tmp_path / "names.json").read_text())


def test_names_from_an_endpoint(classes, tmp_path, capsys):
    with chat_server(near) as chat:
        assert main([*command(classes, tmp_path, "eoe-near", "--endpoint", chat.url), "--price", "1000", "2000"]) == 0
        assert len(chat.bodies) == 3
        said = capsys.readouterr().out
        assert "3 answers asked for (300 tokens in, 30 out, cost 0.36), 0 kept ones used." in said
        assert "6 names, sha256" in said
        assert "Not taken: 3: an ID class." in said
        (tmp_path / "names.json").rename(tmp_path / "first.json")
        assert main(command(classes, tmp_path, "eoe-near", "--offline")) == 0
        assert len(chat.bodies) == 3
    assert (tmp_path / "names.json").read_bytes() == (tmp_path / "first.json").read_bytes()
    document = read(tmp_path)
    assert document["method"] == "eoe-near"
    recorded = document["proposed_with"]
    assert (recorded["model"], recorded["answered_by"]) == ("parrot", ["parrot-1"])
    assert recorded["parameters"] == {"temperature": 0.0, "seed": 0, "max_tokens": 1024}
    assert recorded["prompts"]["eoe-near"]["version"] == 1
    names = NamesFile.from_document(document, "x").names
    assert [(entry.name, entry.source) for entry in names[:2]] == [("hcnet", "tench"), ("mimic of 5", "tench")]
    assert load_negatives(tmp_path / "names.json").words == tuple(entry.name for entry in names)


PASSING = ["429", "500", "500 in HTML", "no JSON", "cut", "no choices", "another type", "shorter than it is"]


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_a_run_that_is_killed_goes_on_where_it_stood(count, tmp_path, forked, monkeypatch, capsys):
    monkeypatch.setattr("mmood.chat.client._LONGEST_PAUSE", 0.01)
    classes = tmp_path / "classes.txt"
    classes.write_text("".join(f"kind {number}\n" for number in range(count)))
    with chat_server(near, ["429", "500"] * 4) as chat:
        flags = command(classes, tmp_path, "eoe-near", "--endpoint", chat.url, "--retries", "20", "--parallel", "8")
        chat.hold_after(8 + count // 2)
        running = forked.start(mmood, flags)
        chat.until_held(8)
        running.kill()
        running.wait()
        before = answered(chat)
        assert not (tmp_path / "names.json").exists()
        chat.release()
        chat.faults += PASSING * 2
        assert main(flags) == 0
        asked = answered(chat)
    assert chat.faults == []
    assert len(before) == count // 2
    assert sorted(asked) == sorted(f"kind {number}" for number in range(count)), "no answer was given twice"
    assert f"{count - len(before):,} answers asked for" in capsys.readouterr().out
    (tmp_path / "names.json").rename(tmp_path / "killed.json")
    with chat_server(near) as chat:
        whole = command(classes, tmp_path, "eoe-near", "--endpoint", chat.url, "--cache", tmp_path / "another")
        assert main(whole) == 0
        assert len(chat.bodies) == count
    assert (tmp_path / "names.json").read_bytes() == (tmp_path / "killed.json").read_bytes()


def test_a_signal_ends_a_run_although_threads_wait(classes, tmp_path, forked):
    with chat_server(near) as chat:
        chat.hold_after(1)
        running = forked.start(mmood, command(classes, tmp_path, "eoe-near", "--endpoint", chat.url))
        chat.until_held(2)
        running.send_signal(signal.SIGTERM)
        assert running.wait() == 143
        assert "propose was stopped by SIGTERM. Answers that have come are kept" in running.err
        chat.release()


def answered(chat) -> list[str]:
    """The classes whose answers were sent to their end."""
    return [asked_class(body) for body in chat.answered]


SENTENCES = {
    "no model": (["--llm", None], "The method eoe-near asks a language model; name it with --llm."),
    "no endpoint": ([], "needs an --endpoint, or --offline with answers that are kept"),
    "no answer offline": (["--offline"], "3 answers are missing in "),
    "a key that is not set": (
        ["--endpoint", "https://api.example.com/v1"],
        "The environment variable MMOOD_LLM_KEY is not set; it must hold the key of https://api.example.com/v1.",
    ),
    "no address": (["--endpoint", "example"], "must be an address such as http://localhost:8000/v1"),
    "nobody there": (["--endpoint", "http://127.0.0.1:9/v1", "--retries", "0"], "cannot be reached"),
    "parameters": (["--offline", "--parameters", "[1]"], "--parameters is '[1]'; it must be a JSON object"),
    "parameters of ours": (["--offline", "--parameters", '{"stream": true}'], "'stream' of a request is set by mmood"),
    "images for names": (
        ["--offline", "--images", "x"],
        "are for the method mm-ood; eoe-near sends only texts",
    ),
    "a kind": (["--offline", "--kind", "far"], "--kind is for the methods wordnet and mm-ood"),
    "a price": (["--offline", "--price", "-1", "1"], "--price is -1.0"),
    "a temperature": (["--offline", "--temperature", "nan"], "--temperature is nan"),
    "an amount": (["--offline", "--per_class", "0"], "per_class is 0"),
    "a method": (["--method", "guess"], "invalid choice: 'guess'"),
}


@pytest.mark.parametrize("kind", SENTENCES)
def test_one_sentence(kind, classes, tmp_path, capsys):
    more, said = SENTENCES[kind]
    arguments = command(classes, tmp_path)
    if more[:2] == ["--llm", None]:
        at = arguments.index("--llm")
        arguments, more = arguments[:at] + arguments[at + 2 :], []
    assert main([*arguments, *more]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len([line for line in error.splitlines() if line.startswith("mmood:")]) == 1
    assert not (tmp_path / "names.json").exists()


def test_an_endpoint_that_lies_about_its_length_is_one_sentence(classes, tmp_path, capsys):
    with chat_server(near, ["announces a terabyte"] * 9) as chat:
        assert main(command(classes, tmp_path, "eoe-near", "--endpoint", chat.url, "--parallel", "1")) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mmood:")]
    assert f"The endpoint {chat.url} announces a response of 1000000000000 bytes" in said
    assert "0 of 3 answers have come" in said


def test_a_file_that_exists_stays(classes, tmp_path, capsys):
    (tmp_path / "names.json").write_text("mine")
    assert main(command(classes, tmp_path, "eoe-near", "--offline")) == 2
    assert "already exists" in capsys.readouterr().err
    assert (tmp_path / "names.json").read_text() == "mine"


def test_a_dry_run_prints_what_would_be_sent_and_sends_nothing(classes, tmp_path, capsys):
    with chat_server(near) as chat:
        flags = ["--endpoint", chat.url]
        assert main(command(classes, tmp_path, "eoe-near", *flags, "--dry_run", "--parameters", '{"top_p": 0.5}')) == 0
        printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert chat.bodies == []
        assert main(command(classes, tmp_path, "eoe-near", *flags, "--parameters", '{"top_p": 0.5}')) == 0
    by_class = {asked_class(body): body for body in chat.bodies}
    assert [by_class[asked_class(body)] for body in printed] == printed
    (tmp_path / "names.json").unlink()
    assert main(command(classes, tmp_path, "eoe-near", "--dry_run", "--parameters", '{"top_p": 0.5}')) == 0
    assert "of its 3 requests 0 have no answer" in capsys.readouterr().err


def test_mm_ood_sends_images_only_if_it_may(toy_root, tmp_path, capsys):
    arguments = command(toy_root / "classes.txt", tmp_path, "mm-ood", "--images", toy_root / "toy-train", "--side", 16)

    def model(body) -> str:
        content = body["messages"][-1]["content"]
        if isinstance(content, list):
            return '["brick", "poster"]'
        return '["squares"]' if "Sort them" in content else '["tile", "window", "flag", "kite"]'

    with chat_server(model) as chat:
        assert main([*arguments, "--endpoint", chat.url]) == 2
        assert f"would send 2 images of each class from {toy_root / 'toy-train'} to" in capsys.readouterr().err
        assert main([*arguments, "--endpoint", chat.url, "--dry_run"]) == 0
        assert "base64" not in capsys.readouterr().out
        assert chat.bodies == []
        assert main([*arguments, "--endpoint", chat.url, "--allow_send_images", "true"]) == 0
        shown = [body for body in chat.bodies if isinstance(body["messages"][-1]["content"], list)]
        assert len(shown) == 3
        assert all(len(body["messages"][-1]["content"]) == 3 for body in shown), "two images and a text"
        groups = read(tmp_path)["groups"]
        assert groups == {"near": 2, "far": 2}, "half of each"
        (tmp_path / "names.json").unlink()
        chat.bodies.clear()
        assert main([*command(toy_root / "classes.txt", tmp_path, "mm-ood", "--kind", "far"), "--offline"]) == 0
        assert chat.bodies == []


def test_mm_ood_takes_images_from_folders(toy_root, tmp_path, capsys):
    folder = toy_root.parent / "images" / "toy-train"
    arguments = command(toy_root / "classes.txt", tmp_path, "mm-ood", "--kind", "near", "--dry_run", "--images", folder)
    assert main(arguments) == 0
    sent = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(body["messages"][-1]["content"]) for body in sent] == [3, 3, 3]


def test_mm_ood_needs_images_of_the_classes(classes, toy_root, tmp_path, capsys):
    assert main(command(classes, tmp_path, "mm-ood", "--offline")) == 2
    assert "need example images of the ID classes: --images SET, or --kind far" in capsys.readouterr().err
    other = command(classes, tmp_path, "mm-ood", "--offline", "--images", toy_root / "toy-far")
    assert main(other) == 2
    assert "it has no labels" in capsys.readouterr().err


def test_a_renderer_of_the_users_own(classes, tmp_path, monkeypatch, capsys):
    (tmp_path / "drawing.py").write_text(
        "import io\nfrom PIL import Image\n\ndef draw(name):\n    file = io.BytesIO()\n"
        "    Image.new('RGB', (64, 64), 'red').save(file, 'PNG')\n    return file.getvalue()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = command(classes, tmp_path, "mm-ood", "--kind", "far", "--render")
    assert main([*arguments, "drawing:paint", "--offline"]) == 2
    assert "--render is 'drawing:paint'; it must be MODULE:FUNCTION" in capsys.readouterr().err
    with chat_server(lambda body: '["sea lion"]') as chat:
        assert main([*arguments, "drawing:draw", "--endpoint", chat.url]) == 0
        (image, text) = chat.bodies[-1]["messages"][-1]["content"]
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert "The images show" in text["text"]


def test_texts_of_classes(classes, tmp_path, capsys):
    with chat_server(lambda body: '{"positive": ["a fish"], "negative": ["a bird"]}') as chat:
        assert main(command(classes, tmp_path, "pnps", "--endpoint", chat.url)) == 0
    assert "texts of 3 classes, sha256" in capsys.readouterr().out
    found = load_class_texts(tmp_path / "names.json", ["hen", "tench"])
    assert [entry.positive for entry in found.texts] == [("a fish",)] * 2


def test_names_from_wordnet_ask_nobody(classes, tmp_path, monkeypatch, capsys):
    classes.write_text("tench\nxyzzy\nhen\n")
    monkeypatch.setenv("WNSEARCHDIR", str(write_taxonomy(tmp_path / "dict")))
    arguments = ["propose", "--class_names", str(classes), "--method", "wordnet", "--out"]
    assert main([*arguments, str(tmp_path / "names.json"), "--per_class", "9"]) == 0
    assert "WordNet has no name of 1 classes, such as 'xyzzy'." in capsys.readouterr().out
    document = read(tmp_path)
    assert document["proposed_with"]["settings"]["wordnet"] == "2.9"
    assert {"dace", "soup"} <= set(load_negatives(tmp_path / "names.json").words)


def test_a_real_endpoint(classes, tmp_path):
    url, model = os.environ.get("MMOOD_LLM_ENDPOINT"), os.environ.get("MMOOD_LLM_MODEL")
    if not url or not model:
        pytest.skip("MMOOD_LLM_ENDPOINT and MMOOD_LLM_MODEL are not set: they name an endpoint to ask, and its model")
    arguments = ["propose", "--class_names", str(classes), "--method", "eoe-near", "--llm", model, "--endpoint", url]
    assert main([*arguments, "--out", str(tmp_path / "names.json")]) == 0
    assert len(load_negatives(tmp_path / "names.json")) >= 3
