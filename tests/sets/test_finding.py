"""Sets without packing: folders and lists are found, indexed once, and read as their packed twins are."""

import os
from pathlib import Path

import numpy as np
import pytest
from data_world import CLASSES, IN_PROCESS, number_of, png, to_tensor

from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.settings import LoaderSettings
from mmood.loading.train import TrainLoader
from mmood.sets.file_index import FileIndex
from mmood.sets.finding import Classing, find_set
from mmood.sets.places import Place, place_of
from mmood.sets.storage import Folder
from mmood.shards.reading import RawSample, Skipped
from mmood.shards.shard_index import load_index

NAMES = ("bird", "cat", "dog")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sets"


@pytest.fixture
def photos(tmp_path) -> Path:
    """Image k is a picture of the number k, of class k modulo 3."""
    folder = tmp_path / "photos"
    for number in range(17):
        path = folder / NAMES[number % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    return folder


def found(setting, names=(), root="data", labelled=False) -> FileIndex:
    index = find_set(str(root), str(setting), classing=Classing(names, labelled))
    assert isinstance(index, FileIndex)
    return index


def numbers(index, rank=0, world=1, settings=IN_PROCESS):
    """What a loader yields: key -> (number in the image, label)."""
    loader = EvalLoader(index, index.keys(), Decoder(to_tensor, CLASSES), 4, settings, rank, world)
    seen = {}
    for batch in loader:
        for image, label, key in zip(batch["image"], batch["label"], batch["key"], strict=True):
            assert int(key) not in seen
            seen[int(key)] = number_of(image), int(label)
    return seen


def test_a_setting_is_a_name_or_a_path():
    assert place_of("sun") == Place("sun")
    assert place_of("folder:pets") == Place("pets", "pets", "folder")
    assert place_of("list:/x/test_ninco.txt") == Place("test_ninco", "/x/test_ninco.txt", "list")
    assert place_of("~/my photos/") == Place("my-photos", "~/my photos/")
    assert place_of("mine=zip:a.zip") == Place("mine", "a.zip", "zip")
    assert place_of("a=/b/c=d") == Place("a", "/b/c=d")
    for wrong in ("my photos", "a=b", "", "x\0"):
        with pytest.raises(MmoodError, match="The name of a set is one folder"):
            place_of(wrong)
    with pytest.raises(MmoodError, match="gives the set no name"):
        place_of("folder:/")


@pytest.mark.parametrize("names", [(), ("dog", "bird", "cat")])
def test_a_folder_is_read_like_its_packed_twin(photos, tmp_path, names):
    (tmp_path / "names.txt").write_text("\n".join(names))
    classes = ["--classes", str(tmp_path / "names.txt")] if names else []
    assert main(["pack", "--out", str(tmp_path / "data" / "photos"), "--folder", str(photos), "--quiet", *classes]) == 0
    packed, index = load_index(str(tmp_path / "data"), "photos"), found(photos, names, labelled=True)
    assert (index.count, index.classes, index.class_names) == (17, 3, packed.class_names)
    assert (index.class_folders, index.known_names) == (packed.class_folders, packed.known_names)
    assert numbers(index) == numbers(packed)
    for row, other in zip(index.rows(), packed.rows(), strict=True):
        assert (row.key, row.label, row.name, row.file) == (other.key, other.label, other.name, other.file)


@pytest.mark.parametrize("world", [1, 3, 20])
def test_every_image_comes_once_over_ranks_and_workers(photos, world):
    index = found(photos, labelled=True)
    parts = [numbers(index, rank, world) for rank in range(world)]
    assert sorted(key for part in parts for key in part) == list(range(17))
    workers = LoaderSettings(workers=2, start_method="fork")
    assert numbers(index, settings=workers) == {key: value for part in parts for key, value in part.items()}


def test_training_shuffles_all_images_and_resumes_in_the_middle(photos):
    index, settings = found(photos, labelled=True), LoaderSettings(workers=0, seed=3)

    def loader() -> TrainLoader:
        return TrainLoader(index, index.keys(), Decoder(to_tensor, 3), 2, settings)

    whole = loader()
    whole.sampler.set_epoch(1)
    batches = [batch["key"].tolist() for batch in whole]
    assert len(batches) == 8
    assert len(np.unique(batches)) == 16
    assert np.ravel(batches).tolist() != sorted(np.ravel(batches))
    first, second = loader(), loader()
    first.sampler.set_epoch(1)
    for _, _ in zip(range(3), first, strict=False):
        state = first.state_dict()
    second.load_state_dict(state)
    second.sampler.set_epoch(1)
    assert [batch["key"].tolist() for batch in second] == batches[3:]


def test_an_index_is_kept_and_changes_are_noticed(photos, cache, monkeypatch, capsys):
    first = found(photos)
    assert [path.suffix for path in cache.glob("*.*")] == [".safetensors"]
    reads = []
    read = Folder._read
    monkeypatch.setattr(Folder, "_read", lambda self, path: (reads.append(path), read(self, path))[1])
    assert found(photos).hash == first.hash
    assert not reads
    (photos / "cat" / "01.png").write_bytes(png(200) + b"more")
    (photos / "cat" / "new.png").write_bytes(png(201))
    (photos / "dog" / "02.png").unlink()
    capsys.readouterr()
    changed = found(photos)
    assert (
        f"{photos} has changed since it was indexed: 1 file was added, 1 was removed and 1 was changed; indexed again."
        in " ".join(capsys.readouterr().err.split())
    )
    assert sorted(reads) == ["cat/01.png", "cat/new.png"]
    assert changed.hash != first.hash
    assert sorted(number for number, _ in numbers(changed).values()) == sorted({*range(17), 200, 201} - {1, 2})


def test_a_file_that_changes_after_indexing_is_not_read_in_silence(photos):
    index = found(photos, labelled=True)
    path = photos / "bird" / "00.png"
    state = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    for skip in (False, True):
        with pytest.raises(MmoodError, match=r"bird/00.png in .*photos was changed after the set 'photos' was indexed"):
            list(index.read(index.keys(), skip))
    path.unlink()
    with pytest.raises(MmoodError, match=r"bird/00.png cannot be read: No such file"):
        list(index.read(index.keys(), skip=False))
    gone, *others = index.read(index.keys(), skip=True)
    assert isinstance(gone, Skipped)
    assert "No such file" in gone.reason
    assert all(isinstance(other, RawSample) for other in others)


def test_the_hash_is_that_of_images_and_labels(photos, tmp_path):
    index = found(photos)
    (tmp_path / "other").symlink_to(photos)
    assert found(tmp_path / "other").hash == index.hash
    assert found(photos, ("dog", "cat", "bird"), labelled=True).hash != index.hash
    expected = np.array([int.from_bytes(index.sha256[key, :8].tobytes(), "big") for key in range(17)], np.uint64)
    assert (index.known_hashes(index.keys()) == expected).all()


def test_a_damaged_index_is_made_again(photos, cache, capsys):
    index = found(photos)
    (file,) = cache.glob("*.safetensors")
    for content in (b"", b"nonsense", file.read_bytes()[:-40]):
        file.write_bytes(content)
        capsys.readouterr()
        assert found(photos).hash == index.hash
        assert "is damaged" in capsys.readouterr().err


def test_a_folder_below_the_root_needs_no_index(photos):
    index = found("photos", root=photos.parent, labelled=True)
    assert index.name == "photos"
    assert index.classes == 3
    with pytest.raises(MmoodError, match="There is no set 'nothing'"):
        find_set(str(photos.parent), "nothing")


@pytest.mark.parametrize("where", ["beside", "root", "absolute", "working"])
def test_a_list_names_images_and_labels(photos, tmp_path, where, monkeypatch):
    lists = photos if where == "beside" else tmp_path / "lists"
    lists.mkdir(exist_ok=True)
    if where == "working":
        monkeypatch.chdir(photos)
    prefix = f"{photos}/" if where == "absolute" else ""
    lines = [f"{prefix}{NAMES[k % 3]}/{k:02}.png {k % 3}" for k in (5, 1, 5, 0)]
    (lists / "some.txt").write_text("\n".join(lines))
    index = found(f"list:{lists / 'some.txt'}", root=photos if where == "root" else "data")
    assert (index.name, index.count, index.classes) == ("some", 4, 3)
    assert numbers(index) == {0: (5, 2), 1: (1, 1), 2: (5, 2), 3: (0, 0)}


def test_what_is_not_read_is_said(photos):
    (photos / "notes.txt").write_text("x")
    (photos / ".hidden.png").write_bytes(png(1))
    (photos / "cat" / "link.png").symlink_to(photos / "bird" / "00.png")
    (photos / "cat" / "dangling.png").symlink_to(photos / "nowhere")
    (photos / "empty").mkdir()
    index = found(photos, labelled=True)
    assert index.count == 18
    (note,) = index.notes
    assert note.startswith("photos: Skipped: ")
    for reason in ("hidden or system files", "files that are not images", "broken links", "folders without images"):
        assert reason in note


def test_names_that_are_no_utf8_are_read(photos):
    name = os.fsdecode(b"caf\xe9.png")
    (photos / "cat" / name).write_bytes(png(99))
    index = found(photos, labelled=True)
    assert (99, 1) in numbers(index).values()
    assert "cat/caf\\xe9.png" in [row.file for row in index.rows()]


def _refusals(photos, tmp_path):
    empty, mixed, gone = tmp_path / "empty", tmp_path / "mixed", tmp_path / "gone.txt"
    empty.mkdir()
    (mixed / "cat").mkdir(parents=True)
    (mixed / "a.png").write_bytes(png(1))
    (mixed / "cat" / "b.png").write_bytes(png(2))
    gone.write_text("photos/cat/01.png 1\nphotos/cat/missing.png 1\n")
    (tmp_path / "nowhere.txt").write_text("missing.png\n")
    (tmp_path / "blank.txt").write_text("\n")
    (tmp_path / "file.bin").write_bytes(b"x")
    return {
        f"folder:{empty}": f"There is no image in {empty}.",
        f"folder:{mixed}": "holds images itself (a.png) and in subfolders",
        f"folder:{tmp_path / 'no'}": "There is no folder",
        f"folder:{gone}": "There is no folder",
        f"list:{gone}": "missing.png cannot be read: No such file or directory.",
        f"list:{tmp_path / 'nowhere.txt'}": "line 1: there is no image 'missing.png' below",
        f"list:{tmp_path / 'blank.txt'}": "is empty",
        f"list:{photos}": "cannot be read: Is a directory",
        f"{tmp_path / 'file.bin'}": "neither a zip file (.zip) nor an image list",
        f"{tmp_path / 'nothing'}": "names neither a folder nor a file",
    }


def test_what_is_no_set_is_refused_in_a_sentence(photos, tmp_path):
    for setting, sentence in _refusals(photos, tmp_path).items():
        with pytest.raises(MmoodError) as caught:
            find_set("data", setting, classing=Classing((), needed=True))
        assert sentence in str(caught.value), setting
    assert found(tmp_path / "mixed").classes is None


def test_class_names_that_do_not_fit_the_folders_are_refused(photos):
    with pytest.raises(MmoodError, match="has 3 class folders, and the class file has 2 names"):
        found(photos, ("cat", "dog"), labelled=True)
