"""Outlier names out of WordNet."""

import pytest
from taxonomy_world import write_taxonomy

from mmood.errors import MmoodError
from mmood.proposals.wordnet import WordNetSettings, propose_from_wordnet
from mmood.words.taxonomy import read_taxonomy


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return read_taxonomy(write_taxonomy(tmp_path_factory.mktemp("dict")))


def propose(taxonomy, class_names, **settings):
    return propose_from_wordnet(taxonomy, class_names, WordNetSettings(**settings))


def by_group(proposal, group) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for entry in proposal.names:
        if entry.group == group:
            found.setdefault(entry.source, set()).add(entry.name)
    return found


def test_near_names_are_the_nearest_siblings(small):
    near = by_group(propose(small, ["tench", "hen"], kind="near", distance=2), "near")
    assert near == {"tench": {"goldfish", "dace", "chub"}}, "the crane is another first sense, Wanda a single fish"
    near = by_group(propose(small, ["tench", "hen"], kind="near", distance=4, per_class=9), "near")
    # What a hen is a kind of (bird, animal) and what is a kind of it (bantam) is no outlier.
    assert near["tench"] == {"goldfish", "dace", "chub", "lake chub", "shark", "great white"}
    assert near["hen"] == {"figure", "plant", "machine", "tool", "dish"}, "in so small a world all is near"


def test_common_words_come_first_at_the_same_distance(small):
    (entry,) = propose(small, ["dace"], kind="near", distance=3, per_class=1).names
    assert entry.name in {"tench", "goldfish", "chub"}, "distance goes before all"
    first = propose(small, ["circle"], kind="near", distance=2, per_class=1).names[0]
    assert first.name == "square", "the oval is an uncommon word"


def test_far_names_are_common_words_of_other_supersenses(small):
    far = by_group(propose(small, ["tench", "goldfish"], kind="far"), "far")
    assert far == {
        "noun.artifact": {"machine", "crane", "lathe", "tool"},
        "noun.shape": {"figure", "circle", "square"},
        "noun.food": {"dish", "soup"},
        "noun.plant": {"plant", "rose"},
    }


def test_a_supersense_that_few_classes_have_is_another_one(small):
    names = ["tench", "goldfish", "dace", "lathe"]
    assert "noun.artifact" not in by_group(propose(small, names, kind="far", share=0.05), "far")
    far = by_group(propose(small, names, kind="far", share=0.3, distance=2), "far")
    assert far["noun.artifact"] == {"tool"}, "a crane is a sibling of the lathe, and a machine its parent"


def test_supersenses_take_turns(small):
    names = propose(small, ["tench"], kind="far", count=4).names
    assert len({entry.source for entry in names}) == 4


def test_a_class_that_wordnet_lacks_is_a_kind_of_its_last_word(small):
    near = by_group(propose(small, ["red circle", "blue square"], kind="near", per_class=9, distance=2), "near")
    assert near == {}, "red and blue stand in front of one noun each, so they may belong to it"
    near = by_group(propose(small, ["red circle", "red square", "blue square"], kind="near", per_class=9), "near")
    assert near == {"red circle": {"red oval"}}, "both are siblings of the red oval, and the first takes it"


def test_modifiers_are_recombined(small):
    names = ["red circle", "blue circle", "red square", "blue square", "green square", "green oval"]
    near = by_group(propose(small, names, kind="near", per_class=9, distance=2), "near")
    assert near == {"red circle": {"green circle"}, "green oval": {"red oval", "blue oval"}}


def test_another_seed_draws_other_equals(small):
    drawn = {
        propose(small, ["tench"], kind="near", distance=2, per_class=1, seed=seed).names[0].name for seed in range(9)
    }
    assert drawn == {"goldfish", "dace", "chub"}
    assert propose(small, ["tench"], seed=3) == propose(small, ["tench"], seed=3)


def test_classes_that_wordnet_lacks(small):
    found = propose(small, ["tench", "xyzzy"], kind="near")
    assert found.notes == ("WordNet has no name of 1 classes, such as 'xyzzy'.",)
    with pytest.raises(MmoodError, match="has none of the 2 class names, such as 'plugh'"):
        propose(small, ["plugh", "xyzzy"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"kind": "middle"}, "kind is 'middle'"), ({"distance": 1}, "distance is 1"), ({"share": 2}, "share is 2")],
)
def test_settings_are_checked(settings, said):
    with pytest.raises(MmoodError, match=said):
        WordNetSettings(**settings)
