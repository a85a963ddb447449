"""The names files that come with mmood."""

from pathlib import Path

import pytest

from mmood.classes.names import class_names_hash, load_class_names
from mmood.cli.main import main
from mmood.demo.world import CLASSES
from mmood.errors import MmoodError
from mmood.words.lists import load_negatives
from mmood.words.shipped import SHIPPED, load_shipped

ASSETS = Path(__file__).parents[2] / "mmood/words/assets"

MADE = {
    "imagenet-wordnet": (load_class_names("imagenet-openai"), []),
    "demo-wordnet": (CLASSES, ["--count", "100"]),
}


@pytest.mark.parametrize("name", MADE)
def test_a_list_is_of_its_classes_and_none_of_them_is_in_it(name):
    class_names, _ = MADE[name]
    found = load_shipped(name)
    assert found.origin.class_names_sha256 == class_names_hash(class_names)
    assert not {entry.name for entry in found.names} & {known.lower() for known in class_names}
    assert {entry.group for entry in found.names} == {"near", "far"}


@pytest.mark.parametrize("name", MADE)
def test_the_command_makes_the_same_file(name, real_taxonomy, tmp_path, monkeypatch):
    if real_taxonomy.version != "3.0":
        pytest.skip("the lists that come with mmood are of WordNet 3.0")
    monkeypatch.setattr("mmood.cli.propose.read_taxonomy", lambda: real_taxonomy)
    class_names, more = MADE[name]
    (tmp_path / "classes.txt").write_text("".join(f"{entry}\n" for entry in class_names))
    out = tmp_path / "names.json"
    classes = ["--class_names", str(tmp_path / "classes.txt")]
    assert main(["propose", *classes, "--method", "wordnet", *more, "--out", str(out)]) == 0
    assert out.read_bytes() == (ASSETS / f"{name}.json").read_bytes()


def test_the_groups_are_lists_of_their_own():
    whole, near, far = (load_negatives(f"imagenet-wordnet{group}") for group in ("", "-near", "-far"))
    assert whole.words == near.words + far.words
    assert len(far) == 500
    assert near.mined_with["method"] == "wordnet"
    assert near.content_hash != whole.content_hash


def test_a_file_wins_over_a_list_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo-wordnet").write_text("sea\n")
    assert load_negatives("demo-wordnet").words == ("sea",)


def test_an_unknown_list_is_named_with_the_nearest():
    with pytest.raises(MmoodError, match="no list of negative labels or file 'imagenet-wordnt'; did you mean"):
        load_negatives("imagenet-wordnt")
    assert set(SHIPPED) >= set(MADE)
