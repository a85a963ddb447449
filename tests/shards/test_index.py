import json

import pytest
from data_world import write_set

from mmood.errors import MmoodError
from mmood.shards.index import MissingSetError
from mmood.shards.locations import check_relative, join
from mmood.shards.shard_index import load_index


def edited(index, tmp_path, change):
    path = tmp_path / index.name / "index.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_round_trip_counts_and_hash(tmp_path):
    index = write_set(tmp_path, "a", [3, 0, 2])
    assert index.count == 5
    assert index.offsets.tolist() == [0, 3, 3, 5]
    assert load_index(str(tmp_path), "a") == index
    assert len(index.hash) == 64
    renamed = write_set(tmp_path / "elsewhere", "a", [3, 0, 2])
    assert renamed.hash == index.hash


def test_hash_follows_content(tmp_path):
    assert write_set(tmp_path, "a", [3, 2]).hash != write_set(tmp_path, "b", [2, 3]).hash


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(schema=2), "has schema 2, but this version of mmood reads schema 1"),
        (lambda d: d.update(shards={}), "`shards` must be of type list"),
        (lambda d: d["shards"][0].pop("nsamples"), r"shards\[0\], `nsamples` must be of type int, but is None"),
        (lambda d: d["shards"][0].update(nsamples=True), "`nsamples` must be of type int"),
        (lambda d: d["shards"][0].update(nsamples=-1), "must not be negative"),
        (lambda d: d["shards"][0].update(sha256="xyz"), "64 hexadecimal digits"),
        (lambda d: d["shards"][0].update(url="/etc/passwd"), "must be relative"),
        (lambda d: d["shards"][0].update(url="../b/x.tar"), "must not leave the folder"),
        (lambda d: d["shards"][0].update(url="file:///x.tar"), "must be relative"),
        (lambda d: d.update(classes=0), "`classes` is 0"),
        (lambda d: d.update(class_names=[1]), "`class_names` must be a list of names"),
        (lambda d: d["shards"][0].update(url="pipe:touch x"), "wants to run a command"),
    ],
)
def test_errors_name_file_and_key(tmp_path, change, sentence):
    index = write_set(tmp_path, "a", [2])
    edited(index, tmp_path, change)
    with pytest.raises(MmoodError, match=sentence) as caught:
        load_index(str(tmp_path), "a")
    assert "a/index.json" in str(caught.value)


def test_missing_and_unindexed_sets(tmp_path):
    with pytest.raises(MissingSetError, match="There is no set 'a'"):
        load_index(str(tmp_path), "a")
    index = write_set(tmp_path, "b", [2])
    (tmp_path / index.name / "index.json").unlink()
    with pytest.raises(MissingSetError, match="mmood pack --index"):
        load_index(str(tmp_path), "b")
    (tmp_path / "b" / "index.json").write_text("{")
    with pytest.raises(MmoodError, match="is not JSON"):
        load_index(str(tmp_path), "b")
    with pytest.raises(MmoodError, match="one folder of letters"):
        load_index(str(tmp_path), "../b")


def test_no_path_becomes_a_shell_command():
    assert join("pipe:cat /d/{} | x", "a/b.tar") == "pipe:cat /d/a/b.tar | x"
    with pytest.raises(MmoodError, match="cannot be used in the command"):
        join("pipe:cat /d/", "a/b; rm x.tar")
    assert check_relative("x y.tar") is None
    assert check_relative("a/./b.tar") is not None
