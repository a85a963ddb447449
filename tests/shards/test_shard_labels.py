"""Shards whose labels are not numbers in `cls`: texts, `json` fields, `txt`."""

import json

import pytest
from data_world import eval_loader, png, tar_bytes

from mmood.cli.pack import main
from mmood.errors import MmoodError
from mmood.shards.shard_index import load_index

CLASSES = ("cat", "dog", "owl")


def indexed(root, members, *more):
    """Index a set of six samples; sample k is of class k modulo 3, and `members(k, class)` says so."""
    folder = root / "set"
    folder.mkdir(parents=True)
    files = []
    for number in range(6):
        names = members(number, number % 3)
        files += [(f"s{number}.png", png(number)), *((f"s{number}.{name}", content) for name, content in names)]
    (folder / "set-0.tar").write_bytes(tar_bytes(files))
    assert main(["--index", str(folder), "--quiet", *more]) == 0
    return load_index(str(root), "set")


def loaded(index):
    return [label for batch in eval_loader(index, classes=index.classes) for label in batch["label"].tolist()]


def fields(**content):
    return [("json", json.dumps(content).encode())]


@pytest.mark.parametrize(
    ("members", "more", "texts"),
    [
        (lambda k, c: [("cls", str(c).encode())], (), ()),
        (lambda k, c: fields(label=c, width=3), (), ()),
        (lambda k, c: fields(label=str(c)), (), ()),
        (lambda k, c: [("cls", CLASSES[c].encode() + b"\n")], (), CLASSES),
        (lambda k, c: fields(class_name=CLASSES[c], __key__=f"s{k}"), (), CLASSES),
        (lambda k, c: fields(species=CLASSES[c], label=k), ("--labels", "json:species"), CLASSES),
        (lambda k, c: [("txt", CLASSES[c].encode())], ("--labels", "txt"), CLASSES),
        (lambda k, c: [("cls", str(c).encode()), *fields(label=9 - c)], (), ()),
    ],
)
def test_labels_are_found_and_read(tmp_path, members, more, texts):
    index = indexed(tmp_path, members, *more)
    assert loaded(index) == [0, 1, 2, 0, 1, 2]
    assert [row.label for row in index.rows()] == [0, 1, 2, 0, 1, 2]
    assert (index.classes, index.labels.texts) == (3, texts)
    assert ("labels" in json.loads((tmp_path / "set" / "index.json").read_text())) == (
        index.labels.member != "cls" or bool(texts)
    )
    if texts:
        assert index.known_names == texts
        assert [row.name for row in index.rows()] == [*texts, *texts]
    assert main(["--verify", str(tmp_path / "set"), "--quiet"]) == 0


def test_names_are_numbered_by_the_class_names(tmp_path):
    (tmp_path / "names.txt").write_text("owl\ncat\ndog\n")
    more = ("--classes", str(tmp_path / "names.txt"))
    index = indexed(tmp_path, lambda k, c: [("cls", CLASSES[c].encode())], *more)
    assert loaded(index) == [1, 2, 0, 1, 2, 0]
    assert index.class_names == ("owl", "cat", "dog")
    plain = indexed(tmp_path / "other", lambda k, c: [("cls", CLASSES[c].encode())])
    assert index.hash != plain.hash


def test_captions_are_no_labels(tmp_path):
    index = indexed(tmp_path, lambda k, c: [("txt", b"a caption"), *fields(caption="a caption", url="x")])
    assert index.classes is None
    index = indexed(tmp_path / "ood", lambda k, c: fields(label=-1))
    assert index.classes is None


@pytest.mark.parametrize(
    ("members", "more", "sentence"),
    [
        (lambda k, c: fields(label=c) if k else [], (), r"5 of 6 samples have a label \(`json:label`\); 's0' has none"),
        (lambda k, c: [], ("--labels", "json"), "must be cls, txt or json:KEY"),
        (lambda k, c: [], ("--labels", "jpg"), "must be cls, txt or json:KEY"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, members, more, sentence):
    with pytest.raises(MmoodError, match=sentence):
        indexed(tmp_path, members, *more)


@pytest.mark.parametrize(
    "labels", [3, {}, {"member": "cls"}, {"member": "png", "key": "", "texts": []}, {"member": "json", "key": "", "texts": []},
               {"member": "cls", "key": "", "texts": [1]}, {"member": "cls", "key": "", "texts": ["a"]}]
)  # fmt: skip
def test_an_index_with_other_labels_is_refused(tmp_path, labels):
    indexed(tmp_path, lambda k, c: [("cls", str(c).encode())])
    path = tmp_path / "set" / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "labels": labels}))
    with pytest.raises(MmoodError, match="`labels`"):
        load_index(str(tmp_path), "set")
