"""Class-name lists."""

from collections import Counter

import pytest
from torchvision.models._meta import _IMAGENET_CATEGORIES

from mmood.classes.names import class_names_hash, load_class_names
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


@pytest.mark.parametrize("end", ["", "\n", "\n\n \n"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
def test_byte_order_mark_and_blank_lines_at_the_end_are_no_names(tmp_path, begin, end):
    path = tmp_path / "names.txt"
    path.write_text(f"{begin}great white shark \r\n\ttench{end}", encoding="utf-8")
    assert load_class_names(str(path)) == ("great white shark", "tench")


def test_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "names.txt").write_text("cat\n")
    assert load_class_names("~/names.txt") == ("cat",)
    with pytest.raises(MmoodError, match="home folder that cannot be found"):
        load_class_names("~nobody-of-this-name/names.txt")
    with pytest.raises(MmoodError, match="contains a NUL"):
        load_class_names("names\0.txt")


@pytest.mark.parametrize(("content", "sentence"), [("", "empty"), ("\n\n", "empty"), ("a\n\nb\n", "line 2")])
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


def test_a_name_that_no_prompt_could_hold_is_refused(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text(f"tench\n{'a' * 512}\n")
    assert len(load_class_names(str(path))[1]) == 512
    path.write_text(f"tench\n{'a' * 4000}\n")
    with pytest.raises(MmoodError, match=r"4,000 characters on line 2 \(a{40}\.\.\.\); a name has at most 512"):
        load_class_names(str(path))
