import io
import json

import numpy as np
import pytest
from words_world import FakeReference

from mmood.errors import MmoodError
from mmood.words.embedding import embed_words
from mmood.words.lists import NegativeList, NegativePart, load_negatives
from mmood.words.miner import ADANEG, CSP
from mmood.words.templates import Templates

NOUNS = NegativePart("noun", ("the nice {}",), ("sea", "naïve art"), (0.1, 0.2))
ADJECTIVES = NegativePart("adjective", ("{}", "a photo of {}"), ("blue",), (0.15,))
LIST = NegativeList((NOUNS, ADJECTIVES), ("the nice {}",), {"criterion": {"quantile": 0.95}})


def test_order_and_prompts():
    assert len(LIST) == 3
    assert LIST.words == ("sea", "naïve art", "blue")
    assert LIST.prompts == [("the nice sea",), ("the nice naïve art",), ("blue", "a photo of blue")]


def test_embedding_is_the_mean_of_the_prompts():
    reference = FakeReference(["cat"])
    embedding = LIST.embed(reference.encode_text)
    mean = reference.encode_text(["blue", "a photo of blue"]).mean(0)
    assert embedding.shape == (3, 32)
    assert embedding[2].allclose(mean / mean.norm(), atol=1e-6)
    assert embedding[0].allclose(reference.encode_text(["the nice sea"])[0], atol=1e-6)


def test_saved_and_loaded_list_is_equal(tmp_path):
    LIST.save(tmp_path / "list.json")
    assert load_negatives(tmp_path / "list.json") == LIST
    text = (tmp_path / "list.json").read_text()
    assert LIST.content_hash in text
    assert '"naïve art": 0.2' in text


def test_hash_is_of_words_prompts_and_order():
    def with_part(part):
        return NegativeList((part,), ()).content_hash

    hashes = {
        with_part(NOUNS),
        with_part(NegativePart("noun", NOUNS.templates, NOUNS.words[::-1])),
        with_part(NegativePart("noun", ("{}",), NOUNS.words)),
        with_part(NegativePart("adjective", NOUNS.templates, NOUNS.words)),
    }
    assert len(hashes) == 4
    assert with_part(NOUNS) == with_part(NegativePart("noun", NOUNS.templates, NOUNS.words))


def test_plain_text_is_a_list(tmp_path):
    path = tmp_path / "published.txt"
    path.write_text("# from somewhere\nsea\n\nblue\tadjective\nSea\ngolden_gate bridge\tnoun\n")
    loaded = load_negatives(path, Templates(noun=("{}.",)))
    assert loaded.prompts == [("sea.",), ("golden gate bridge.",), ("This is a blue photo",)]
    assert loaded.id_templates == ("the nice {}",)
    assert loaded.mined_with == {"file": "published.txt"}


PROMPTS = ("the nice yellow clintonia", "The nice Sea.", "This is a blue photo")


@pytest.mark.parametrize(
    ("templates", "expected"),
    [
        (Templates(), ("the nice yellow clintonia", "the nice sea", "This is a blue photo")),
        (ADANEG.templates, ("The nice yellow clintonia.", "The nice sea.", "This is a blue photo.")),
        (Templates(noun=("a {}",), adjective=("{} things",)), ("a yellow clintonia", "a sea", "blue things")),
        (
            CSP.templates,
            ("a close-up photo of the nice yellow clintonia.", "a close-up photo of the nice sea.", "blue"),
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".txt", ".npy"])
def test_whole_prompts_are_not_prompted_again(templates, expected, suffix, tmp_path):
    """The list that NegLabel's authors ship has its prompts in it, whatever prompts are to be used."""
    path = tmp_path / f"selected_neg_labels{suffix}"
    if suffix == ".npy":
        np.save(path, np.array(PROMPTS))
    else:
        path.write_text("\n".join(PROMPTS))
    loaded = load_negatives(path, templates)
    assert tuple(prompts[0] for prompts in loaded.prompts) == expected
    assert loaded.words == ("yellow clintonia", "sea", "blue")
    assert [part.kind for part in loaded.parts] == ["noun", "adjective"]


def test_whole_prompts_can_be_kept(tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(PROMPTS))
    bare = Templates(noun=("{}",), adjective=("{}",))
    assert load_negatives(tmp_path / "list.txt", bare).prompts == [(text.lower(),) for text in PROMPTS]


def test_one_whole_prompt_and_words_like_prompts(tmp_path):
    (tmp_path / "one.txt").write_text("the nice sea\n")
    assert load_negatives(tmp_path / "one.txt").words == ("sea",)
    (tmp_path / "words.txt").write_text("the hague\nsea\nlake\nthe nice\n")
    assert load_negatives(tmp_path / "words.txt", CSP.templates).words == ("the hague", "sea", "lake", "the nice")


def test_a_list_half_of_prompts_is_asked_about(tmp_path):
    (tmp_path / "list.txt").write_text("the nice sea\nthe nice lake\nbridge\n")
    with pytest.raises(MmoodError, match=r"has 2 whole prompts such as 'the nice sea' among 3 .* such as 'bridge'"):
        load_negatives(tmp_path / "list.txt")


def array_bytes(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


TEXTS = np.array(["sea", "golden gate"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (array_bytes(TEXTS.astype(object)), "holds pickled objects, which are programs; write it with"),
        (array_bytes(np.arange(3)), "is an array of int64 of shape"),
        (array_bytes(TEXTS[:, None]), "must be one list of strings"),
        (array_bytes(TEXTS)[:-4], "is truncated"),
        (array_bytes(TEXTS).replace(b"(2,)", b"(9,)"), "is truncated"),
        (array_bytes(TEXTS)[:-4] + b"\xff" * 4, "an entry that is not valid text"),
        (array_bytes(TEXTS[:0]), "array of <U11 of shape|has no negative labels"),
        (b"\x93NUMPY", "cannot be read as a NumPy array"),
        (b"words", "cannot be read as a NumPy array"),
    ],
)
def test_arrays_that_are_no_list_of_texts_are_named(content, message, tmp_path):
    (tmp_path / "list.npy").write_bytes(content)
    with pytest.raises(MmoodError, match=message):
        load_negatives(tmp_path / "list.npy")


def test_an_array_of_another_byte_order_is_read(tmp_path):
    np.save(tmp_path / "list.npy", np.array(["naïve art", "\N{SNOWMAN}"]).astype(">U12"))
    assert load_negatives(tmp_path / "list.npy").words == ("naïve art", "\N{SNOWMAN}")


def edited(change):
    document = LIST.to_document()
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "is not JSON"),
        ("a.json", "[1]", "is not a list of negative labels"),
        ("a.json", "{}", "is not a list of negative labels: its entry"),
        ("a.json", edited(lambda d: d.update(schema=7)), "has the schema 7"),
        ("a.json", edited(lambda d: d["parts"][0]["words"].pop("sea")), "was edited or truncated"),
        ("a.json", edited(lambda d: d["parts"][0].update(kind="verb")), "no kind of words .* 'verb'"),
        ("a.txt", "\n# nothing\n", "has no negative labels"),
        ("a.txt", "run\tverb\n", "no kind of words .*line 1.* 'verb'"),
    ],
)
def test_malformed_files_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(MmoodError, match=message):
        load_negatives(tmp_path / name)


def test_missing_and_binary_files_are_named(tmp_path):
    with pytest.raises(MmoodError, match="cannot be read"):
        load_negatives(tmp_path / "absent.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MmoodError, match="cannot be read as UTF-8"):
        load_negatives(tmp_path / "binary.txt")


def test_a_template_without_a_place_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("sea\n")
    with pytest.raises(MmoodError, match=r"has no '{}'"):
        load_negatives(tmp_path / "a.txt", Templates(noun=("a photo",)))


def test_csp_averages_prompts_as_they_are():
    reference = FakeReference(("cat", "dog"))
    templates = ("a {}", "the {}", "{}")
    raw = reference.encode_text(["a sea", "the sea", "sea"], normalise=False).mean(0)
    of_csp = embed_words(reference.encode_text, ["sea"], templates, normalise_first=False)[0]
    assert of_csp.allclose(raw / raw.norm(), atol=1e-6)
    assert not of_csp.allclose(embed_words(reference.encode_text, ["sea"], templates)[0], atol=1e-3)
