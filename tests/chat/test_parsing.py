"""Lists out of answers as language models give them."""

import doctest
import json
import time

import pytest

from mmood.chat import parsing
from mmood.chat.parsing import parse_list, parse_object, strings_of

FOX_AND_WOLF = {
    "bullets": "- fox\n- wolf",
    "other bullets": "• fox\n• wolf",
    "stars with emphasis": "* **fox**\n* **wolf**",
    "numbers": "1. fox\n2. wolf",
    "numbers in brackets": "(1) fox\n(2) wolf",
    "letters": "a) fox\nb) wolf",
    "prose around bullets": "Sure! Here are two animals:\n\n- fox\n- wolf\n\nLet me know if you need more.",
    "groups before bullets": "Groups: dogs; cats.\n- fox\n- wolf",
    "JSON": '["fox", "wolf"]',
    "JSON in prose": 'Certainly: ["fox", "wolf"]. These look like dogs [1].',
    "JSON in a fence": '```json\n["fox", "wolf"]\n```',
    "objects": '[{"name": "fox", "reason": "red"}, {"name": "wolf", "reason": "grey"}]',
    "lists by group": '{"red": ["fox"], "grey": ["wolf"]}',
    "names with reasons": '{"fox": "it is red", "wolf": "it is grey"}',
    "JSON without its end": '["fox", "wolf", "jack',
    "brackets before JSON": 'As [requested]: ["fox", "wolf"]',
    "plain lines": "fox\nwolf",
    "plain lines under a title": "Animals:\nfox\nwolf",
    "one line": "fox, wolf",
    "one line with a beginning": "Two animals: fox, wolf",
    "thoughts": "<think>Maybe\n- cat\n- dog</think>\n- fox\n- wolf",
    "Windows lines": "- fox\r\n- wolf\r\n",
}


@pytest.mark.parametrize("form", FOX_AND_WOLF)
def test_every_form_of_a_list_is_read(form):
    found = parse_list(FOX_AND_WOLF[form])
    assert [entry.strip("*") for entry in found.entries] == ["fox", "wolf"]
    assert not found.refused


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("", False),
        ("   \n", False),
        ("[]", False),
        ("I'm sorry, but I can't help with that.", True),
        ("I\u2019m sorry, but I cannot assist with identifying weapons.", True),
        ("As an AI language model, I am unable to do so.", True),
        ("<think>endless", False),
        ("This is a very long sentence of prose that names nothing at all.", False),
    ],
)
def test_what_holds_no_list(text, refused):
    found = parse_list(text)
    assert found.entries == ()
    assert found.refused is refused


def test_a_list_that_mentions_an_apology_is_a_list():
    assert parse_list("I'm sorry for the delay:\n- fox\n- wolf").entries == ("fox", "wolf")


def test_the_last_line_of_a_cut_answer_is_left_out():
    assert parse_list("- fox\n- wolf\n- jack", cut=True).entries == ("fox", "wolf")


def test_a_hostile_answer_costs_little_time():
    begun = time.monotonic()
    for text in ("[" * 2**18, '{"a":' * 2**15, "- x\n" * 2**16, "<think>" * 2**15, '["' * 2**17, "**" * 2**17):
        assert len(parse_list(text).entries) <= parsing.MOST_ENTRIES
    assert time.monotonic() - begun < 5


def test_objects():
    assert parse_object('Here:\n```json\n{"positive": ["a"]}\n```') == {"positive": ["a"]}
    assert parse_object('["no", "object"]') == {}
    assert parse_object("nothing") == {}
    assert strings_of(json.loads('[["a", 1, null], {"label": "b"}, {"x": 3}]')) == ["a", "b"]
    assert strings_of(3) == []


def test_examples():
    found = doctest.testmod(parsing)
    assert found.failed == 0
    assert found.attempted > 3
