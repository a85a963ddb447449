"""Disks that are full or read-only, and shards that disappear: the sentence, what stays, and how the work goes on."""

import json
import subprocess

import pytest
import torch
import yaml

from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.files import whole_file, write_atomically
from mmood.runs.checkpoint_files import WholeCheckpoints


@pytest.fixture(autouse=True)
def no_features(tmp_path, monkeypatch) -> None:
    """Features that other tests stored would stand for the damaged images."""
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))


def mount(*arguments):
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A disk of 64 KiB, and a function that remounts it with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=64k", "none", str(folder)):
        pytest.skip("a small disk needs the right to mount one (root)")
    yield folder, lambda options: mount("-o", f"remount,{options}", str(folder))
    subprocess.run(["umount", "-l", str(folder)], check=True)


def said(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mmood:")]
    assert len(lines) == 1
    return lines[0]


def left(folder):
    """Return the files that have content, hidden ones too."""
    return {path.name for path in folder.rglob("*") if path.is_file() and path.stat().st_size}


def fill(folder, keep):
    """Leave `keep` KiB of the disk."""
    free = int(subprocess.run(["df", "--output=avail", str(folder)], capture_output=True, text=True).stdout.split()[-1])
    (folder / "filler").write_bytes(bytes(1024 * (free - keep)))


def test_a_file_on_a_full_disk_is_the_old_one(disk):
    folder, _ = disk
    write_atomically(folder / "a", b"old")
    with pytest.raises(MmoodError, match="a cannot be written: No space left on device"):
        write_atomically(folder / "a", bytes(100_000))
    assert (folder / "a").read_bytes() == b"old"
    assert left(folder) == {"a"}


def test_a_file_that_is_given_up_is_the_old_one(tmp_path):
    write_atomically(tmp_path / "a", b"old")
    file = whole_file(tmp_path / "a")
    file.__enter__().write(b"new")
    assert not file.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert left(tmp_path) == {"a"}


def test_a_checkpoint_on_a_full_disk_is_the_old_one(disk):
    folder, _ = disk
    saver = WholeCheckpoints()
    saver.save_checkpoint({"step": 1}, folder / "a.ckpt")
    with pytest.raises(MmoodError, match=r"a\.ckpt cannot be written: No space left on device"):
        saver.save_checkpoint({"step": torch.zeros(100_000)}, folder / "a.ckpt")
    assert saver.load_checkpoint(folder / "a.ckpt") == {"step": 1}
    assert left(folder) == {"a.ckpt"}


def test_results_on_a_full_disk(disk, toy_flags, capsys):
    folder, remount = disk
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--run_dir", str(folder / "run")]
    fill(folder, keep=12)
    assert main(arguments) == 2
    assert "No space left on device" in said(capsys)
    assert "results.json" not in left(folder)
    assert remount("size=8m")
    assert main(arguments) == 0
    assert json.loads((folder / "run" / "results.json").read_text())["rows"]


def test_packing_onto_a_full_disk_goes_on_later(disk, toy_root, tmp_path, capsys):
    folder, remount = disk
    images = toy_root.parent / "images" / "toy-near"
    arguments = ["pack", "--out", str(folder / "near"), "--folder", str(images), "--shard-size", "5", "--quiet"]
    assert main(arguments) == 2
    sentence = said(capsys)
    assert "No space left on device" in sentence
    assert "run the same command again to resume" in sentence
    assert not (folder / "near" / "index.json").exists()
    assert remount("size=8m")
    assert main(arguments) == 0
    whole = tmp_path / "near"
    assert main([*arguments[:2], str(whole), *arguments[3:]]) == 0
    for path in whole.iterdir():
        assert path.read_bytes() == (folder / "near" / path.name).read_bytes()


def test_features_on_a_full_disk_go_on_later(disk, toy_flags, tmp_path, capsys):
    folder, remount = disk
    arguments = ["embed", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--data.features"]
    fill(folder, keep=12)
    assert main([*arguments, str(folder / "stores")]) == 2
    assert "No space left on device" in said(capsys)
    whole = [path.parent for path in folder.rglob("manifest.json")]
    assert remount("size=8m")
    assert main([*arguments, str(folder / "stores")]) == 0
    assert main([*arguments, str(tmp_path / "stores")]) == 0
    found = sorted((tmp_path / "stores").glob("*/features.safetensors"))
    assert len(found) == 3 > len(whole)
    for path in found:
        assert path.read_bytes() == (folder / "stores" / path.parent.name / path.name).read_bytes()


FIT = {
    "model": {
        "class_path": "AlignmentFineTune",
        "init_args": {
            "alignment": 0.001,
            "scores": {"mcm": {"class_path": "MCM", "init_args": {"temperature": 1.0}}},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001}},
        },
    },
    "trainer": {"precision": "32-true", "logger": False, "max_epochs": 1},
}


def test_a_checkpoint_of_fit_on_a_full_disk(disk, toy_flags, tmp_path, capsys):
    folder, _ = disk
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(FIT))
    flags = [*toy_flags, "--data.train", "toy-train", "--data.val.id", "0.25", "--data.batch_size", "8"]
    assert main(["fit", "--config", str(tmp_path / "fit.yaml"), *flags, "--run_dir", str(folder / "run")]) == 2
    sentences = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mmood:")]
    assert len(sentences) == 2
    assert sentences[0].startswith("mmood: A step needs about")
    assert ".ckpt cannot be written: No space left on device" in sentences[1]
    assert not [name for name in left(folder) if "ckpt" in name]


@pytest.mark.parametrize("place", ["run", "stores"])
def test_a_read_only_disk(disk, toy_flags, capsys, place):
    folder, remount = disk
    assert remount("ro")
    where = ["--run_dir", str(folder / "run")] if place == "run" else ["--data.features", str(folder / "stores")]
    command = "test" if place == "run" else "embed"
    assert main([command, "--config", "vitb16_zeroshot.yaml", *toy_flags, *where]) == 2
    sentence = said(capsys)
    assert "Read-only file system" in sentence or "is read-only" in sentence
    assert str(folder) in sentence


@pytest.mark.parametrize("command", ["test", "embed", "pack"])
def test_a_file_in_the_place_of_a_folder(toy_root, toy_flags, tmp_path, capsys, command):
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "below")
    arguments = {
        "test": ["--config", "vitb16_zeroshot.yaml", *toy_flags, "--run_dir", place],
        "embed": ["--config", "vitb16_zeroshot.yaml", *toy_flags, "--data.features", place],
        "pack": ["--out", place, "--folder", str(toy_root.parent / "images" / "toy-near"), "--quiet"],
    }
    assert main([command, *arguments[command]]) == 2
    assert "Not a directory" in said(capsys)


@pytest.mark.parametrize("skip", [False, True])
def test_a_shard_that_disappears(toy_root, toy_flags, tmp_path, capsys, skip):
    """The indices are read when a run starts, the shards when it comes to them."""
    root, gate = tmp_path / "sets", tmp_path / "sets" / "toy-near" / "toy-near-000001.tar"
    for folder in toy_root.iterdir():
        if folder.is_dir():
            (root / folder.name).mkdir(parents=True)
            for path in folder.iterdir():
                (root / folder.name / path.name).symlink_to(path)
    gate.unlink()
    flags = [str(root) if flag == str(toy_root) else flag for flag in toy_flags]
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *flags, "--run_dir", str(tmp_path / "run")]
    code = main([*arguments, "--data.loader.on_error", "skip" if skip else "raise"])
    if skip:
        assert code == 0
        skipped = json.loads((tmp_path / "run" / "results.json").read_text())["skipped"]
        assert [entry["key"] for entry in skipped] == list(range(15, 21))
        return
    assert code == 2
    sentence = said(capsys)
    assert "toy-near-000001.tar cannot be read after 0 of 6 samples" in sentence
    assert not (tmp_path / "run" / "results.json").exists()
