import json
import subprocess
import sys
from pathlib import Path

import pytest
from data_world import eval_loader, members_of, number_of, png, tar_bytes
from PIL import Image

from mmood.cli.pack import main
from mmood.errors import MmoodError
from mmood.shards import packing
from mmood.shards.index import load_index
from mmood.shards.inputs import from_folder
from mmood.shards.packing import PackSettings, pack
from mmood.shards.table import load_table


@pytest.fixture
def images(tmp_path):
    """Seven images in the classes 'cat' and 'dog.s', numbered in sorted order."""
    number = 0
    for name, count in (("cat", 4), ("dog.s", 3)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(count):
            (tmp_path / "images" / name / f"photo.{i}.png").write_bytes(png(number))
            number += 1
    (tmp_path / "images" / "cat" / "Thumbs.db").write_bytes(b"no image")
    return tmp_path / "images"


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def run(*arguments):
    return main([*map(str, arguments), "--quiet"])


def test_a_folder_becomes_a_set(tmp_path, images, capsys):
    assert run("--out", tmp_path / "sets/pets", "--folder", images, "--shard-size", 3, "--source", "made") == 0
    assert "7 samples in 3 shards, 2 classes" in capsys.readouterr().out
    index = load_index(str(tmp_path / "sets"), "pets")
    assert [shard.nsamples for shard in index.shards] == [3, 3, 1]
    assert (index.classes, index.class_names, index.source) == (2, ("cat", "dog.s"), "made")
    batch = next(iter(eval_loader(index, batch_size=7, classes=2)))
    assert [number_of(image) for image in batch["image"]] == list(range(7))
    assert batch["label"].tolist() == [0, 0, 0, 0, 1, 1, 1]
    row = load_table(index)[4]
    assert (row.key, row.label, row.name, row.source, row.file) == (4, 1, "dog.s", "made", "dog.s/photo.0.png")


def test_same_input_same_bytes(tmp_path, images):
    for out in ("a/pets", "b/pets"):
        run("--out", tmp_path / out, "--folder", images, "--shard-size", 3, "--shuffle", 7)
    assert content(tmp_path / "a/pets") == content(tmp_path / "b/pets")
    run("--out", tmp_path / "c/pets", "--folder", images, "--shard-size", 3)
    assert content(tmp_path / "a/pets") != content(tmp_path / "c/pets")


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 3, 4, 6])
def test_a_killed_run_goes_on_and_ends_equal(tmp_path, images, after):
    settings = PackSettings(shard_size=3)
    seen = 0

    def kill(amount):
        nonlocal seen
        seen += amount
        if seen > after:
            raise Killed

    with pytest.raises(Killed):
        pack(from_folder(images), tmp_path / "a/pets", settings, kill)
    assert not (tmp_path / "a/pets/index.json").exists()
    finished = len(list((tmp_path / "a/pets").glob("pets-*.tar")))
    written = []
    original = packing._write_shard
    packing._write_shard = lambda *a: written.append(a[4]) or original(*a)
    try:
        pack(from_folder(images), tmp_path / "a/pets", settings, lambda amount: None)
    finally:
        packing._write_shard = original
    assert written == list(range(finished, 3))
    pack(from_folder(images), tmp_path / "b/pets", settings, lambda amount: None)
    assert content(tmp_path / "a/pets") == content(tmp_path / "b/pets")


def test_resuming_checks_what_is_there(tmp_path, images):
    def kill_at(count):
        def progress(amount):
            if len(list((tmp_path / "a").glob("a-*.tar"))) >= count:
                raise Killed

        return progress

    with pytest.raises(Killed):
        pack(from_folder(images), tmp_path / "a", PackSettings(3), kill_at(2))
    (tmp_path / "a/a-000000.tar").write_bytes(b"damaged")
    journal = tmp_path / "a" / packing.JOURNAL_FILE
    journal.write_bytes(journal.read_bytes() + b'{"shard": {"url"')
    with pytest.raises(MmoodError, match="another input or other settings"):
        pack(from_folder(images), tmp_path / "a", PackSettings(2), lambda amount: None)
    index = pack(from_folder(images), tmp_path / "a", PackSettings(3), lambda amount: None)
    assert index.count == 7
    assert run("--verify", tmp_path / "a") == 0


def test_nothing_is_overwritten(tmp_path, images):
    run("--out", tmp_path / "a", "--folder", images)
    before = content(tmp_path / "a")
    with pytest.raises(MmoodError, match="is complete and is not overwritten"):
        run("--out", tmp_path / "a", "--folder", images)
    with pytest.raises(MmoodError, match="has an index, which is not overwritten"):
        run("--index", tmp_path / "a")
    with pytest.raises(MmoodError, match="was not begun by `mmood pack`"):
        run("--out", images, "--folder", images)
    assert content(tmp_path / "a") == before


def test_an_image_list(tmp_path, images):
    lines = tmp_path / "test.txt"
    lines.write_text("cat/photo.1.png 1\ndog.s/photo.0.png 0\n")
    run("--out", tmp_path / "id", "--list", lines, "--images", images)
    assert [row.label for row in load_table(load_index(str(tmp_path), "id"))] == [1, 0]
    lines.write_text("cat/photo.1.png -1\ndog.s/photo.0.png -1\n")
    run("--out", tmp_path / "ood", "--list", lines, "--images", images)
    index = load_index(str(tmp_path), "ood")
    assert index.classes is None
    assert [row.name for row in load_table(index)] == ["cat", "dog.s"]
    for text, sentence in (
        ("cat/photo.1.png\n", "line 1, is not `path label`"),
        ("cat/photo.1.png -1\ndog.s/photo.0.png 0\n", "labelled or not"),
        ("cat/none.png 0\n", "none.png cannot be read"),
        ("", "no image to pack"),
    ):
        lines.write_text(text)
        with pytest.raises(MmoodError, match=sentence):
            run("--out", tmp_path / "bad", "--list", lines, "--images", images)


def test_a_torchvision_set(tmp_path, monkeypatch):
    from torchvision import datasets

    class Tiny:
        def __init__(self, root, split):
            self.classes = ["a", "b"]
            assert split == "test"

        def __len__(self):
            return 3

        def __getitem__(self, position):
            return Image.new("RGB", (4, 4), (position, 0, 0)), position % 2

    monkeypatch.setattr(datasets, "SVHN", Tiny)
    run("--out", tmp_path / "svhn", "--torchvision", "SVHN")
    index = load_index(str(tmp_path), "svhn")
    assert (index.count, index.class_names) == (3, ("a", "b"))
    batch = next(iter(eval_loader(index, classes=2)))
    assert batch["label"].tolist() == [0, 1, 0]
    assert [number_of(image) for image in batch["image"]] == [0, 1, 2]
    with pytest.raises(MmoodError, match="did you mean 'SVHN'"):
        run("--out", tmp_path / "x", "--torchvision", "SVNH")


def test_broken_input_is_refused(tmp_path, images):
    (images / "cat" / "photo.0.png").write_bytes(b"no image")
    with pytest.raises(MmoodError, match=r"cat/photo\.0\.png cannot be opened as an image"):
        run("--out", tmp_path / "a", "--folder", images)
    (images / "stray.png").write_bytes(png(0))
    with pytest.raises(MmoodError, match="in subfolders"):
        run("--out", tmp_path / "b", "--folder", images)
    with pytest.raises(MmoodError, match="one folder of letters"):
        run("--out", tmp_path / "a b", "--folder", images)


def shard(folder, members):
    folder.mkdir(exist_ok=True)
    (folder / "x-0.tar").write_bytes(tar_bytes(members))


def test_indexing_shards_that_exist(tmp_path):
    shard(tmp_path / "id", members_of(range(4), labelled=True))
    (tmp_path / "id/x-1.tar").write_bytes(tar_bytes(members_of(range(4, 7), labelled=True)))
    assert run("--index", tmp_path / "id") == 0
    index = load_index(str(tmp_path), "id")
    assert ([s.nsamples for s in index.shards], index.classes, index.source) == ([4, 3], 5, "made")
    assert [row.sample for row in load_table(index)] == [f"s{k:04d}" for k in range(7)]
    assert run("--verify", tmp_path / "id") == 0
    (tmp_path / "id/x-1.tar").write_bytes(b"x")
    with pytest.raises(MmoodError, match=r"x-1\.tar differs from its index"):
        run("--verify", tmp_path / "id")


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ([("a.json", b"{}")], "has 0 images"),
        ([("a.png", b"1"), ("a.jpg", b"1")], "has 2 images"),
        ([("a.png", b"1"), ("a.cls", b"0"), ("b.png", b"1")], "1 of 2 samples have a label"),
        ([("a.png", b"1"), ("a.cls", b"cat")], "sample 'a' of .* cannot be indexed"),
        ([("a.png", b"1"), ("a.json", b"[1]")], "not an object"),
        ([("a.png", b"1"), ("a.cls", b"-1")], "labels start at 0"),
    ],
)
def test_shards_that_cannot_be_indexed(tmp_path, members, sentence):
    shard(tmp_path / "set", members)
    with pytest.raises(MmoodError, match=sentence):
        run("--index", tmp_path / "set")
    assert not (tmp_path / "set/index.json").exists()


def test_the_table_must_fit_the_index(tmp_path):
    shard(tmp_path / "set", members_of(range(2), labelled=False))
    run("--index", tmp_path / "set")
    table = tmp_path / "set/samples.jsonl"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    with pytest.raises(MmoodError, match="one row for each of the 2 keys"):
        load_table(load_index(str(tmp_path), "set"))
    assert json.loads(table.read_text())["name"] == "thing"


def test_packing_starts_without_torch():
    code = "import sys, mmood.cli.pack; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path.cwd(), check=False).returncode == 0
