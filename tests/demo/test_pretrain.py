import json

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from mmood.demo import pretrain, world
from mmood.demo.pretrain import Recipe
from mmood.errors import MmoodError

TINY = Recipe(steps=25, pictures=800)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return pretrain.build(tmp_path_factory.mktemp("demo") / "clip", TINY)


def test_plain_open_clip_loads_it_and_it_is_better_than_chance(clip):
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{clip}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip}")
    pictures = [world.render("any", world.CLASSES, index, 0) for index in range(200)]
    prompts = tokenizer([f"a photo of a {name}" for name in world.CLASSES])
    assert prompts.shape[1] == 16
    with torch.no_grad():
        embedding = model.encode_image(torch.stack([transform(picture.image) for picture in pictures]), normalize=True)
        predicted = (embedding @ model.encode_text(prompts, normalize=True).T).argmax(dim=1).numpy()
    assert np.mean(predicted == np.arange(200) % 20) > 0.12  # chance is 0.05


def test_same_recipe_same_weights(clip, tmp_path):
    state = torch.get_rng_state()
    short = Recipe(seed=3, steps=2, pictures=256)
    first, again, other = (
        load_file(pretrain.build(tmp_path / name, recipe) / "open_clip_model.safetensors")
        for name, recipe in (("a", short), ("b", short), ("c", Recipe(seed=4, steps=2, pictures=256)))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_whole_model_is_kept_and_another_recipe_replaces_it(tmp_path):
    folder = pretrain.build(tmp_path / "clip", Recipe(steps=1, pictures=256))
    calls = []
    pretrain.build(folder, Recipe(steps=1, pictures=256), lambda *call: calls.append(call))
    assert not calls
    pretrain.build(folder, Recipe(steps=1, pictures=256, seed=1), lambda *call: calls.append(call))
    assert calls[-1][1:] == (1, 1)
    assert json.loads((folder / "recipe.json").read_text())["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


@pytest.mark.parametrize("recipe", [Recipe(steps=0), Recipe(pictures=255)])
def test_too_little_to_learn_from_is_refused(recipe, tmp_path):
    with pytest.raises(MmoodError, match="at least 1 step"):
        pretrain.build(tmp_path / "clip", recipe)
