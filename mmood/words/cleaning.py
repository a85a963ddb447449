"""Names and descriptions out of untrusted text: what is neither is refused, and nothing else gets through."""

from __future__ import annotations

import re
import unicodedata

from mmood.words.class_texts import LONGEST as LONGEST_TEXT
from mmood.words.corpus import clean_word
from mmood.words.names_file import LONGEST as LONGEST_NAME

MOST_WORDS = 6
"""Words of a name, at most; more are a sentence."""

# Letters, digits and what stands inside names: "st. bernard", "jack-o'-lantern", "salt & pepper shaker".
_NAME = re.compile(r"[^\W_][\w '.&-]*")
# Behind a name: what explains it. The dashes are - with blanks, and the two longer ones of typography.
_EXPLANATION = re.compile("[:;,(\u2013\u2014]|\\s-+\\s|\\s=|->")
_APOSTROPHE = "\u2019"
# A full stop before a letter makes an address or a file of it.
_ADDRESS = re.compile(r"\.\S|\.\.")
_LETTER = re.compile(r"[^\W\d_]")
_NO_NAMES = frozenset({"none", "nothing", "unknown", "other", "others", "n a", "na", "null", "etc", "etc."})
_EMPHASIS = re.compile('[*`_~"\u201c\u201d\u00ab\u00bb]+')
_MARKUP = re.compile(r"[<>{}\[\]\\|]|https?:|www\.")


def clean_name(entry: str) -> str | None:
    """Return the name in an entry of a list, in the spelling of `clean_word`; None if it is no name.

    An explanation behind a colon, a dash or in brackets is left out, and so are quotation marks and emphasis.

    >>> clean_name("**Sea Lion**: a marine mammal"), clean_name("crème brûlée (dessert)")
    ('sea lion', 'crème brûlée')
    >>> clean_name("../../etc/passwd"), clean_name("<b>fox</b>"), clean_name("these are foxes that one may see in snow")
    (None, None, None)
    """
    if not _is_plain(entry) or _MARKUP.search(entry):
        return None
    bare = _EMPHASIS.sub(" ", unicodedata.normalize("NFKC", entry)).replace(_APOSTROPHE, "'")
    name = clean_word(_EXPLANATION.split(bare, maxsplit=1)[0]).strip(" .'&-")
    fits = len(name) <= LONGEST_NAME and len(name.split()) <= MOST_WORDS and name not in _NO_NAMES
    if not fits or not _NAME.fullmatch(name) or _ADDRESS.search(name) or not _LETTER.search(name):
        return None
    return name


def clean_text(entry: str) -> str | None:
    """Return a description on one line; None if it is empty, too long, or holds markup or an address.

    >>> clean_text("  A **plump**, olive fish. "), clean_text("see https://example.com")
    ('A plump, olive fish.', None)
    """
    text = " ".join(_EMPHASIS.sub("", unicodedata.normalize("NFKC", entry)).split())
    fits = 0 < len(text) <= LONGEST_TEXT and _LETTER.search(text) and _is_plain(text)
    return text if fits and not _MARKUP.search(text) else None


def _is_plain(text: str) -> bool:
    """Return whether a text has no control character, no mark of direction and no half of a pair."""
    return all(unicodedata.category(character)[0] != "C" for character in text.strip())
