"""Indexing shards that exist."""

import gzip
import json

import pytest
from data_world import eval_loader, members_of, number_of, png, tar_bytes

from mmood.cli.pack import main
from mmood.errors import MmoodError
from mmood.shards.shard_index import load_index


def run(*arguments):
    return main([*map(str, arguments), "--quiet"])


def shard(folder, members):
    folder.mkdir(exist_ok=True)
    (folder / "x-0.tar").write_bytes(tar_bytes(members))


def test_indexing_shards_that_exist(tmp_path):
    shard(tmp_path / "id", members_of(range(4), labelled=True))
    (tmp_path / "id/x-1.tar").write_bytes(tar_bytes(members_of(range(4, 7), labelled=True)))
    assert run("--index", tmp_path / "id") == 0
    index = load_index(str(tmp_path), "id")
    assert ([s.nsamples for s in index.shards], index.classes, index.source) == ([4, 3], 5, "made")
    assert [row.sample for row in index.rows()] == [f"s{k:04d}" for k in range(7)]
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
        ([("a.png", b"1"), ("a.cls", b"cat"), ("b.png", b"1"), ("b.cls", b"0")], "sample 'a' of .* cannot be indexed"),
        ([("0001.left.png", b"1"), ("a.txt", b"1")], "hold no sample.*0001.left.png.*a.txt"),
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
        load_index(str(tmp_path), "set").rows()
    assert json.loads(table.read_text())["name"] == "thing"


def test_indexing_counts_what_it_passes_over(tmp_path, capsys):
    folder = tmp_path / "set"
    shard(
        folder,
        [
            *[(f"{name}.png", png(number)) for number, name in enumerate(("img 2.0", "v1.2.3", "DSC.0001", "plain"))],
            ("x.jfif", png(4)),
            ("plain.txt", b"3"),
            ("0001.left.png", png(5)),
            ("__MACOSX/._plain.png", b"-"),
        ],
    )
    (folder / "x-1.tar.gz").write_bytes(gzip.compress(tar_bytes([("zipped.png", png(6)), ("zipped.json", b"{}")])))
    (folder / "x-2.tar").write_bytes(tar_bytes([]))
    (folder / "notes.pdf").write_bytes(b"-")
    assert run("--index", folder) == 0
    shown = capsys.readouterr().out
    for part in (
        "6 samples in 3 shards",
        "members that are neither image, json nor label (`cls`) ('plain.txt')",
        "members with an extra field (NAME.FIELD.EXTENSION) ('0001.left.png')",
        "hidden or system files and folders ('__MACOSX/._plain.png')",
        "shards without a sample ('x-2.tar')",
        "files and folders that are not shards ('notes.pdf')",
    ):
        assert part in shown
    index = load_index(str(tmp_path), "set")
    assert [row.sample for row in index.rows()] == ["img 2.0", "v1.2.3", "DSC.0001", "plain", "x", "zipped"]
    batch = next(iter(eval_loader(index, batch_size=9, classes=None)))
    assert [number_of(image) for image in batch["image"]] == [0, 1, 2, 3, 4, 6]


@pytest.mark.parametrize("member", [b'{"name": NaN}', b"[1]", '{"name": "é"}'.encode("latin-1"), b"{"])
def test_a_json_member_that_cannot_be_used_is_passed_over(tmp_path, member, capsys):
    shard(
        tmp_path / "set", [("a.png", png(1)), ("a.json", member), ("a.cls", b"0"), ("b.png", png(2)), ("b.cls", b"1")]
    )
    assert run("--index", tmp_path / "set") == 0
    assert "json members that cannot be used ('a.json')" in capsys.readouterr().out
    index = load_index(str(tmp_path), "set")
    assert [(row.label, row.name) for row in index.rows()] == [(0, ""), (1, "")]
    batch = next(iter(eval_loader(index, classes=2)))
    assert (batch["label"].tolist(), [number_of(image) for image in batch["image"]]) == ([0, 1], [1, 2])


def test_the_index_learns_names_that_samples_agree_on(tmp_path):
    def sample(key, label, name):
        return [
            (f"{key}.png", png(1)),
            (f"{key}.cls", str(label).encode()),
            (f"{key}.json", f'{{"name": "{name}"}}'.encode()),
        ]

    members = [
        *sample("a", 0, "cat"),
        *sample("b", 0, "cat"),
        *sample("c", 2, "fox"),
        *sample("d", 3, "x"),
        *sample("e", 3, "y"),
    ]
    shard(tmp_path / "set", members)
    run("--index", tmp_path / "set")
    index = load_index(str(tmp_path), "set")
    (tmp_path / "names.txt").write_text("fox\nbird\ncat\nx\n")
    (tmp_path / "set/index.json").unlink()
    with pytest.raises(MmoodError, match="label 0 is 'cat' in the samples and 'fox' in the class file"):
        run("--index", tmp_path / "set", "--classes", tmp_path / "names.txt")
    assert (index.class_names, index.seen_names, index.known_names) == (
        (),
        ("cat", "", "fox", ""),
        ("cat", "", "fox", ""),
    )
