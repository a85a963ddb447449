"""Text from elsewhere (names of sets, classes, files and runs), made safe for the medium that shows it.

A name is data, and every medium takes some characters for commands: a terminal its escape sequences, a spreadsheet what
begins like a formula, LaTeX and Markdown their markup. Each medium has one function here; all of them first write what
cannot be seen as an escape, because files of every kind end up on a terminal.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Sequence

# Control characters; line and paragraph separators; marks that change the direction of the text around them; halves of
# surrogate pairs, which stand for the bytes of a file name that is no UTF-8.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#&~$])")
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: "\\" + character for character in "&%$#_{}"}
# What spreadsheets take for the beginning of a formula, in both widths.
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def visible(text: str) -> str:
    r"""Return the text on one line, with each character that would not be seen as itself written as an escape.

    >>> print(visible("red\x1b[2J\ncaf\udce9"))
    red\x1b[2J\ncaf\xe9
    """
    return _UNSEEN.sub(lambda match: _escape(match[0]), text)


def for_markdown(text: str) -> str:
    r"""Return a text as Markdown that shows it literally.

    >>> print(for_markdown("a|b_c"))
    a\|b\_c
    """
    return _MARKDOWN.sub(r"\\\1", visible(text))


def for_latex(text: str) -> str:
    r"""Return a text as LaTeX that shows it literally, also behind `\\`, which would take a `[` or `*` for its own.

    >>> print(for_latex("a_b"), for_latex("[x]"))
    a\_b {[}x]
    """
    written = "".join(_LATEX.get(character, character) for character in visible(text))
    return f"{{{written[0]}}}{written[1:]}" if written[:1] in ("[", "*") else written


def for_html(text: str) -> str:
    """Return a text as HTML that shows it literally, inside an element or an attribute.

    >>> for_html('<a href="x">')
    '&lt;a href=&quot;x&quot;&gt;'
    """
    return html.escape(visible(text))


def for_csv(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: one that begins like one gets an apostrophe in front.

    >>> for_csv("=1+1"), for_csv("tench")
    ("'=1+1", 'tench')
    """
    seen = visible(text)
    return f"'{seen}" if seen.startswith(_FORMULA) else seen


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV: texts made safe, numbers in full precision, nothing for None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([for_csv(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python could not decode
        code -= 0xDC00
    return _SHORT.get(character, f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
