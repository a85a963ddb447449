"""Which class belongs to which label."""

import doctest
import random

import pytest

from mmood.classes import imagenet, matching
from mmood.classes.matching import are_names, compare, join, sorted_folders, table
from mmood.classes.names import load_class_names
from mmood.errors import MmoodError

LISTS = [load_class_names(name) for name in ("imagenet-openai", "imagenet-first-synonym")]


def test_integers_sort_as_numbers():
    assert sorted_folders(map(str, range(12))) == [str(number) for number in range(12)]
    assert sorted_folders(["10", "9", "x"]) == ["10", "9", "x"]
    with pytest.raises(MmoodError, match="'01' and '1' stand for the same number"):
        sorted_folders(["1", "2", "01"])


def test_numbers_take_the_names_in_order():
    names = [f"name {letter}" for letter in "lkjihgfedcba"]
    classes = join(map(str, range(12)), names, "F")
    assert (classes.folders, classes.names, classes.odd) == (tuple(map(str, range(12))), tuple(names), ())


def test_folders_called_like_classes_get_the_labels_of_their_names():
    classes = join(["Chihuahua", "great_dane", "tench"], ["tench", "Great Dane", "chihuahua"], "F")
    assert classes.folders == ("tench", "great_dane", "Chihuahua")
    assert classes.odd == ()


def test_spellings_that_differ_in_case_alone_are_told_apart():
    classes = join(["Cat", "cat"], ["cat", "Cat"], "F")
    assert classes.folders == ("cat", "Cat")
    with pytest.raises(MmoodError, match="no line there belongs to the folder"):
        join(["a_b", "a b", "c"], ["c", "A B", "A_B"], "F")


def test_other_names_keep_the_order_and_are_listed():
    classes = join(["c0", "c1", "fox"], ["dog", "cat", "fox"], "F")
    assert (classes.folders, classes.odd) == (("c0", "c1", "fox"), (0, 1))
    assert table(classes) == [
        "label  folder  name",
        "0      c0      dog",
        "1      c1      cat",
        "2      fox     fox",
        "2 of 3 folders do not have the names of their classes.",
    ]


def test_names_that_tell_a_part_of_another_order_are_refused():
    with pytest.raises(MmoodError, match="'fox' is number 2 of the sorted folders and has the name on line 1"):
        join(["c0", "fox"], ["fox", "cat"], "F")
    with pytest.raises(MmoodError, match="2 class folders, and the class file has 3 names"):
        join(["a", "b"], ["a", "b", "c"], "F")


@pytest.mark.parametrize("names", LISTS)
def test_synset_folders_have_the_order_of_imagenet(names):
    assert join(imagenet.synsets(), names, "F").folders == imagenet.synsets()
    some = random.Random(0).sample(range(100), 20)  # without names that are there twice
    classes = join([imagenet.synsets()[label] for label in some], [names[label] for label in some], "F")
    assert classes.folders == tuple(imagenet.synsets()[label] for label in some)


def test_the_lists_of_imagenet_are_in_one_order():
    for known in (*LISTS, imagenet.synsets()):
        for wanted in LISTS:
            assert compare(known, wanted) == matching.Comparison(None, ())


def test_another_order_is_seen_and_other_names_are_listed():
    assert compare(["a", "b", "c"], ["A", "c", "B"]).moved == (1, 2)
    assert compare(["cock", "cat", "b"], ["rooster", "kitten", "B"]) == matching.Comparison(None, (1,))
    assert compare(["", "b"], ["b", "c"]).moved == (1, 0)
    assert compare(LISTS[0], LISTS[0][::-1]).moved == (0, 999)
    assert compare(imagenet.synsets(), LISTS[1][::-1]).moved == (0, 999)


def test_numbers_are_no_names():
    assert are_names(["1", "two"])
    assert not are_names(["0", "1", "10"])


def test_examples_of_the_docstrings():
    assert doctest.testmod(matching).failed == 0
