"""Names files and files of class texts: there and back, and what is refused of untrusted ones."""

import json

import pytest

from mmood.errors import MmoodError
from mmood.words import Templates
from mmood.words.class_texts import ClassTexts, TextsFile, load_class_texts
from mmood.words.lists import load_negatives
from mmood.words.names_file import NamesFile, ProposedName
from mmood.words.proposed import origin_for

CLASSES = ("tench", "great white shark")
WITH = {"model": "parrot", "prompt": "eoe-near 1", "parameters": {"temperature": 0.0, "seed": 0}}
NAMES = NamesFile(
    origin_for("eoe-near", CLASSES, WITH),
    (
        ProposedName("dace", "near", "tench", "0123456789abcdef"),
        ProposedName("café chair", "far"),
    ),
    {"an ID name": ("tench",)},
)
TEXTS = TextsFile(
    origin_for("pnps", CLASSES, WITH),
    (
        ClassTexts("tench", ("a plump olive fish",), ("an orange fish", "a trout"), "0123456789abcdef"),
        ClassTexts("great white shark", ("a grey shark",), ("a dolphin",)),
    ),
)


def document(content, tmp_path) -> dict:
    content.save(tmp_path / "file.json")
    return json.loads((tmp_path / "file.json").read_text())


@pytest.mark.parametrize("content", [NAMES, TEXTS])
def test_there_and_back(content, tmp_path):
    assert type(content).from_document(document(content, tmp_path), "The file") == content


def test_a_name_and_a_class_have_a_line_each(tmp_path):
    NAMES.save(tmp_path / "names.json")
    text = (tmp_path / "names.json").read_text()
    assert '  {"name": "café chair", "group": "far"}\n' in text
    assert text.endswith("\n ]\n}\n")


def test_the_head_says_where_the_names_come_from(tmp_path):
    head = document(NAMES, tmp_path)
    assert head["hash"] == NAMES.content_hash
    assert (head["count"], head["groups"]) == (2, {"near": 1, "far": 1})
    assert head["classes"]["count"] == 2
    assert head["proposed_with"] == WITH


def test_names_are_negative_labels_under_the_prompts_of_the_score(tmp_path):
    NAMES.save(tmp_path / "names.json")
    found = load_negatives(tmp_path / "names.json", Templates(id=("a {}",), noun=("the {}", "{}")))
    assert found.words == ("dace", "café chair")
    assert found.prompts[0] == ("the dace", "dace")
    assert found.id_templates == ("a {}",)
    assert found.mined_with["names_sha256"] == NAMES.content_hash
    assert found.mined_with["proposed_with"] == WITH
    assert found.mined_with["file"] == "names.json"


def test_texts_are_in_the_order_of_the_classes(tmp_path):
    TEXTS.save(tmp_path / "texts.json")
    found = load_class_texts(tmp_path / "texts.json", ["great white shark", "tench", "tench"])
    assert [entry.class_name for entry in found.texts] == ["great white shark", "tench", "tench"]
    with pytest.raises(MmoodError, match="have none for 1 of the 2 classes, such as 'hen'"):
        load_class_texts(tmp_path / "texts.json", ["tench", "hen"])


def changed(path, value):
    def change(data):
        at = data
        for key in path[:-1]:
            at = at[key]
        if value is None:
            del at[path[-1]]
        else:
            at[path[-1]] = value

    return change


DAMAGED_NAMES = {
    "another hash": (changed(["names", 0, "name"], "chub"), "it was edited or truncated"),
    "no names": (changed(["names"], None), "has no 'names'"),
    "a schema to come": (changed(["schema"], 2), "has the schema 2; this version reads 1"),
    "an unknown group": (changed(["names", 0, "group"], "middle"), "must be 'near' or 'far' or 'fine'"),
    "a name twice": (changed(["names", 1, "name"], "dace"), "has a name twice"),
    "a control character": (changed(["names", 0, "name"], "da\x1bce"), "printable name"),
    "capitals": (changed(["names", 0, "name"], "Dace"), "printable name"),
    "a long name": (changed(["names", 0, "name"], "x" * 65), "printable name"),
    "a number": (changed(["names", 0, "name"], 3), "printable name"),
    "no origin": (changed(["method"], None), "has no 'method'"),
}


@pytest.mark.parametrize("kind", DAMAGED_NAMES)
def test_damaged_names_are_refused_in_a_sentence(kind, tmp_path):
    change, said = DAMAGED_NAMES[kind]
    data = document(NAMES, tmp_path)
    change(data)
    (tmp_path / "damaged.json").write_text(json.dumps(data))
    with pytest.raises(MmoodError, match=said) as refused:
        load_negatives(tmp_path / "damaged.json")
    assert "damaged.json" in str(refused.value)


DAMAGED_TEXTS = {
    "another hash": (changed(["texts", 0, "positive", 0], "a fish"), "it was edited or truncated"),
    "another kind of file": (changed(["format"], "mmood names"), "another kind of file"),
    "no negative": (changed(["texts", 1, "negative"], []), "a list of 1 or more printable texts"),
    "a long text": (changed(["texts", 1, "negative"], ["x" * 301]), "a list of 1 or more printable texts"),
    "two lines": (changed(["texts", 1, "negative"], ["a\nb"]), "a list of 1 or more printable texts"),
}


@pytest.mark.parametrize("kind", DAMAGED_TEXTS)
def test_damaged_texts_are_refused_in_a_sentence(kind, tmp_path):
    change, said = DAMAGED_TEXTS[kind]
    data = document(TEXTS, tmp_path)
    change(data)
    (tmp_path / "damaged.json").write_text(json.dumps(data))
    with pytest.raises(MmoodError, match=said):
        load_class_texts(tmp_path / "damaged.json", CLASSES)


def test_no_names_are_refused(tmp_path):
    NamesFile(NAMES.origin, ()).save(tmp_path / "empty.json")
    with pytest.raises(MmoodError, match="has no negative labels"):
        load_negatives(tmp_path / "empty.json")
