"""`mmood embed` and what reads its stores, from outside: commands in, files out."""

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mmood.cli.main import main
from mmood.features.chunks import ChunkFolder
from mmood.runs import locks

CONFIG = ("--config", "vitb16_zeroshot.yaml")
SETS = {"toy-test": 37, "toy-near": 21, "toy-far": 2}


@pytest.fixture
def flags(toy_flags, tmp_path):
    """Batches of 8, and a folder of stores for each test."""
    return [*toy_flags, "--data.batch_size", "8", "--data.features", str(tmp_path / "stores")]


def embed(flags, *more):
    assert main(["embed", *CONFIG, *flags, "--quiet", *more]) == 0


def results_of(flags, folder, *more):
    assert main(["test", *CONFIG, *flags, "--run_dir", str(folder), *more]) == 0
    return json.loads((folder / "results.json").read_text())


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_set_is_encoded_once_and_the_numbers_are_those_of_the_images(flags, toy_flags, tmp_path, capsys):
    images = results_of([*toy_flags, "--data.features", "off"], tmp_path / "images")
    embed(flags)
    said = capsys.readouterr().out
    assert all(f"{name}: {count} images" in said for name, count in SETS.items())
    assert {path.name.split(".")[0] for path in (tmp_path / "stores").iterdir()} == set(SETS)
    stored = results_of(flags, tmp_path / "stored")
    assert stored["rows"] == images["rows"]
    for name in SETS:
        with (
            np.load(tmp_path / f"images/scores/{name}.npz") as one,
            np.load(tmp_path / f"stored/scores/{name}.npz") as two,
        ):
            np.testing.assert_array_equal(one["label"], two["label"])
            np.testing.assert_allclose(one["max_logit"], two["max_logit"], atol=1e-6)


def test_provenance_names_the_stores_and_the_bank(flags, toy_flags, tmp_path):
    more = ["--data.train", "toy-train", "--data.val.id", "0.25"]
    scores = "{one: {class_path: KNN}, few: {class_path: KNN, init_args: {shots: 2}}, mcm: {class_path: MCM}}"
    embed([*flags, *more], "--dtype", "fp16")
    found = results_of([*flags, *more], tmp_path / "stored", "--model.scores", scores)["provenance"]
    for name in (*SETS, "toy-train"):
        (folder,) = (tmp_path / "stores").glob(f"{name}.*")
        digest = hashlib.sha256((folder / "features.safetensors").read_bytes()).hexdigest()
        if name == "toy-train":
            assert [bank["features_sha256"] for bank in found["banks"]] == [digest, digest]
        else:
            assert found["sets"][name]["features"] == {"sha256": digest, "dtype": "fp16", "batch_size": 8}
    assert [(bank["set"], bank["shots"], bank["dtype"], bank["labels"]) for bank in found["banks"]] == [
        ("toy-train", None, "fp16", "true"),
        ("toy-train", 2, "fp16", "true"),
    ]
    whole, few = (bank["n"] for bank in found["banks"])
    assert 30 < whole < 48
    assert few == 6
    images = results_of([*toy_flags, "--data.features", "off"], tmp_path / "images")["provenance"]
    assert images["banks"] == []
    assert {entry["features"] for entry in images["sets"].values()} == {None}


def test_a_second_test_with_other_scores_reads_no_image(flags, toy_root, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(toy_root, root)
    flags = [*flags, "--data.root", str(root), "--data.class_names", str(root / "classes.txt")]
    embed(flags)
    for shard in root.rglob("*.tar"):
        shard.unlink()
    scores = "{entropy: {class_path: Entropy, init_args: {temperature: 1.0}}}"
    assert {row["score"] for row in results_of(flags, tmp_path / "run", "--model.scores", scores)["rows"]} >= {
        "entropy"
    }


def test_stores_of_the_cache_are_read_if_they_fit_and_never_written_by_a_test(toy_flags, tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    results_of(toy_flags, tmp_path / "first")
    assert not (tmp_path / "cache" / "features").exists()
    embed(toy_flags, "--sets", "toy-near")
    (store,) = (tmp_path / "cache/features").iterdir()
    # Other embeddings in the store show that it is read.
    tensors = store / "features.safetensors"
    stored = load_file(tensors)
    save_file({**stored, "embedding": stored["embedding"].flip(0, 1)}, tensors)
    changed = results_of(toy_flags, tmp_path / "second")
    assert changed["rows"] != results_of([*toy_flags, "--data.features", "off"], tmp_path / "third")["rows"]


def embed_and_die_after_3_chunks(arguments):
    write, written = ChunkFolder.write, []

    def write_or_die(self, chunk, tensors):
        if len(written) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        written.append(chunk)
        write(self, chunk, tensors)

    ChunkFolder.write = write_or_die
    return main(arguments)


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(flags, tmp_path, forked):
    whole = [*flags, "--data.features", str(tmp_path / "whole")]
    embed(whole, "--chunk", "8", "--sets", "toy-test")
    few = ["embed", *CONFIG, *flags, "--chunk", "8", "--sets", "toy-test"]
    assert forked.call(embed_and_die_after_3_chunks, few).code == -signal.SIGKILL
    (store,) = (tmp_path / "stores").glob("[!.]*")
    assert len(list((store / "parts").glob("*.safetensors"))) == 3
    assert not (store / "manifest.json").exists()
    embed(flags, "--chunk", "8", "--sets", "toy-test")
    assert files(tmp_path / "stores") == files(tmp_path / "whole")


def test_the_second_of_two_at_once_waits_and_encodes_nothing_again(flags, tmp_path, forked, monkeypatch):
    embed([*flags, "--data.features", str(tmp_path / "whole")], "--sets", "toy-test")
    few = ["embed", *CONFIG, *flags, "--sets", "toy-test"]
    first = forked.paused("mmood.features.chunks:ChunkFolder.write", tmp_path, few)
    said = []

    def complain(sentence):
        said.append(sentence)
        (tmp_path / "release").touch()

    monkeypatch.setattr(locks, "complain", complain)
    # Other chunks: the store of the first is whole by then, and stays as it is.
    embed(flags, "--chunk", "8", "--sets", "toy-test")
    assert first.wait() == 0
    assert len(said) == 1
    assert said[0].startswith(f"Waiting for process {first.pid} on ")
    assert files(tmp_path / "stores") == files(tmp_path / "whole")


def test_a_chunk_with_too_few_rows_is_no_part_of_a_store(flags, tmp_path, forked, capsys):
    whole = [*flags, "--data.features", str(tmp_path / "whole")]
    embed(whole, "--chunk", "8", "--sets", "toy-test")
    few = ["embed", *CONFIG, *flags, "--chunk", "8", "--sets", "toy-test"]
    assert forked.call(embed_and_die_after_3_chunks, few).code == -signal.SIGKILL
    (store,) = (tmp_path / "stores").glob("[!.]*")
    chunk = store / "parts" / "000001.safetensors"
    save_file({name: tensor[:5] for name, tensor in load_file(chunk).items()}, chunk)
    capsys.readouterr()
    assert main([*few, "--quiet"]) == 2
    assert "Chunk 1 of the feature store" in (said := capsys.readouterr().err)
    assert "has [5] rows for 8 images" in said
    assert not (store / "manifest.json").exists()
    embed(flags, "--chunk", "8", "--sets", "toy-test")
    assert files(tmp_path / "stores") == files(tmp_path / "whole")


@pytest.mark.ddp
def test_workers_and_ranks_do_not_change_a_byte(flags, tmp_path, forked):
    embed(flags, "--chunk", "8")
    more = ["--chunk", "8", "--data.features", str(tmp_path / "many"), "--data.loader.workers", "2"]
    finished = forked.ranks(["embed", *CONFIG, *flags, *more, "--quiet"])
    assert finished.code == 0, finished.err
    assert files(tmp_path / "many") == files(tmp_path / "stores")


def test_a_store_of_other_weights_is_refused(flags, toy_model, tmp_path, capsys):
    embed(flags)
    other = tmp_path / "other"
    shutil.copytree(toy_model.removeprefix("local-dir:"), other)
    path = other / "open_clip_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    arguments = ["test", *CONFIG, *flags, "--run_dir", str(tmp_path / "run")]
    capsys.readouterr()
    assert main([*arguments, "--model.encoder.name", f"local-dir:{other}"]) == 2
    assert "was made with other weights (weights_sha256" in capsys.readouterr().err
    assert main([*arguments, "--model.encoder.image_size", "16"]) == 2
    assert "was made with " in capsys.readouterr().err
    # The same weights under another name fit.
    shutil.copytree(toy_model.removeprefix("local-dir:"), tmp_path / "copy")
    assert main([*arguments, "--model.encoder.name", f"local-dir:{tmp_path / 'copy'}"]) == 0
    shutil.rmtree(tmp_path / "stores")
    assert main([*arguments, "--overwrite", "true"]) == 2
    assert "no store of the set 'toy-test'" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_halves_the_store_and_keeps_the_numbers(dtype, flags, toy_flags, tmp_path):
    embed(flags, "--dtype", dtype)
    for path in (tmp_path / "stores").glob("*/features.safetensors"):
        with safe_open(path, framework="pt") as file:
            assert file.get_slice("features").get_dtype() == {"fp16": "F16", "bf16": "BF16"}[dtype]
    results_of(flags, tmp_path / "stored")
    results_of([*toy_flags, "--data.features", "off"], tmp_path / "images")
    with (
        np.load(tmp_path / "images/scores/toy-test.npz") as one,
        np.load(tmp_path / "stored/scores/toy-test.npz") as two,
    ):
        np.testing.assert_allclose(one["max_logit"], two["max_logit"], atol={"fp16": 1e-3, "bf16": 1e-2}[dtype])


def test_what_resized_the_images_is_part_of_a_store_and_of_the_provenance(flags, tmp_path, capsys):
    torch_ = ["--data.resize", "torch"]
    embed(flags, *torch_)
    assert main(["test", *CONFIG, *flags, "--run_dir", str(tmp_path / "pillow")]) == 2
    assert "resized by another library (`data.resize`)" in capsys.readouterr().err
    stored = results_of(flags, tmp_path / "stored", *torch_)
    images = results_of([*flags, "--data.features", "off"], tmp_path / "images", *torch_)
    assert stored["rows"] == images["rows"]
    assert stored["provenance"]["encoder"]["resize"] == "torch"
    assert main(["test", *CONFIG, *flags, "--data.resize", "opencv", "--run_dir", str(tmp_path / "none")]) == 2
    assert "data.resize" in capsys.readouterr().err


def test_a_value_that_is_not_finite_names_set_and_key(flags, toy_model, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(toy_model.removeprefix("local-dir:"), broken)
    weights = load_file(broken / "open_clip_model.safetensors")
    for scale, words in ((float("nan"), "that is not finite"), (1e6, "beyond the range of fp16; store fp32 or bf16")):
        weights["visual.ln_post.weight"].fill_(scale)
        save_file(weights, broken / "open_clip_model.safetensors")
        arguments = [
            "embed",
            *CONFIG,
            *flags,
            "--quiet",
            "--model.encoder.name",
            f"local-dir:{broken}",
            "--dtype",
            "fp16",
        ]
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert "of key 0 in the set 'toy-test'" in error


def test_what_cannot_be_encoded_is_one_sentence(flags, capsys):
    assert main(["embed", *CONFIG, *flags, "--sets", "toy-farr"]) == 2
    assert "did you mean 'toy-far'?" in capsys.readouterr().err
    assert main(["embed", *CONFIG, *flags, "--data.features", "off"]) == 2
    assert "`data.features` is off" in capsys.readouterr().err
