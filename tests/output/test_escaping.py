"""Names of others in every medium: shown, not obeyed."""

import csv
import html
import io
import re

import pytest

from mmood.output.escaping import csv_text, for_csv, for_html, for_latex, for_markdown, visible

HOSTILE = ["\x1b[31mred", "a\nb", "\x9b2J", "\u202egpj.exe", "caf\udce9", "\x00", "\r", "\u2028", "\x7f", "\ufeffname"]


@pytest.mark.parametrize("medium", [visible, for_markdown, for_latex, for_html, for_csv])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_medium_gets_a_character_that_is_not_seen(medium, name):
    written = medium(name)
    assert written.isprintable()
    written.encode()  # no half of a surrogate pair is left, so every file and terminal takes it


@pytest.mark.parametrize(
    "name", ["tench", "great white shark", "Schrödinger's 猫", "naïve café", "👩\u200d👧", "a b", ""]
)
def test_ordinary_names_stay_as_they_are(name):
    assert visible(name) == for_csv(name) == for_markdown(name) == for_latex(name) == name
    assert html.unescape(for_html(name)) == name


def test_bytes_that_are_no_utf8_are_written_in_hexadecimal():
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    assert visible(name) == r"caf\xe9.jpg"


@pytest.mark.parametrize("name", ["=cmd|'/c calc'!A1", "+1", "-1", "@SUM(A1)", "\uff1d1"])
def test_no_spreadsheet_takes_a_name_for_a_formula(name):
    assert for_csv(name) == f"'{name}"


def test_csv_keeps_numbers_as_numbers_and_texts_whole():
    rows = [["name", "value"], ['a,"b"', -0.1], ["-x", None], ["n", 3], ["line\nend", float("-inf")]]
    written = csv_text(rows)
    assert [*csv.reader(io.StringIO(written))] == [
        ["name", "value"],
        ['a,"b"', "-0.1"],
        ["'-x", ""],
        ["n", "3"],
        [r"line\nend", "-inf"],
    ]
    assert len(written.splitlines()) == len(rows)


def test_markdown_shows_every_sign_literally():
    signs = r"\`*_{}[]<>|#&~$"
    written = for_markdown(signs)
    assert re.sub(r"\\(.)", r"\1", written) == signs
    assert len(written) == 2 * len(signs)


def test_latex_shows_every_sign_literally():
    assert for_latex(r"50 % of A&B_{x}^2 ~ \input{f} #1 $y$") == (
        r"50 \% of A\&B\_\{x\}\textasciicircum{}2 \textasciitilde{} \textbackslash{}input\{f\} \#1 \$y\$"
    )
    assert for_latex("[1ex]") == "{[}1ex]"
    assert for_latex("*") == "{*}"


def test_html_closes_nothing():
    assert "<" not in for_html("</script><b>")
    assert '"' not in for_html('" onload="x')
