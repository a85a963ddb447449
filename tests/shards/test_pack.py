import hashlib
import io
import os
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_world import eval_loader, number_of, png
from PIL import Image

from mmood.cli.pack import main
from mmood.errors import MmoodError
from mmood.shards import packing
from mmood.shards.inputs import from_folder
from mmood.shards.packing import PackSettings, pack
from mmood.shards.shard_index import load_index


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
    row = index.rows()[4]
    assert (row.key, row.label, row.name, row.source, row.file) == (4, 1, "dog.s", "made", "dog.s/photo.0.png")


def test_one_is_singular(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/only.png").write_bytes(png(0))
    assert run("--out", tmp_path / "sets/one", "--folder", tmp_path / "images") == 0
    assert "1 sample in 1 shard, no labels" in capsys.readouterr().out


def test_same_input_same_bytes(tmp_path, images):
    for out in ("a/pets", "b/pets"):
        run("--out", tmp_path / out, "--folder", images, "--shard-size", 3, "--shuffle", 7)
    assert content(tmp_path / "a/pets") == content(tmp_path / "b/pets")
    run("--out", tmp_path / "c/pets", "--folder", images, "--shard-size", 3)
    assert content(tmp_path / "a/pets") != content(tmp_path / "c/pets")


def test_the_second_of_two_at_once_is_told_who_packs_there(tmp_path, images, forked, capsys):
    arguments = ["--out", tmp_path / "a/pets", "--folder", images, "--shard-size", 3]
    first = forked.paused("mmood.shards.packing:_write_shard", tmp_path, ["pack", *map(str, arguments), "--quiet"])
    with pytest.raises(MmoodError, match=f"Process {first.pid} on .* is packing into .*wait for it"):
        run(*arguments)
    (tmp_path / "release").touch()
    assert first.wait() == 0, first.err
    run("--out", tmp_path / "b/pets", "--folder", images, "--shard-size", 3)
    assert content(tmp_path / "a/pets") == content(tmp_path / "b/pets")


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
    assert len(content(tmp_path / "a/pets")) == finished + 1  # and the journal
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
    with pytest.raises(MmoodError, match="a different input or different settings"):
        pack(from_folder(images), tmp_path / "a", PackSettings(2), lambda amount: None)
    index = pack(from_folder(images), tmp_path / "a", PackSettings(3), lambda amount: None)
    assert index.count == 7
    assert run("--verify", tmp_path / "a") == 0


def test_nothing_is_overwritten(tmp_path, images):
    run("--out", tmp_path / "a", "--folder", images)
    before = content(tmp_path / "a")
    with pytest.raises(MmoodError, match="is already complete"):
        run("--out", tmp_path / "a", "--folder", images)
    with pytest.raises(MmoodError, match="already has an index"):
        run("--index", tmp_path / "a")
    with pytest.raises(MmoodError, match="was not created by `mmood pack`"):
        run("--out", images, "--folder", images)
    assert content(tmp_path / "a") == before


def test_an_image_list(tmp_path, images):
    lines = tmp_path / "test.txt"
    lines.write_text("cat/photo.1.png 1\ndog.s/photo.0.png 0\n")
    run("--out", tmp_path / "id", "--list", lines, "--images", images)
    assert [row.label for row in load_index(str(tmp_path), "id").rows()] == [1, 0]
    lines.write_text("cat/photo.1.png -1\ndog.s/photo.0.png -1\n")
    run("--out", tmp_path / "ood", "--list", lines, "--images", images)
    index = load_index(str(tmp_path), "ood")
    assert index.classes is None
    assert [row.name for row in index.rows()] == ["cat", "dog.s"]
    for text, sentence in (
        ("cat/photo.1.png\ndog.s/photo.0.png 0\n", "line 1, has no label .* and .*line 2, has one"),
        ("cat/photo.1.png\tx\n", "line 1, is not `path<tab>label`"),
        (f"{tmp_path}/elsewhere/x.png\n", "leaves the folder of the images, .*`--images`"),
        ("../images/cat/photo.1.png\n", "leaves the folder"),
        ("cat/photo.1.png -1\ndog.s/photo.0.png 0\n", "label all images or none"),
        ("cat/none.png 0\n", "none.png cannot be read"),
        ("", "There is no image in"),
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
    with pytest.raises(MmoodError, match=r"cat/photo\.0\.png was not packed: the image cannot be decoded"):
        run("--out", tmp_path / "a", "--folder", images)
    (images / "stray.png").write_bytes(png(0))
    with pytest.raises(MmoodError, match="in subfolders"):
        run("--out", tmp_path / "b", "--folder", images)
    with pytest.raises(MmoodError, match="one folder of letters"):
        run("--out", tmp_path / "a b", "--folder", images)


def test_packing_starts_without_torch():
    code = "import sys, mmood.cli.pack; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path.cwd(), check=False).returncode == 0


def test_lists_with_tabs_paths_alone_absolute_paths_and_json(tmp_path, images):
    contents = {
        "commas.csv": "cat/photo.1.png, 1\ndog.s/photo.0.png,0\n",
        "tabs.txt": "cat/photo.1.png\t1\ndog.s/photo.0.png\t0\n",
        "absolute.txt": f"{images}/cat/photo.1.png 1\n\n{images}/dog.s/photo.0.png 0\n",
        "objects.json": '{"images": [{"file_name": "cat/photo.1.png", "label": 1}, {"path": "dog.s/photo.0.png", "label": 0}]}',
        "pairs.json": '[["cat/photo.1.png", 1], ["dog.s/photo.0.png", 0]]',
        "bare.txt": "cat/photo.1.png\ndog.s/photo.0.png\n",
        "bare.json": '["cat/photo.1.png", "dog.s/photo.0.png"]',
    }
    for number, (name, text) in enumerate(contents.items()):
        (tmp_path / name).write_text(text)
        assert run("--out", tmp_path / f"set{number}", "--list", tmp_path / name, "--images", images) == 0
        rows = load_index(str(tmp_path), f"set{number}").rows()
        assert [row.label for row in rows] == ([None, None] if name.startswith("bare") else [1, 0])
        assert [row.file for row in rows] == ["cat/photo.1.png", "dog.s/photo.0.png"]
    for text in ('{"a": 1}', "[1]", '[{"label": 1}]', '[["x", true]]'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(MmoodError, match="a list of paths"):
            run("--out", tmp_path / "bad", "--list", tmp_path / "bad.json", "--images", images)


def test_home_folders_in_every_path(tmp_path, images, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "names.txt").write_text("cat\ndog.s\n")
    (tmp_path / "list.txt").write_text("cat/photo.1.png 1\n")
    assert run("--out", "~/one", "--folder", "~/images", "--classes", "~/names.txt") == 0
    assert run("--out", "~/two", "--list", "~/list.txt", "--images", "~/images") == 0
    assert run("--verify", "~/one", "~/two") == 0
    assert load_index("~", "one").count == 7


def test_members_are_called_after_their_format(tmp_path, images):
    jpeg = io.BytesIO()
    Image.new("RGB", (4, 4)).save(jpeg, "JPEG")
    (tmp_path / "images/x.jfif").write_bytes(jpeg.getvalue())
    (tmp_path / "images/no-extension").write_bytes(jpeg.getvalue())
    (tmp_path / "images/lies.jpg").write_bytes(png(3))
    (tmp_path / "list.txt").write_text("x.jfif\nno-extension\nlies.jpg\n")
    run("--out", tmp_path / "set", "--list", tmp_path / "list.txt", "--images", images)
    index = load_index(str(tmp_path), "set")
    with tarfile.open(tmp_path / "set/set-000000.tar") as tar:
        assert [name for name in tar.getnames() if "json" not in name] == [
            "000000000.jpg",
            "000000001.jpg",
            "000000002.png",
        ]
    assert len(next(iter(eval_loader(index, classes=None)))["key"]) == 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "JPEG2000", "GIF", "TIFF"])
def test_a_file_that_is_cut_in_half_is_not_packed(tmp_path, form):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form)
    (tmp_path / "images").mkdir()
    whole = tmp_path / "images/photo"
    whole.write_bytes(content.getvalue())
    assert run("--out", tmp_path / "whole", "--folder", tmp_path / "images") == 0
    whole.write_bytes(content.getvalue()[: len(content.getvalue()) // 2])
    with pytest.raises(MmoodError, match="photo was not packed: the image cannot be decoded"):
        run("--out", tmp_path / "half", "--folder", tmp_path / "images")
    if form == "JPEG":
        assert run("--out", tmp_path / "unchecked", "--folder", tmp_path / "images", "--no_check") == 0


def test_a_huge_image_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "images").mkdir()
    # A header of 30,000 x 30,000 pixels is enough.
    (tmp_path / "images/huge.png").write_bytes(png_header(30_000, 30_000))
    with pytest.raises(MmoodError, match=r"huge.png was not packed: the image has more than 134217728 pixels"):
        run("--out", tmp_path / "set", "--folder", tmp_path / "images")


def png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + b"\0\0\0\x08IDAT"
        + b"\0" * 12
    )


def test_class_folders_and_names_in_any_order(tmp_path, capsys):
    for number in range(12):
        (tmp_path / f"numbers/{number}").mkdir(parents=True)
        (tmp_path / f"numbers/{number}/a.png").write_bytes(png(number))
    names = [f"name {number}" for number in range(12)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    run("--out", tmp_path / "set", "--folder", tmp_path / "numbers", "--classes", tmp_path / "names.txt")
    shown = capsys.readouterr().out
    assert "0      0       name 0" in shown
    assert "11     11      name 11" in shown
    index = load_index(str(tmp_path), "set")
    assert (index.class_names, index.class_folders) == (tuple(names), tuple(map(str, range(12))))
    for row in index.rows():
        assert (row.name, row.file) == (f"name {row.label}", f"{row.label}/a.png")
    for number in range(12):
        (tmp_path / f"numbers/{number}").rename(tmp_path / f"numbers/Name_{11 - number}")
    run("--out", tmp_path / "named", "--folder", tmp_path / "numbers", "--classes", tmp_path / "names.txt")
    for row in load_index(str(tmp_path), "named").rows():
        assert row.file == f"Name_{row.label}/a.png"


def test_links_hidden_folders_and_names_that_are_no_utf8(tmp_path, images, capsys):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.png").write_bytes(png(9))
    (images / "bird").symlink_to(tmp_path / "elsewhere")
    (images / "cat/circle").symlink_to(images)
    (images / "cat/gone.png").symlink_to(tmp_path / "nothing.png")
    (images / ".ipynb_checkpoints").mkdir()
    (images / ".ipynb_checkpoints/photo.png").write_bytes(png(1))
    (images / "@eaDir").mkdir()
    (images / "cat/._photo.png").write_bytes(b"no image")
    (images / "empty").mkdir()
    (images / os.fsdecode(b"dog.s/caf\xe9.png")).write_bytes(png(5))
    run("--out", tmp_path / "set", "--folder", images)
    shown = capsys.readouterr().out
    assert "hidden or system files and folders (4, such as" in shown
    assert "broken links ('cat/gone.png')" in shown
    assert "links to a parent folder ('cat/circle')" in shown
    assert "folders without images, which are not classes ('empty')" in shown
    index = load_index(str(tmp_path), "set")
    assert index.class_names == ("bird", "cat", "dog.s")
    assert [row.file for row in index.rows() if row.label == 0] == ["bird/b.png"]
    assert "dog.s/caf\\xe9.png" in [row.file for row in index.rows()]


def test_packing_and_indexing_write_the_hash_of_each_image(tmp_path, images):
    run("--out", tmp_path / "sets/pets", "--folder", images, "--shard-size", 3)
    packed = load_index(str(tmp_path / "sets"), "pets")
    files = [images / row.file for row in packed.rows()]
    wanted = [int(hashlib.sha256(file.read_bytes()).hexdigest()[:16], 16) for file in files]
    assert packed.known_hashes(packed.keys()).tolist() == wanted
    assert packed.known_hashes(packed.keys()[[1, 6]]).tolist() == [wanted[1], wanted[6]]
    for name in ("index.json", "images.npy"):
        (tmp_path / "sets/pets" / name).unlink()
    run("--index", tmp_path / "sets/pets")
    indexed = load_index(str(tmp_path / "sets"), "pets")
    assert indexed.image_hashes == packed.image_hashes
    assert indexed.hash == packed.hash


def test_a_refusal_shows_no_bar(tmp_path, images, capsys):
    arguments = ["--out", str(tmp_path / "pets"), "--folder", str(images)]
    assert main(arguments) == 0
    assert "packing pets" in capsys.readouterr().err
    with pytest.raises(MmoodError, match="already complete"):
        main(arguments)
    with pytest.raises(MmoodError, match="already has an index"):
        main(["--index", str(tmp_path / "pets")])
    assert capsys.readouterr().err == ""
