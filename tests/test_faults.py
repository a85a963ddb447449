"""Damaged data from outside: the sentence, the exit code, and what stays on disk."""

import io
import json
import shutil
import tarfile

import pytest

from mmood.cli.main import main


@pytest.fixture(autouse=True)
def no_features(tmp_path, monkeypatch) -> None:
    """Features that other tests stored would stand for the damaged images."""
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def damaged(toy_root, toy_flags, tmp_path):
    """A copy of the toy sets, a function that edits one of its shards, and the arguments of a run over it."""
    root = tmp_path / "shards"
    shutil.copytree(toy_root, root)
    flags = [str(root) if flag == str(toy_root) else flag for flag in toy_flags]
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *flags, "--run_dir", str(tmp_path / "run")]

    def edit(set_name, number, change):
        shard = sorted((root / set_name).glob("*.tar"))[number]
        with tarfile.open(shard) as tar:
            members = [(member.name, tar.extractfile(member).read()) for member in tar]
        with tarfile.open(shard, "w") as tar:
            for name, content in change(members):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return shard

    return edit, arguments, tmp_path / "run"


def break_third_image(members):
    images = [name for name, _ in members if name.endswith((".png", ".jpg"))]
    return [(name, b"no image" if name == images[2] else content) for name, content in members]


def drop_labels(members):
    return [(name, content) for name, content in members if not name.endswith(".cls")]


def drop_last_sample(members):
    last = members[-1][0].split(".")[0]
    return [(name, content) for name, content in members if name.split(".")[0] != last]


def double_last_sample(members):
    last = members[-1][0].split(".")[0]
    return members + [(f"extra.{name.split('.')[1]}", c) for name, c in members if name.split(".")[0] == last]


@pytest.mark.parametrize(
    ("set_name", "change", "expected"),
    [
        ("toy-near", break_third_image, ["toy-near-000001.tar", "key 17"]),
        ("toy-test", drop_labels, ["toy-test-000001.tar", "key 15", "cls"]),
        ("toy-near", drop_last_sample, ["toy-near-000001.tar", "6", "5"]),
        ("toy-near", double_last_sample, ["toy-near-000001.tar", "6"]),
    ],
)
def test_damage_ends_the_run_with_shard_and_reason(damaged, capsys, set_name, change, expected):
    edit, arguments, folder = damaged
    edit(set_name, 1, change)
    assert main(arguments) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mmood:")]
    assert len(said) == 1
    for part in expected:
        assert part in said[0]
    assert {path.name for path in folder.rglob("*") if path.is_file()} <= {"config.test.yaml", "metrics.csv"}


def test_a_truncated_shard_ends_the_run(damaged, capsys):
    edit, arguments, folder = damaged
    shard = edit("toy-far", 0, lambda members: members)
    shard.write_bytes(shard.read_bytes()[:1500])
    assert main(arguments) == 2
    assert shard.name in capsys.readouterr().err
    assert not (folder / "results.json").exists()


def test_skipping_is_counted_and_listed(damaged, capsys):
    edit, arguments, folder = damaged
    edit("toy-near", 1, break_third_image)
    assert main([*arguments, "--data.loader.on_error", "skip"]) == 0
    results = json.loads((folder / "results.json").read_text())
    (skipped,) = results["skipped"]
    assert (skipped["set"], skipped["key"]) == ("toy-near", 17)
    assert {row["n_ood"] for row in results["rows"] if row["set"] == "toy-near"} == {20}
    assert "Skipped because they could not be read: 1 image." in capsys.readouterr().out


@pytest.mark.ddp
def test_damage_on_one_rank_ends_all_of_them(damaged, forked):
    edit, arguments, folder = damaged
    edit("toy-near", 1, break_third_image)
    ended = forked.ranks([*arguments, "--data.batch_size", "4"])
    assert ended.code != 0
    assert "toy-near-000001.tar, key 17" in ended.err
    assert not (folder / "results.json").exists()
