"""What `predict` takes: files, folders, patterns, lists and sets, each input in its place."""

import os
import zipfile

import pytest
from data_world import png, write_set

from mmood.data.datamodule import OoDDataModule
from mmood.data.predict import find_predict_set
from mmood.errors import MmoodError
from mmood.shards.reading import Skipped


def found(*what, root="."):
    """Each input's name, and the bytes that were read or the reason why not."""
    inputs = find_predict_set(str(root), what[0] if len(what) == 1 else [*what])
    samples = inputs.source.read(inputs.keys(), skip=True)
    read = [sample.reason if isinstance(sample, Skipped) else sample.image for sample in samples]
    return dict(zip(inputs.names, read, strict=True))


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(["a.png", "b.jfif", "sub/no-extension", "sub/z.JPG"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    return tmp_path / "photos"


def test_a_zip_file_is_a_set(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(photos.rglob("*.*")):
            archive.write(path, path.relative_to(photos))
        archive.writestr("notes.txt", "no image")
    setting = f"zip:{tmp_path / 'photos.zip'}"
    assert found(setting) == {"a.png": png(0), "b.jfif": png(1), "sub/z.JPG": png(3)}
    assert found(str(tmp_path / "photos.zip")) == found(setting)
    assert "not images ('notes.txt')" in find_predict_set(".", setting).passed_over


def test_a_folder_with_everything_in_it(photos, tmp_path):
    (photos / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (photos / "._a.png").write_bytes(b"no image")
    (photos / ".thumbnails").mkdir()
    (photos / ".thumbnails/a.png").write_bytes(png(9))
    (photos / "notes.txt").write_text("no image")
    (photos / "linked").symlink_to(photos / "sub")
    (photos / "sub/round").symlink_to(photos)
    (photos / "gone.png").symlink_to(tmp_path / "gone.png")
    (photos / os.fsdecode(b"caf\xe9.png")).write_bytes(png(7))
    assert found(str(photos)) == {
        "a.png": png(0),
        "b.jfif": png(1),
        "caf\\xe9.png": png(7),
        "linked/no-extension": png(2),
        "linked/z.JPG": png(3),
        "phone.heic": "the image is HEIC, which mmood does not read; convert it to JPEG or PNG",
        "sub/no-extension": png(2),
        "sub/z.JPG": png(3),
    }
    said = find_predict_set(".", str(photos)).passed_over
    for part in (
        "hidden or system files and folders (2,",
        "not images ('notes.txt')",
        "broken links ('gone.png')",
        "links to a parent folder (2,",
    ):
        assert part in said


def test_several_inputs_keep_their_order(photos):
    assert [*found(str(photos / "sub"), str(photos / "a.png"))] == ["no-extension", "z.JPG", "a.png"]
    assert [name.rpartition("/")[2] for name in found(f"{photos}/*.*")] == ["a.png", "b.jfif"]
    with pytest.raises(
        MmoodError,
        match=r"no file or folder '.*none.png', which is one of 2 entries of `data.predict`; each is one of: an image",
    ):
        found(str(photos), str(photos / "none.png"))
    with pytest.raises(
        MmoodError,
        match=r"no file, folder or set '.*\*.bmp', which `data.predict` names; it takes an image, .* a zip file",
    ):
        found(str(photos / "*.bmp"))


def test_a_list_has_an_input_for_every_line(photos, tmp_path, monkeypatch):
    (photos / "list.txt").write_text(f"sub/z.JPG\na.png\n\nnone.png\n{photos}/b.jfif\nnotes.md\n")
    (photos / "notes.md").write_text("no image")
    listed = found(str(photos / "list.txt"))
    assert [*listed] == ["sub/z.JPG", "a.png", "none.png", f"{photos}/b.jfif", "notes.md"]
    assert listed["none.png"] == "there is no such file"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text('[["photos/a.png", 1]]')
    assert found("list.json") == {"photos/a.png": png(0)}
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(MmoodError, match="is empty"):
        found("empty.txt")


def test_a_set_or_nothing(tmp_path):
    write_set(tmp_path, "near", [4], labelled=False)
    with pytest.raises(MmoodError, match=r"samples\.jsonl cannot be read"):
        found("near", root=tmp_path)
    for name in ("no/thing", "otters"):
        with pytest.raises(
            MmoodError, match=rf"no file, folder or set '{name}', .* name of a set below `data.root` \({tmp_path}"
        ):
            found(name, root=tmp_path)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "0.tar").touch()
    with pytest.raises(MmoodError, match="has shards but no index"):
        found("shards", root=tmp_path)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing/x.txt").write_text("x")
    with pytest.raises(MmoodError, match=r"no image in .*Skipped: files that are not images \('x.txt'\)"):
        found(str(tmp_path / "nothing"))
    with pytest.raises(MmoodError, match=r"cannot be read: .*too long"):
        found("x" * 300, root=tmp_path)
    with pytest.raises(MmoodError, match=r"it names nothing\)"):
        find_predict_set(str(tmp_path), [])
    with pytest.raises(MmoodError, match=r"`data\.predict` is not set"):
        OoDDataModule(str(tmp_path)).predict_names()


def test_home_folder(photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos))
    assert [*found("~/sub")] == ["no-extension", "z.JPG"]


def test_the_classes_of_a_benchmark_are_said():
    said = OoDDataModule(benchmark="imagenet-mos").classes.of_benchmark()
    assert said.startswith(
        "`data.class_names` is not set; the classes are those of the benchmark 'imagenet-mos': tench"
    )
    assert said.endswith("and 997 more.")
    assert OoDDataModule(benchmark="imagenet-mos", class_names=["otter", "heron"]).classes.of_benchmark() == ""


def test_a_prediction_says_whose_classes_it_takes(photos, capsys):
    OoDDataModule(benchmark="imagenet-mos", predict=str(photos)).setup("predict")
    assert "the classes are those of the benchmark 'imagenet-mos'" in " ".join(capsys.readouterr().err.split())
