"""WordNet's nouns as a taxonomy, against a small one and, where it is installed, the real one."""

import doctest

import pytest
from taxonomy_world import write_taxonomy

from mmood.errors import MmoodError
from mmood.words import taxonomy as module
from mmood.words.taxonomy import read_taxonomy


@pytest.fixture
def small(tmp_path):
    return read_taxonomy(write_taxonomy(tmp_path / "dict"))


def words_of(taxonomy, offsets) -> set[str]:
    return {taxonomy.synsets[offset].words[0] for offset in offsets}


def meaning(taxonomy, word) -> str:
    return taxonomy.senses[word][0]


def test_ancestors_and_descendants(small):
    assert words_of(small, small.ancestors(meaning(small, "tench"))) == {
        "tench",
        "cyprinid",
        "fish",
        "animal",
        "entity",
    }
    assert words_of(small, small.descendants(meaning(small, "fish"))) == {
        *("fish", "cyprinid", "tench", "goldfish", "dace", "chub", "lake_chub", "shark", "great_white")
    }


def brute_force(taxonomy, start: str, most: int) -> dict[str, int]:
    """Every way of some steps up and then some down, in turn."""
    found = {}
    for up in range(1, most):
        for down in range(1, most - up + 1):
            ends = [start]
            for _ in range(up):
                ends = [parent for at in ends for parent in taxonomy.synsets[at].parents]
            for _ in range(down):
                ends = [child for child, synset in taxonomy.synsets.items() for at in ends if at in synset.parents]
            for end in ends:
                found[end] = min(found.get(end, 99), up + down)
    related = taxonomy.ancestors(start) | taxonomy.descendants(start)
    return {at: distance for at, distance in found.items() if at not in related}


@pytest.mark.parametrize("word", ["tench", "chub", "shark", "circle", "entity"])
@pytest.mark.parametrize("most", [2, 3, 4, 6])
def test_distances_equal_those_of_all_ways(small, word, most):
    assert small.siblings(meaning(small, word), most) == brute_force(small, meaning(small, word), most)


def test_siblings_by_name(small):
    found = small.siblings(meaning(small, "tench"), 4)
    assert {small.synsets[at].words[0]: distance for at, distance in found.items()} == {
        **{"goldfish": 2, "dace": 2, "chub": 2, "lake_chub": 3},
        **{"shark": 3, "great_white": 4, "bird": 4},
    }


def test_senses(small):
    (machine, bird) = small.senses["crane"]
    assert small.is_first_sense(machine)
    assert not small.is_first_sense(bird)
    assert small.is_familiar(machine)
    assert not small.is_familiar(meaning(small, "tench"))
    assert small.senses["tinca_tinca"] == small.senses["tench"]
    (wanda,) = small.senses["wanda"]
    assert small.synsets[wanda].is_instance
    assert small.version == "2.9"


DAMAGE = {
    "no index": (lambda folder: (folder / "index.noun").unlink(), "has no file .*index.noun"),
    "a line of data cut": (lambda folder: cut(folder / "data.noun", 20), "is not a synset in WordNet's data format"),
    "a line of the index cut": (
        lambda folder: cut(folder / "index.noun", 8),
        "is not an entry in WordNet's index format",
    ),
    "a parent missing": (lambda folder: drop(folder / "data.noun", "cyprinid 0"), "is incomplete"),
    "a word missing": (lambda folder: drop(folder / "index.noun", "dace n"), "is incomplete: .* 'dace'"),
}


def cut(path, characters):
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1][:characters]]) + "\n")


def drop(path, text):
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if text not in line))


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_wordnet_is_refused_in_a_sentence(kind, tmp_path):
    damage, said = DAMAGE[kind]
    folder = write_taxonomy(tmp_path / "dict")
    damage(folder)
    with pytest.raises(MmoodError, match=said):
        read_taxonomy(folder)


def test_the_real_wordnet(real_taxonomy):
    real = real_taxonomy
    assert len(real.synsets) == 82115
    (tench,) = real.senses["tench"]
    nearest = {at for at, distance in real.siblings(tench, 2).items() if distance == 2}
    assert {"carp", "dace", "goldfish", "minnow", "roach"} <= words_of(real, nearest)
    assert words_of(real, real.senses["dog"][:1]) == {"dog"}
    assert real.synsets[real.senses["dog"][0]].supersense == "noun.animal"


def test_examples():
    assert doctest.testmod(module).failed == 0
