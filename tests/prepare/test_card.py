"""Cards of sets: what is counted, and what stored features say."""

import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from mmood.cli.main import main
from mmood.encoders import EncoderSettings, build_encoder
from mmood.features.store import open_store
from mmood.prepare.similarity import NEAR, nearest
from mmood.recipes.registry import find_recipe, recipe_names


def card(capsys, *arguments):
    assert main(["sets", *arguments]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_list_names_every_benchmark_and_set_and_those_that_are_there(toy_root, capsys):
    shown = card(capsys, "--root", str(toy_root))
    for name in ("imagenet-mos", "cifar100-openood", *recipe_names()):
        assert name in shown
    assert "* toy-test 37" in shown


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_has_a_card(name, tmp_path, capsys):
    shown = card(capsys, name, "--root", str(tmp_path / "data"))
    recipe = find_recipe(name)
    for told in (recipe.title, recipe.licence, recipe.citation, *recipe.used_by, f"mmood prepare {name}"):
        assert " ".join(told.split()) in shown
    assert (f"{recipe.count:,} in the protocol" if recipe.count else "not stated") in shown


def test_copies_within_a_set_and_of_an_id_set_are_counted(toy_root, tmp_path, capsys):
    root = shutil.copytree(toy_root, tmp_path / "data")
    folder = shutil.copytree(toy_root.parent / "images" / "toy-near", tmp_path / "own")
    of_id = sorted((toy_root.parent / "images" / "toy-test").rglob("*.png"))[:3]
    for number, path in enumerate([*of_id, of_id[0]]):
        shutil.copy(path, folder / f"copy-{number}.png")
    assert main(["pack", "--out", str(root / "own"), "--folder", str(folder), "--quiet"]) == 0
    capsys.readouterr()
    shown = card(capsys, "own", "--root", str(root), "--id", "toy-test")
    assert "1 of its images are exact copies of others of it" in shown
    assert "4 of its images are exact copies of images of toy-test" in shown
    assert "21 of its images are exact copies of images of toy-near" in shown
    assert f"{21 + 4} samples" in shown


def test_a_folder_of_photos_has_a_card(toy_root, tmp_path, capsys):
    folder = toy_root.parent / "images" / "toy-near"
    shown = card(capsys, f"folder:{folder}", "--root", str(toy_root), "--id", "toy-test")
    size = Image.open(next(folder.rglob("*.png"))).size
    assert f"median {size[0]} x {size[1]} pixels" in shown
    assert "0 of its images are exact copies of images of toy-test" in shown


def test_similarities_are_those_of_the_stored_features(toy_root, toy_model, toy_flags, tmp_path, capsys):
    features = tmp_path / "features"
    flags = ["--config", "vitb16_zeroshot.yaml", *toy_flags, "--data.features", str(features), "--quiet"]
    assert main(["embed", *flags]) == 0
    capsys.readouterr()
    shown = card(
        capsys, "toy-near", "--root", str(toy_root), "--id", "toy-test", "--features", str(features), "--texts"
    )
    found = re.search(r"toy-test (\S+), with the nearest of its class names (\S+); (\d+) images", shown)
    near, own = (
        functional.normalize(open_store(next(features.glob(f"{name}.*"))).embedding.double(), dim=-1)
        for name in ("toy-near", "toy-test")
    )
    cosines = np.array([max(float(a @ b) for b in own) for a in near])
    with torch.no_grad():
        texts = build_encoder(EncoderSettings(toy_model)).prototypes(
            ("red square", "green square", "blue square"), ("a photo of a {}",)
        )
    assert float(found[1]) == pytest.approx(cosines.mean(), abs=1e-3)
    assert float(found[2]) == pytest.approx(float((near @ texts.double().T).amax(dim=1).mean()), abs=1e-3)
    assert int(found[3]) == (cosines >= NEAR).sum()


def test_the_nearest_of_none():
    assert nearest(torch.empty(0, 3), torch.eye(3)).tolist() == []


def test_without_stores_or_names_it_says_so(toy_root, tmp_path, capsys):
    shown = card(capsys, "toy-near", "--root", str(toy_root), "--id", "toy-test", "--features", str(tmp_path))
    assert "no encoder has stored features" in shown
    assert main(["sets", "toy-nearr", "--root", str(toy_root)]) == 2
    assert "There is no set 'toy-nearr'" in capsys.readouterr().err
    assert main(["sets", "toy-near", "--root", str(toy_root), "--id", "toy-tst"]) == 2
    assert "toy-tst" in capsys.readouterr().err
