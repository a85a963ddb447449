"""Class-name lists and prompt templates."""

import doctest
from collections import Counter

import pytest
from torchvision.models._meta import _IMAGENET_CATEGORIES

import mmood.encoders.prompts
import mmood.encoders.transforms
import mmood.encoders.weights
from mmood.encoders import class_names_hash, load_class_names, load_templates
from mmood.errors import MmoodError


def twice(names):
    return sorted(name for name, count in Counter(names).items() if count > 1)


def test_imagenet_as_curated_by_openai():
    names = load_class_names("imagenet-openai")
    assert len(names) == 1000
    assert (names[0], names[2], names[7]) == ("tench", "great white shark", "rooster")
    assert twice(names) == ["missile", "sunglasses"]


def test_imagenet_first_synonyms():
    names = load_class_names("imagenet-first-synonym")
    assert len(names) == 1000
    assert (names[7], names[134], names[517]) == ("cock", "crane", "crane")
    assert twice(names) == ["crane", "maillot"]
    # torchvision keeps the same names, with the doubles told apart.
    different = [i for i, (ours, theirs) in enumerate(zip(names, _IMAGENET_CATEGORIES, strict=True)) if ours != theirs]
    assert different == [134, 639]


def test_cifar():
    assert load_class_names("cifar10")[3] == "cat"
    fine = load_class_names("cifar100")
    assert (len(fine), len(set(fine)), fine[1], fine[99]) == (100, 100, "aquarium_fish", "worm")
    assert list(fine) == sorted(fine)


def test_text_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("tench\n great white shark \ncrane\ncrane\n", encoding="utf-8")
    names = load_class_names(str(path))
    assert names == ("tench", "great white shark", "crane", "crane")
    assert load_class_names(list(names)) == names
    assert class_names_hash(names) != class_names_hash(names[::-1])


@pytest.mark.parametrize(("content", "sentence"), [("", "empty"), ("a\n\nb\n", "line 2"), ("a\nb\n\n", "line 3")])
def test_text_files_that_are_wrong(tmp_path, content, sentence):
    path = tmp_path / "names.txt"
    path.write_text(content)
    with pytest.raises(MmoodError, match=sentence):
        load_class_names(str(path))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [("cifar01", "did you mean 'cifar10'"), ("lists/none.txt", "no class-name file"), ([], "empty")],
)
def test_unknown_lists(source, sentence):
    with pytest.raises(MmoodError, match=sentence):
        load_class_names(source)


def test_hash_is_that_of_the_lines():
    # printf 'a\nb\n' | sha256sum
    assert class_names_hash(["a", "b"]) == "911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2"


def test_named_templates():
    assert load_templates("mcm") == ("a photo of a {}",)
    assert load_templates("the-nice") == ("The nice {}",)
    assert len(load_templates("plp")) == 5
    assert all(template.endswith("{}.") for template in load_templates("plp"))
    eighty = load_templates("openai-80")
    assert (len(eighty), len(set(eighty)), eighty[0]) == (80, 80, "a bad photo of a {}.")
    assert len(load_templates("simple")) == 7
    assert set(load_templates("simple")) <= set(eighty)


def test_given_templates():
    assert load_templates("a {} on {}") == ("a {} on {}",)
    assert load_templates(["a {}", "b {}"]) == ("a {}", "b {}")


@pytest.mark.parametrize(
    ("source", "sentence"), [("mmc", "did you mean 'mcm'"), (["a {}", "b"], "'b' has no"), ([], "at least one")]
)
def test_wrong_templates(source, sentence):
    with pytest.raises(MmoodError, match=sentence):
        load_templates(source)


@pytest.mark.parametrize("module", [mmood.encoders.prompts, mmood.encoders.transforms, mmood.encoders.weights])
def test_examples_of_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
