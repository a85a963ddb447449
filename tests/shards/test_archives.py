"""Archives of others: what can be read, and what is not trusted."""

import io
import tarfile
import zipfile

import pytest

from mmood.errors import MmoodError
from mmood.shards import archives
from mmood.shards.archives import decompress, open_archive


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tarred(path, members, mode="w"):
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def contents(path):
    archive = open_archive(path)
    try:
        return {member.path: archive.read(member) for member in archive.members}
    finally:
        archive.close()


MEMBERS = {"a/1.jpg": b"one", "a/b/2.jpg": b"two" * 1000, "3.jpg": b""}


def test_zip_tar_and_folder_hold_the_same(tmp_path):
    assert contents(zipped(tmp_path / "x.zip", MEMBERS, compression=zipfile.ZIP_DEFLATED)) == MEMBERS
    assert contents(tarred(tmp_path / "x.tar", MEMBERS)) == MEMBERS
    for name, content in MEMBERS.items():
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_bytes(content)
    assert contents(tmp_path / "x") == MEMBERS


@pytest.mark.parametrize("form", ["gz", "bz2"])
def test_a_compressed_tar_is_decompressed_first(tmp_path, form):
    packed = tarred(tmp_path / f"x.tar.{form}", MEMBERS, f"w:{form}")
    with pytest.raises(MmoodError, match="it is compressed"):
        open_archive(packed)
    decompress(packed, tmp_path / "x.tar")
    assert contents(tmp_path / "x.tar") == MEMBERS


def test_tar_files_in_a_tar_file_are_folders(tmp_path):
    inner = tarred(tmp_path / "inner.tar", {"1.jpg": b"one", "2.jpg": b"two"}).read_bytes()
    assert contents(tarred(tmp_path / "x.tar", {"n01.tar": inner, "n02.tar": inner})) == {
        "n01/1.jpg": b"one", "n01/2.jpg": b"two", "n02/1.jpg": b"one", "n02/2.jpg": b"two",
    }  # fmt: skip


LEADING_OUT = ["/etc/passwd", "../x.jpg", "a/../../x.jpg", "..\\x.jpg", "C:\\x.jpg"]


@pytest.mark.parametrize("name", LEADING_OUT)
def test_a_member_that_leads_out_of_the_folder_condemns_the_archive(tmp_path, name):
    for path in (zipped(tmp_path / "x.zip", {name: b"x"}), tarred(tmp_path / "x.tar", {name: b"x"})):
        with pytest.raises(MmoodError, match="leads out of its folder"):
            open_archive(path)


def test_links_and_devices_are_passed_over(tmp_path):
    link, device = tarfile.TarInfo("link.jpg"), tarfile.TarInfo("device.jpg")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.BLKTYPE
    assert contents(tarred(tmp_path / "x.tar", {link: b"", device: b"", "1.jpg": b"one"})) == {"1.jpg": b"one"}
    info = zipfile.ZipInfo("link.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
        file.writestr("1.jpg", b"one")
    archive = open_archive(tmp_path / "x.zip")
    assert [member.path for member in archive.members] == ["1.jpg"]
    assert "links and devices" in str(archive.passed_over)


def test_what_grows_without_measure_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "ROOM", 1000)
    bomb = zipped(tmp_path / "x.zip", {"1.jpg": bytes(10**6)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(MmoodError, match="grows from"):
        open_archive(bomb)
    packed = tarred(tmp_path / "x.tar.gz", {"1.jpg": bytes(10**6)}, "w:gz")
    with pytest.raises(MmoodError, match="it grows to more than"):
        decompress(packed, tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    for path in (zipped(tmp_path / "x.zip", MEMBERS), tarred(tmp_path / "x.tar", MEMBERS)):
        with pytest.raises(MmoodError, match=r"at most 2|more than 2"):
            open_archive(path)


def test_files_larger_than_any_image_are_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_CONTENT_BYTES", 100)
    for path in (zipped(tmp_path / "x.zip", MEMBERS), tarred(tmp_path / "x.tar", MEMBERS)):
        archive = open_archive(path)
        assert "a/b/2.jpg" not in [member.path for member in archive.members]
        assert archive.passed_over.count(archives.TOO_LARGE) == 1


def test_encrypted_and_damaged_archives_are_sentences(tmp_path):
    content = bytearray(zipped(tmp_path / "x.zip", MEMBERS).read_bytes())
    marked = bytearray(content)
    for at in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        marked[at] |= 1
    (tmp_path / "encrypted.zip").write_bytes(marked)
    with pytest.raises(MmoodError, match="is encrypted"):
        open_archive(tmp_path / "encrypted.zip")
    content[content.index(b"one")] = 0
    (tmp_path / "damaged.zip").write_bytes(content)
    with pytest.raises(MmoodError, match=r"is damaged: 'a/1.jpg' cannot be read"):
        contents(tmp_path / "damaged.zip")
    whole = tarred(tmp_path / "x.tar", MEMBERS).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:2000])
    with pytest.raises(MmoodError, match="cannot be read as an archive"):
        open_archive(tmp_path / "cut.tar")
    for content in (b"", b"<html></html>", bytes(2000)):
        (tmp_path / "page.zip").write_bytes(content)
        with pytest.raises(MmoodError, match="cannot be read as an archive"):
            open_archive(tmp_path / "page.zip")


def test_a_tar_file_that_holds_a_zip_file_is_a_tar_file(tmp_path):
    inner = zipped(tmp_path / "inner.zip", {"1.jpg": b"one"}).read_bytes()
    assert list(contents(tarred(tmp_path / "x.tar", {"2.jpg": b"two", "inner.zip": inner}))) == ["2.jpg", "inner.zip"]
