"""ImageNet-X: the authors' two lists, from WordNet."""

import hashlib

import pytest

from mmood.classes.imagenet import synsets
from mmood.errors import MmoodError
from mmood.words.imagenet_x import _PARENTS, class_subset, halves, read_hypernyms
from mmood.words.wordnet import find_wordnet


@pytest.fixture(scope="module")
def hypernyms():
    try:
        find_wordnet()
    except MmoodError:
        pytest.skip("there is no WordNet")
    return read_hypernyms()


def test_the_halves_are_the_authors_lists(hypernyms):
    first, second = class_subset("imagenet-x-first"), class_subset("imagenet-x-second")
    assert sorted(first + second) == list(range(1000))
    assert len(first) == len(second) == 500
    # Of data/class_split/imagenet/x/first_datasets.txt, published with the paper, in ascending order.
    published = "2c85650d1bc42812de4fb4807f3bd44d0a3f09a919a3f3a2fab37a7f232e79b3"
    assert hashlib.sha256(",".join(map(str, first)).encode()).hexdigest() == published
    assert first[:8] == (0, 2, 4, 5, 7, 10, 11, 14)


def test_siblings_are_halved(hypernyms):
    parents = [_PARENTS.get(synset, hypernyms[synset][0]) for synset in synsets()]
    first = set(class_subset("imagenet-x-first"))
    for parent in set(parents):
        group = [label for label, other in enumerate(parents) if other == parent]
        assert abs(sum(label in first for label in group) * 2 - len(group)) <= 1
    assert all(_PARENTS[synset] in hypernyms[synset] for synset in _PARENTS)


def test_odd_groups_give_their_extra_class_to_each_half_in_turn():
    assert halves(["a", "b", "b", "b", "c"]) == ([0, 1, 4], [2, 3])
    assert halves([]) == ([], [])


def test_another_wordnet_is_refused(tmp_path):
    for name in ("data.noun", "data.adj"):
        (tmp_path / name).write_text("00001740 03 n 01 entity 0 000 | that which is\n")
    with pytest.raises(MmoodError, match=r"has no noun n01440764; .* WordNet 3.0"):
        class_subset("imagenet-x-first", tmp_path)
    with pytest.raises(MmoodError, match="no subset of classes"):
        class_subset("imagenet-y", tmp_path)
