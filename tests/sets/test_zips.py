"""Zip files as sets: read like the folder that they were made from, and trusted no further."""

import io
import struct
import zipfile

import pytest
from data_world import number_of, png, to_tensor
from PIL import Image

from mmood.errors import MmoodError
from mmood.sets.file_index import FileIndex
from mmood.sets.finding import Classing, find_set
from mmood.shards.reading import RawSample


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def found(path, labelled=True) -> FileIndex:
    index = find_set("data", f"zip:{path}", classing=Classing((), labelled))
    assert isinstance(index, FileIndex)
    return index


def read(index):
    samples = list(index.read(index.keys(), skip=False))
    assert all(isinstance(sample, RawSample) for sample in samples)
    return [(number_of(to_tensor(Image.open(io.BytesIO(s.image)))), s.cls, s.name) for s in samples]


MEMBERS = [("dog/b.png", png(3)), ("cat/a.png", png(1)), ("cat/b", png(2)), ("cat/notes.txt", b"text")]


@pytest.mark.parametrize("top", ["", "pets/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_read_like_its_folder(tmp_path, top, method):
    members = [(top + name, content) for name, content in MEMBERS]
    index = found(zipped(tmp_path / "pets.zip", [*members, ("__MACOSX/._a.png", b"x")], method))
    for name, content in MEMBERS:
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    twin = find_set("data", str(tmp_path / "folder"), classing=Classing((), True))
    assert read(index) == read(twin) == [(1, b"0", "cat/a.png"), (2, b"0", "cat/b"), (3, b"1", "dog/b.png")]
    assert index.hash == twin.hash
    assert (index.name, index.class_names) == ("pets", ("cat", "dog"))
    (note,) = index.notes
    assert "hidden or system files" in note
    assert "files that are not images" in note


def test_a_zip_without_folders_has_no_labels(tmp_path):
    index = found(zipped(tmp_path / "flat.zip", [("photos/a.png", png(1)), ("photos/b.png", png(2))]), labelled=False)
    assert index.classes is None
    assert read(index) == [(1, None, "a.png"), (2, None, "b.png")]


def test_a_zip_that_changes_is_noticed(tmp_path, capsys):
    path = zipped(tmp_path / "a.zip", MEMBERS)
    index = found(path)
    zipped(path, [*MEMBERS[:1], ("cat/a.png", png(9)), ("cat/c.png", png(4))])
    with pytest.raises(MmoodError, match=r"cat/a.png in .*a.zip was changed after"):
        read(index)
    capsys.readouterr()
    assert [number for number, _, _ in read(found(path))] == [9, 4, 3]
    assert "has changed since it was indexed" in " ".join(capsys.readouterr().err.split())


def with_size(content: bytes, size: int) -> bytes:
    """The zip with the uncompressed size of its first member overwritten in both headers."""
    central = content.index(b"PK\x01\x02")
    content = content[:22] + struct.pack("<I", size) + content[26:]
    return content[: central + 24] + struct.pack("<I", size) + content[central + 28 :]


def test_zips_that_cannot_be_trusted_are_refused(tmp_path):
    bomb = zipped(tmp_path / "bomb.zip", [("a/a.png", bytes(2**25))])
    lying = tmp_path / "lying.zip"
    lying.write_bytes(with_size(zipped(tmp_path / "x.zip", [("a/a.png", png(1) * 40)]).read_bytes(), 50))
    double = tmp_path / "double.zip"
    with pytest.warns(UserWarning, match="Duplicate"):
        zipped(double, [("a/a.png", png(1)), ("a/a.png", png(2))])
    (tmp_path / "none.zip").write_bytes(b"PK nonsense")
    (tmp_path / "cut.zip").write_bytes(zipped(tmp_path / "whole.zip", MEMBERS).read_bytes()[:-30])
    refusals = {
        bomb: "cannot be trusted: 'a/a.png' grows from",
        lying: "is damaged",
        double: "has two files called 'a/a.png'",
        zipped(tmp_path / "up.zip", [("../a.png", png(1))]): "leads out of its folder",
        zipped(tmp_path / "root.zip", [("/a.png", png(1))]): "leads out of its folder",
        zipped(tmp_path / "empty.zip", []): "it holds no file",
        tmp_path / "none.zip": "is not a zip file, or is damaged",
        tmp_path / "cut.zip": "is not a zip file, or is damaged",
        tmp_path / "missing.zip": "There is no zip file",
        tmp_path: "There is no zip file",
    }
    for path, sentence in refusals.items():
        with pytest.raises(MmoodError) as caught:
            found(path, labelled=False)
        assert sentence in str(caught.value), path
