"""`mmood doctor`: 0 only if the config would run, and a line for each shortfall."""

import shutil

import pytest

from mmood.cli.main import main

CONFIG = ["doctor", "--config", "vitb16_zeroshot.yaml"]


@pytest.fixture
def copied(toy_root, toy_flags, tmp_path):
    """The flags of the toy run on a copy of the sets that may be damaged."""
    root = tmp_path / "shards"
    shutil.copytree(toy_root, root)
    return root, [str(root) if flag == str(toy_root) else flag for flag in toy_flags]


def test_without_a_config_it_says_what_works_here(capsys):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "torch and torchvision" in shown
    assert "accelerator" in shown


def test_a_config_that_would_run(toy_flags, capsys):
    assert main([*CONFIG, *toy_flags]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "37 samples in 3 shards" in shown
    assert "The config would run." in shown
    assert "classes of toy-test" in shown
    assert "2 2-blue square blue square" in shown


def test_a_missing_set_is_a_shortfall(copied, capsys):
    root, flags = copied
    shutil.rmtree(root / "toy-near")
    assert main([*CONFIG, *flags]) == 1
    assert "toy-near" in capsys.readouterr().out


def test_a_changed_shard_is_a_shortfall(copied, capsys):
    root, flags = copied
    shard = next((root / "toy-far").glob("*.tar"))
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    assert main([*CONFIG, *flags]) == 1
    assert "toy-far" in capsys.readouterr().out


def test_missing_sets_of_a_benchmark_come_with_where_to_get_them(toy_model, tmp_path, capsys):
    flags = ["--model.encoder.name", toy_model, "--data.root", str(tmp_path)]
    assert main([*CONFIG, *flags]) == 1
    shown = "".join(capsys.readouterr().out.replace("│", "").split())
    assert "https://image-net.org" in shown


def test_a_key_that_does_not_exist_is_a_shortfall(toy_flags, capsys):
    assert main([*CONFIG, *toy_flags, "--data.rot", "x"]) == 1
    assert "data.root" in capsys.readouterr().out
