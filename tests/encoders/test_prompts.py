"""Prompt templates."""

import doctest

import pytest

import mmood.encoders.prompts
import mmood.encoders.weights
import mmood.images.formats
import mmood.images.preprocessing
from mmood.encoders import load_templates
from mmood.errors import MmoodError


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


@pytest.mark.parametrize(
    "module", [mmood.encoders.prompts, mmood.images.formats, mmood.images.preprocessing, mmood.encoders.weights]
)
def test_examples_of_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
