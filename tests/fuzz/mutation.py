"""Damage: what a bad disk, a broken transfer or an attacker does to a valid file."""

import copy
import json
import math
from collections.abc import Callable
from random import Random
from typing import Any

ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2,
        2**31,
        2**63,
        -(2**63) - 1,
        10**30,
        10**5000,
        0.5,
        -0.0,
        1e308,
        math.inf,
        math.nan,
    ),
    *("", " ", "\0", "a" * 5000, "\ud800", "\u202eabc", "../../etc/passwd", "/etc/passwd", "..", "pipe:false", "{}"),
    *("http://127.0.0.1:9/x", "<script>alert(1)</script>", "os.system", "1e400", "%s%s%n", "\N{SNOWMAN}", "~root"),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": []}}, [0] * 1000, {"class_path": "os.system"}),
)


def damaged_bytes(content: bytes, rng: Random) -> bytes:
    """Return the content after one to three edits: cut, flipped, filled, moved, or all random."""
    found = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(found) + 1)
        stop = min(len(found), start + rng.choice((1, 1, 2, 8, 64, 512, len(found))))
        kind = rng.randrange(9)
        if kind == 0:
            del found[start:]
        elif kind == 1:
            del found[start:stop]
        elif kind == 2 and start < len(found):
            found[start] ^= 1 << rng.randrange(8)
        elif kind == 3:
            found[start:stop] = bytes([rng.choice((0, 0x20, 0x2D, 0x30, 0x7F, 0x80, 0xFF))]) * (stop - start)
        elif kind == 4:
            found[start:start] = found[start:stop]
        elif kind == 5:
            found[start:start] = rng.randbytes(rng.randint(1, 16))
        elif kind == 6:
            found[start:stop] = bytes(reversed(found[start:stop]))
        elif kind == 7 and start < len(found):
            found[start] = rng.randrange(256)
        elif kind == 8 and rng.randrange(4) == 0:
            found = bytearray(rng.randbytes(rng.randint(0, 200)))
    return bytes(found)


def damaged_value(document: Any, rng: Random) -> Any:
    """Return plain data after one to three edits: entries deleted, doubled, renamed, swapped or replaced by odd ones."""
    found = {"": copy.deepcopy(document)}
    for _ in range(rng.randint(1, 3)):
        holder, key = rng.choice(_places(found))
        kind = rng.randrange(6)
        if kind == 0 and holder is not found:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == 1 and holder is not found:
            holder[str(key) + rng.choice(("_", " ", "\0", "s"))] = holder.pop(key)
        elif kind == 2:
            other, name = rng.choice(_places(found))
            holder[key] = copy.deepcopy(other[name])
        elif kind == 3 and isinstance(holder[key], str):
            text = holder[key]
            cut = rng.randrange(len(text) + 1)
            holder[key] = text[:cut] + rng.choice(("", "\0", "\n", "../", "é", "\udcff", '"', "<b>", "{}")) + text[cut:]
        elif kind == 4 and type(holder[key]) in (int, float) and abs(holder[key]) < 1e300:
            holder[key] = rng.choice((-holder[key], holder[key] + 1, holder[key] * 2**40, str(holder[key])))
        else:
            holder[key] = copy.deepcopy(rng.choice(ODD))
    return found[""]


def damaged_json(content: bytes, rng: Random) -> bytes:
    """Return the text of a JSON document, its values or its bytes damaged."""
    kind = rng.randrange(8)
    if kind == 0:
        return damaged_bytes(content, rng)
    if kind == 1 and rng.randrange(8) == 0:
        return rng.choice((b"[", b'{"a":', b'[{"schema":')) * rng.choice((10, 1000, 100_000))
    return _text(damaged_value(json.loads(content), rng))


def damaged_lines(content: bytes, rng: Random) -> bytes:
    """Return a text of one JSON document a line, one of them damaged."""
    lines = content.splitlines()
    number = rng.randrange(len(lines))
    lines[number] = damaged_json(lines[number], rng)
    return b"\n".join(lines)


def damaged_yaml(content: bytes, rng: Random) -> bytes:
    """Return the text of a config (kept as JSON, which is YAML), its values or its bytes damaged."""
    if rng.randrange(12) == 0:
        return rng.choice(YAML_TRAPS)
    return damaged_json(content, rng)


def _aliases(depth: int) -> bytes:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, depth)]
    return "\n".join([*lines, f"model: *a{depth - 1}"]).encode()


YAML_TRAPS = (
    _aliases(60),
    b"a: &a [*a]",
    b"!!python/object/apply:os.system ['true']",
    b"model: !!python/name:os.system",
    b"data: !!timestamp 2001-99-99",
    b"data: 2001-99-99",
    b"? [a, b]\n: 1",
    b"? {a: 1}\n: 1",
    b"data: !!int ''",
    b"data: !!float x",
    b"data: 1__:3",
    b"data: !!binary '*'",
    b"<<: 3",
    b"%YAML 9.9\n---\na",
    b"a: 1\n---\nb: 2",
    b"- " * 3000 + b"a",
    b"[" * 3000,
    b"\xff\xfea",
    b"model: model/zeroshot.yaml",
    b"model: /dev/zero",
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of every value below."""
    found, waiting = [], [value]
    while waiting:
        holder = waiting.pop()
        entries = list(holder.items() if isinstance(holder, dict) else enumerate(holder))
        found += [(holder, key) for key, _ in entries]
        waiting += [entry for _, entry in entries if isinstance(entry, dict | list)]
    return found


def _text(value: Any) -> bytes:
    """Return JSON, also of numbers that Python refuses to print and of halves of surrogate pairs."""
    text = json.dumps(_printable(value), ensure_ascii=True)
    return text.replace('"\\u0001huge\\u0001"', "1" + "0" * 5000).encode()


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _printable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_printable(entry) for entry in value]
    return "\1huge\1" if type(value) is int and abs(value) > 10**1000 else value


Damage = Callable[[bytes, Random], bytes]
