"""Learned prompts as a folder: what is written is read, and what is not so is refused in a sentence."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import save

from mmood.errors import MmoodError
from mmood.prompts import LearnedPrompts, PromptFamily, load_prompts, save_prompts
from mmood.prompts.family import Layout

TOWER = {"name": "ViT-B-16", "pretrained": "openai", "weights_sha256": "0" * 64}


@pytest.fixture
def folder(tmp_path):
    families = {
        "positive": PromptFamily(torch.randn(1, 4, 8), Layout("every", ".")),
        "negative": PromptFamily(torch.randn(3, 5, 8), Layout("none", "")),
    }
    prompts = LearnedPrompts("CoOp", ("cat", "dog"), families, ("a {}",), TOWER, {"seed": 1}, {"map": torch.eye(3)})
    save_prompts(prompts, tmp_path / "prompts")
    return tmp_path / "prompts"


def change(folder, **fields):
    document = json.loads((folder / "prompts.json").read_text())
    (folder / "prompts.json").write_text(json.dumps({**document, **fields}))


def replace_vectors(folder, tensors):
    content = save(tensors)
    (folder / "context.safetensors").write_bytes(content)
    change(folder, vectors_sha256=hashlib.sha256(content).hexdigest())


def test_there_and_back(folder):
    found = load_prompts(folder)
    save_prompts(found, folder.with_name("again"))
    for name in ("prompts.json", "context.safetensors"):
        assert (folder / name).read_bytes() == (folder.with_name("again") / name).read_bytes()
    assert found.families.keys() == {"positive", "negative"}
    assert found.families["negative"].layout == Layout("none", "")
    assert found.tower == TOWER
    assert torch.equal(found.tensors["map"], torch.eye(3))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4000


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schema": 2}, "have the schema 2; this version reads 1"),
        ({"vectors_sha256": "1"}, "are damaged: context.safetensors is not the file"),
        ({"families": {"other": {}}}, "has no 'shape'"),
        ({"families": {"positive": {"pairing": "all", "suffix": "", "shape": [1, 4, 8]}}}, "have the tensors"),
        ({"class_names": "cat"}, "has class_names = 'cat'|have class_names = 'cat'"),
        ({"tower": {}}, "weights_sha256"),
        ({"class_names": ["dog", "cat"]}, "prompts.json was changed"),
        ({"templates": ["the {}"]}, "prompts.json was changed"),
        ({"sha256": "0" * 64}, "prompts.json was changed"),
    ],
)
def test_a_field_that_is_wrong_is_named(folder, fields, said):
    change(folder, **fields)
    with pytest.raises(MmoodError, match=said):
        load_prompts(folder)


def test_a_suffix_changed_by_hand_is_no_learned_prompt(folder):
    families = json.loads((folder / "prompts.json").read_text())["families"]
    families["positive"]["suffix"] = " in the wild."
    change(folder, families=families)
    with pytest.raises(MmoodError, match=r"prompts.json was changed; what it says belongs to the vectors"):
        load_prompts(folder)


def test_a_layout_changed_by_hand_does_not_matter(folder):
    change(folder)  # other white space
    assert load_prompts(folder).class_names == ("cat", "dog")


@pytest.mark.parametrize("below", ["", "nowhere", "prompts/prompts.json"])
def test_what_is_no_folder_of_prompts_is_named(folder, below):
    with pytest.raises(MmoodError, match=r"names no folder with a prompts.json; .* `prompts` in the folder of the run"):
        load_prompts(str(folder.parent / below))


def test_tensors_that_are_wrong_are_named(folder):
    good = {"positive": torch.randn(1, 4, 8), "negative": torch.randn(3, 5, 8), "extra.map": torch.eye(3)}
    replace_vectors(folder, {**good, "positive": torch.randn(1, 4, 9)})
    with pytest.raises(MmoodError, match=r"'positive' of shape \(1, 4, 9\) in torch.float32; it must be \(1, 4, 8\)"):
        load_prompts(folder)
    replace_vectors(folder, {**good, "negative": torch.full((3, 5, 8), torch.nan)})
    with pytest.raises(MmoodError, match="a value in 'negative' that is not a finite number"):
        load_prompts(folder)
    replace_vectors(folder, {**good, "positive": good["positive"].half()})
    with pytest.raises(MmoodError, match="in float32"):
        load_prompts(folder)
    with pytest.raises(MmoodError, match="names no folder"):
        load_prompts("")


def test_a_context_of_its_own_belongs_to_its_classes(folder):
    own = LearnedPrompts(
        "CoOp", ("a", "b"), {"positive": PromptFamily(torch.randn(2, 4, 8), Layout("own", "."))}, (), TOWER
    )
    with pytest.raises(MmoodError, match="no context that all classes share"):
        own.of_words(None, ["word"])
    with pytest.raises(MmoodError, match="are not those of its training: 'b' for 'a'"):
        own.check_names(["b", "a"])
    with pytest.raises(MmoodError, match="another number of them"):
        own.check_names(["a", "b", "c"])
    with pytest.raises(MmoodError, match="a context for each of 2 classes, but 3 names are given"):
        own.families["positive"].encode(None, ["a", "b", "c"])
