"""Recipes: those that come with mmood, and what a recipe must not be."""

from pathlib import Path

import pytest

from mmood.classes.names import load_class_names
from mmood.data.benchmarks import BENCHMARKS
from mmood.errors import MmoodError
from mmood.files import parse_yaml
from mmood.recipes.recipe import parse_recipe, read_recipe
from mmood.recipes.registry import find_recipe, recipe_names

RECIPES = [find_recipe(name) for name in recipe_names()]
CONFIGS = Path(__file__).parents[2] / "configs"
SMALLEST = "{name: pets, images: [{url: https://example.org/pets.zip}]}"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_says_what_a_card_needs_and_where_its_files_are(recipe):
    assert recipe.title != recipe.name
    assert recipe.licence
    assert recipe.citation
    assert recipe.home.startswith("http")
    assert recipe.used_by
    for need in recipe.needs:
        assert need.best.urls or need.best.obtain
        for file in need.files:
            assert "drive.google" not in " ".join(file.urls)
            assert not file.sha256 or file.bytes
    assert recipe.variant is None or find_recipe(recipe.variant).variant == recipe.name
    assert {part for part in recipe.sets} <= set(recipe_names())
    if recipe.labels == "list":
        assert recipe.class_names is not None
        load_class_names(recipe.class_names)


def test_the_counts_are_those_of_the_protocols():
    counts = {recipe.name: recipe.count for recipe in RECIPES}
    assert (counts["imagenet"], counts["imagenet_openood"], counts["imagenet_openood_val"]) == (50_000, 45_000, 5_000)
    assert (counts["textures"], counts["textures_5160"]) == (5_640, 5_160)
    assert (counts["ssb_hard"], counts["ninco"], counts["openimage_o"]) == (49_000, 5_879, 15_869)
    assert [counts[f"camvid-{split}"] for split in ("train", "val", "test")] == [367, 101, 233]
    assert [counts[f"streethazards-{split}"] for split in ("train", "val", "test")] == [5_125, 1_031, 1_500]
    full = BENCHMARKS["imagenet-full-spectrum"]
    assert sum(counts[name] for name in (full.id, *full.csid)) == 95_000
    assert counts["imagenet_x_id"] + counts["imagenet_x_ood"] == counts["imagenet"]


def test_dense_configs_test_on_sets_with_recipes():
    for name in ("camvid_segnet.yaml", "streethazards_obsnet.yaml", "bdd_obsnet.yaml"):
        config = parse_yaml((CONFIGS / name).read_text(), name)["data"]
        data = parse_yaml((CONFIGS / config).read_text(), config) if isinstance(config, str) else config
        assert all(find_recipe(each).masks for each in (data["train"], data["val"], *data["test"]))


def test_archives_of_one_address_are_the_same_in_all_recipes():
    found = {}
    for recipe in RECIPES:
        for need in recipe.needs:
            for file in need.files:
                for url in file.urls:
                    facts = (file.bytes, file.sha256, file.md5)
                    assert found.setdefault(url, facts) == facts, url


def test_id_sets_of_benchmarks_have_labels_and_the_names_of_the_benchmark():
    for benchmark in BENCHMARKS.values():
        for recipe in map(find_recipe, (benchmark.id, *benchmark.csid)):
            assert recipe.labels != "none"
            assert benchmark.class_names in (None, recipe.class_names)


def test_the_shortest_recipe():
    recipe = parse_recipe(SMALLEST, "It")
    assert (recipe.title, recipe.count, recipe.licence, recipe.labels) == ("pets", None, "not stated", "none")
    assert recipe.images[0].best.name == "pets.zip"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{name: ../pets, images: [{url: https://a.b/c.zip}]}", "has name = '../pets'"),
        ("{name: pets}", "either `images` .archives. or `sets`"),
        ("{name: pets, images: [{url: file:///etc/passwd}]}", "it must begin with http://"),
        ("{name: pets, images: [{url: https://a.b/c.zip, sha256: abc}]}", "it must be 64 digits"),
        ("{name: pets, images: [{file: c.zip}]}", "has no 'url'"),
        ("{name: pets, images: [{url: https://a.b/}]}", "has no file name"),
        ("{name: pets, images: [{url: https://a.b/c.zip, file: ../c.zip}]}", "has no file name"),
        ("{name: pets, cuont: 3, images: [{url: https://a.b/c.zip}]}", "unknown key 'cuont'"),
        ("{name: pets, count: many, images: [{url: https://a.b/c.zip}]}", "has count = 'many'"),
        ("{name: pets, images: [{url: https://a.b/c.zip}], labels: yes}", "has labels = True"),
        ("{name: pets, images: [{url: https://a.b/c.zip}], labels: list}", "has no `lists`"),
        ("{name: pets, images: [{url: https://a.b/c.zip}], keep: half}", "has `keep`"),
        (
            "{name: pets, images: [{url: https://a.b/c.zip}], masks: annotations}",
            "has `masks`; then it needs the `folder`",
        ),
        ("[1, 2]", "must be an object"),
    ],
)
def test_a_recipe_that_is_wrong_is_a_sentence(tmp_path, text, sentence):
    (tmp_path / "pets.yaml").write_text(text)
    with pytest.raises(MmoodError, match=sentence):
        read_recipe(tmp_path / "pets.yaml")
