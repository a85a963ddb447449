"""EOE, MM-OOD and PNPS with a model that the test plays."""

import doctest
import re

import pytest
from played import answer, play

from mmood.errors import MmoodError
from mmood.proposals import eoe, mm_ood, pnps, prompting, proposal
from mmood.proposals.dialogue import Speaker
from mmood.proposals.prompting import load_prompt
from mmood.proposals.proposal import half_of_each

CLASSES = ("tench", "great white shark", "hen")
SPEAKER = Speaker("parrot", {"temperature": 0.0, "seed": 7})
PROMPTS = [
    *("eoe-near", "eoe-far", "eoe-fine", "pnps"),
    *("mm-ood-near", "mm-ood-categories", "mm-ood-sketch", "mm-ood-elaborate"),
]


def names_of(found) -> list[tuple[str, str, str]]:
    return [(entry.name, entry.group, entry.source) for entry in found.names]


@pytest.mark.parametrize("module", [prompting, proposal])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", PROMPTS)
def test_no_placeholder_is_left_in_a_question(name):
    prompt = load_prompt(name)
    values = {
        "class": "tench",
        "count": 3,
        "number": 5,
        "classes": "a, b",
        "category": "fish",
        "categories": "fish, hens",
    }
    *_, question = prompt.messages({**values, "sketch": "x", "images": ""})
    assert not re.search(r"\{[a-z]+\}", question.text)
    assert not re.search(r"\{[a-z]+\}", prompting.filled(prompt.follow_up, values))
    assert prompt.version >= 1


def test_near_names_of_each_class():
    answers = {
        "tench": "- Dace\n- tench\n- white fish",
        "great white shark": "1. dolphin: a mammal\n2. orca (mammal)",
        "hen": "I'm sorry, but I can't help with that.",
    }
    found, rounds = play(
        eoe.propose_near(SPEAKER, (*CLASSES, "hen"), per_class=2),
        lambda text: next(said for name, said in answers.items() if f'"{name}"' in text),
    )
    assert names_of(found) == [
        ("dace", "near", "tench"),
        ("dolphin", "near", "great white shark"),
        ("orca", "near", "great white shark"),
    ]
    assert found.dropped == {"an ID class": ("tench",), "shares a word with an ID class": ("white fish",)}
    assert found.notes == ("1 of 3 answers are refusals.",)
    assert found.settings == {"per_class": 2, "share_words": False}
    assert found.answered_by == ("parrot-1",)
    (questions,) = rounds
    assert len(questions) == 3, "a name that two classes have is asked about once"
    assert len({question.key for question in questions}) == 3
    assert all("Name 2 things" in question.messages[-1].text for question in questions)
    # The paper's code shows three worked examples.
    assert [message.role for message in questions[0].messages] == ["user", "assistant"] * 3 + ["user"]
    assert questions[0].parameters["seed"] == 7
    assert questions[0].key.startswith(found.names[0].answer)


def test_far_names_come_in_rounds_of_one_conversation():
    said = iter(["- Sea lion\n- walrus\n- hen", "- walrus\n- grey fish\n- seal", "- otter\n- crab\n- eel"])
    found, rounds = play(eoe.propose_far(SPEAKER, CLASSES, count=6, per_round=2), lambda _: next(said))
    assert [entry.name for entry in found.names] == ["sea lion", "walrus", "grey fish", "seal", "otter", "crab"]
    assert {entry.group for entry in found.names} == {"far"}
    assert found.dropped == {"an ID class": ("hen",), "proposed before": ("walrus",)}
    assert [len(questions) for questions in rounds] == [1, 1, 1]
    first, second, _ = (questions[0].messages for questions in rounds)
    assert second[: len(first)] == first
    assert second[len(first)].text == "- Sea lion\n- walrus\n- hen"
    assert "tench, great white shark, hen" in first[-1].text
    assert "3 classes" in first[-1].text


def test_far_names_of_the_paper_are_500_in_10_rounds():
    _, rounds = play(eoe.propose_far(SPEAKER, CLASSES), lambda _: "")
    assert len(rounds) == 10
    assert "List 50 things" in rounds[0][0].messages[-1].text
    assert rounds[1][0].messages[-2].text == "-", "no endpoint is sent an empty turn"


def test_fine_names():
    found, _ = play(eoe.propose_fine(SPEAKER, CLASSES, count=2, per_round=2), lambda _: "Type: animal\n- eel\n- cod")
    assert names_of(found) == [("eel", "fine", ""), ("cod", "fine", "")]


def test_answers_that_are_cut_or_empty_are_counted():
    said = {"tench": answer("- dace\n- chu", cut=True), "great white shark": "", "hen": "Birds are lovely!"}
    found, _ = play(
        eoe.propose_near(SPEAKER, CLASSES), lambda text: next(s for name, s in said.items() if f'"{name}"' in text)
    )
    assert names_of(found) == [("dace", "near", "tench")]
    assert found.notes == (
        "2 of 3 answers hold nothing that was asked for.",
        "1 of 3 answers end at the limit of their tokens, see --max_tokens.",
    )


def test_other_names_of_imagenets_classes_are_id():
    found, _ = play(
        eoe.propose_near(SPEAKER, ("tench", "gas mask")), lambda _: "- Tinca tinca\n- Gas-mask\n- gasmask\n- eel"
    )
    assert [entry.name for entry in found.names] == ["eel"]
    assert found.dropped["an ID class"] == ("tinca tinca", "gas-mask", "gasmask")


IMAGES = {name: (f"{name} 1".encode(), f"{name} 2".encode()) for name in CLASSES}


def test_mm_ood_near_shows_images_of_each_class():
    found, ((tench, shark, hen),) = play(
        mm_ood.propose_near(SPEAKER, CLASSES, IMAGES), lambda text: '["dace", "chub"]' if '"tench"' in text else "[]"
    )
    assert names_of(found) == [("dace", "near", "tench"), ("chub", "near", "tench")]
    assert [question.messages[-1].images for question in (tench, shark, hen)] == [IMAGES[name] for name in CLASSES]
    with pytest.raises(MmoodError, match="1 of the 3 classes have no example image, such as 'hen'"):
        play(mm_ood.propose_near(SPEAKER, CLASSES, {**IMAGES, "hen": ()}), lambda _: "")


def far_model(text: str) -> str:
    if "Sort them" in text:
        return '["fish", "Birds", "<b>"]'
    if text.startswith("These things"):
        return "no list!" if '"birds"' in text else '["sea lion", "submarine"]'
    return '["dragon kite", "boomerang"]' if 'the category "birds"' in text else '["sea lion", "surfboard", "tench"]'


def test_mm_ood_far_sketches_and_elaborates():
    found, (categories, sketching, elaborating) = play(mm_ood.propose_far(SPEAKER, CLASSES), far_model)
    assert len(categories) == 1
    assert len(sketching) == len(elaborating) == 2
    assert names_of(found) == [
        ("sea lion", "far", "fish"),
        ("submarine", "far", "fish"),
        ("dragon kite", "far", "birds"),
        ("boomerang", "far", "birds"),
    ], "without a list the sketch stays"
    assert "sea lion, surfboard." in elaborating[0].messages[-1].text, "ID classes are out of the sketch"
    assert not any(question.messages[-1].images for question in elaborating)
    assert found.settings["render"] is False
    assert [prompt.name for prompt in found.prompts] == ["mm-ood-categories", "mm-ood-sketch", "mm-ood-elaborate"]


def test_mm_ood_far_shows_rendered_images_if_there_is_a_renderer():
    settings = mm_ood.FarSettings(rendered=1)
    found, (*_, elaborating) = play(mm_ood.propose_far(SPEAKER, CLASSES, settings, str.encode), far_model)
    assert [question.messages[-1].images for question in elaborating] == [(b"sea lion",), (b"dragon kite",)]
    assert "The images show the first 1 of them." in elaborating[0].messages[-1].text
    assert found.settings["render"] is True


def test_mm_ood_without_categories_is_one_sentence():
    with pytest.raises(MmoodError, match="names no categories of the 3 classes; it answers 'I am sorry'"):
        play(mm_ood.propose_far(SPEAKER, CLASSES), lambda _: "I am sorry")


def test_half_of_each():
    near, _ = play(
        eoe.propose_near(SPEAKER, CLASSES), lambda text: f"- a{hash(text) % 97}\n- boomerang\n- c{len(text)}"
    )
    far, _ = play(mm_ood.propose_far(SPEAKER, CLASSES), far_model)
    both = half_of_each(near, far)
    assert len(both.names) == len(far.names) == 4
    assert [entry.group for entry in both.names].count("near") == 2
    assert len({entry.source for entry in both.names if entry.group == "near"}) == 2
    assert len({entry.name for entry in both.names}) == 4


TEXTS = '{"positive": ["a plump fish", "an olive fish"], "negative": ["an orange fish"]}'


def test_pnps_asks_again_and_falls_back_to_plain_texts():
    def model(text: str) -> str:
        if '"hen"' in text:
            return "A hen is a bird."
        return TEXTS if "tench" in text or "That was not" in text else "{}"

    found, (first, second) = play(pnps.describe(SPEAKER, (*CLASSES, "tench")), model)
    assert [entry.class_name for entry in found.texts] == list(CLASSES)
    assert found.texts[0].positive == ("a plump fish", "an olive fish")
    assert found.texts[0].negative == ("an orange fish",)
    assert len(first) == 3
    assert len(second) == 2
    assert second[0].messages[-2].text == "{}"
    assert found.texts[1].answer == second[0].key[:16]
    assert found.notes == ("2 of 5 answers hold nothing that was asked for.",)


def test_pnps_names_the_classes_with_plain_texts():
    found, rounds = play(pnps.describe(SPEAKER, ("assault rifle",)), lambda _: "I'm sorry, I can't.")
    assert len(rounds) == 2
    assert found.texts[0].positive == ("a photo of a assault rifle",)
    assert found.settings["plain"] == ["assault rifle"]
    assert found.notes[-1] == "1 of 1 classes have plain texts of mmood's, as no answer was usable: assault rifle."


def test_pnps_keeps_no_markup_and_no_more_than_was_asked_for():
    said = '{"Positive prompts": ["<b>x</b>", "a fish", "a fish", "b fish", "c fish"], "negative": {"1": ["a bird"]}}'
    found, _ = play(pnps.describe(SPEAKER, ("tench",), per_kind=2), lambda _: said)
    assert found.texts[0].positive == ("a fish", "b fish")
    assert found.texts[0].negative == ("a bird",)
