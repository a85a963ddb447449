"""Names and texts of untrusted answers."""

import doctest

import pytest

from mmood.words import cleaning
from mmood.words.cleaning import clean_name, clean_text

NAMES = {
    "Sea Lion": "sea lion",
    "sea_lion": "sea lion",
    "**Sea lion**": "sea lion",
    '"sea lion".': "sea lion",
    "sea lion - a marine mammal": "sea lion",
    "sea lion \u2013 a marine mammal": "sea lion",
    "sea lion: a marine mammal": "sea lion",
    "sea lion (marine)": "sea lion",
    "jack-o\u2019-lantern": "jack-o'-lantern",
    "St. Bernard": "st. bernard",
    "salt & pepper shaker": "salt & pepper shaker",
    "crème brûlée": "crème brûlée",
    "海獅": "海獅",
    "747 jet": "747 jet",
    "ﬁre truck": "fire truck",
}


@pytest.mark.parametrize("entry", NAMES)
def test_a_name_is_cleaned(entry):
    assert clean_name(entry) == NAMES[entry]


NO_NAMES = [
    *("", " ", "-", "123", "none", "N/A", "...", "etc."),
    *("/etc/passwd", "..\\secret", "http://host/x", "www.host.org", "file.txt", "~/.ssh/id_rsa"),
    *("<b>fox</b>", "[fox](http://x)", "{fox}", "fox | wolf", "=cmd()", "$(reboot)"),
    *("fo\x1b[2Jx", "fo\x00x", "fox\u202egpj", "fo\u200bx", "\ud83dfox", "fo\nx"),
    *("x" * 65, "a b c d e f g", "I would say that these are foxes and wolves"),
]


@pytest.mark.parametrize("entry", NO_NAMES)
def test_nothing_but_a_name_gets_through(entry):
    assert clean_name(entry) is None


def test_a_text_is_one_line_without_markup():
    assert clean_text(" a plump fish\n with red eyes ") == "a plump fish with red eyes"
    assert clean_text("A **plump**, `olive` fish.") == "A plump, olive fish."
    for bad in ("", "42", "x" * 301, "<script>x</script>", "see http://x", "a\x1b[2Jb", "[link](x)", "a \u202e b"):
        assert clean_text(bad) is None


def test_examples():
    assert doctest.testmod(cleaning).failed == 0
