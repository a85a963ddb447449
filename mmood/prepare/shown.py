"""The plan of a preparation, as text for somebody who sees it for the first time."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from mmood.output.printing import say
from mmood.prepare.downloads import Downloads
from mmood.prepare.plan import NeedPlan, Plan, SetPlan, bytes_on_disk, bytes_to_come
from mmood.prepare.transfer import free_bytes, in_words
from mmood.recipes.recipe import SourceFile
from mmood.shards.locations import web_address

_WIDTH = 116


def show(plan: Plan, downloads: Downloads) -> None:
    """Print a plan."""
    for line in lines(plan, downloads):
        say(line)


def lines(plan: Plan, downloads: Downloads) -> Iterator[str]:
    """Yield the lines that show a plan."""
    yield f"Sets in {plan.root}"
    width = max(len(entry.recipe.name) for entry in plan.sets)
    for entry in plan.sets:
        yield f"  {entry.recipe.name:{width}}  {_count(entry):>16}  {_state(entry)}"
    yield from _to_fetch(plan, downloads)
    yield from _by_hand(plan)
    yield from _licences(plan)
    if not plan.to_do:
        yield "Everything is there; nothing is to do."


def _count(entry: SetPlan) -> str:
    count = entry.recipe.count if entry.index is None else entry.index.count
    return "number unknown" if count is None else f"{count:,} images"


def _state(entry: SetPlan) -> str:
    if entry.is_ready:
        return "is there"
    if entry.recipe.sets:
        return f"will be made of {' and '.join(entry.recipe.sets)}"
    if entry.missing:
        return f"needs {entry.missing[0].need.best.name}, see below"
    if entry.places:
        return f"will be packed from {entry.places[0]}"
    given = [str(part.path) for part in entry.images if part.state == "given"]
    if given:
        return f"will be packed from {' and '.join(given)}"
    names = " and ".join(_chosen(part).name for part in entry.images)
    have = all(part.state == "fetched" for part in entry.images)
    return f"will be packed from {names}, which {'is there' if have else 'will be fetched'}"


def _chosen(part: NeedPlan) -> SourceFile:
    """Return the file of a need that will be fetched, unless it fails."""
    return next((file for file in part.need.files if file.urls), part.need.best)


def _to_fetch(plan: Plan, downloads: Downloads) -> Iterator[str]:
    parts = list(plan.downloads().values())
    if not parts:
        return
    known, unknown = bytes_to_come(plan)
    amounts = [in_words(known)] if known else []
    amounts += [f"{unknown} file{'s' if unknown > 1 else ''} of unknown size"] if unknown else []
    yield ""
    yield f"To fetch: {' and '.join(amounts)}"
    yield from _lists([part for part in parts if _chosen(part).member], downloads)
    for part in parts:
        file = _chosen(part)
        if file.member:
            continue
        yield f"  {file.name}: {_size(file, part)}, {_trust(file, downloads)}"
        for url in file.urls:
            yield f"    {web_address(url)}"
        for other in part.need.files:
            if other != file:
                place = web_address(other.urls[0]) if other.urls else other.name
                yield f"    or, should that fail: {place}"
    needed = f"up to {in_words(bytes_on_disk(plan))}" if known else "their sizes and as much again"
    more = ", and what is of unknown size" if known and unknown else ""
    yield f"  Disk: {needed}{more}; {in_words(free_bytes(plan.root))} are free."
    yield "  Archives are deleted once they are packed (--keep keeps them)."


def _lists(parts: list[NeedPlan], downloads: Downloads) -> Iterator[str]:
    """Yield the lines for image lists, which are small, many, and from one place."""
    places: dict[str, list[SourceFile]] = {}
    others: dict[str, str] = {}
    for part in parts:
        file = _chosen(part)
        place = web_address(file.urls[0]).rpartition("/")[0]
        places.setdefault(place, []).append(file)
        for other in part.need.files:
            if other != file and other.urls:
                others[place] = web_address(other.urls[0])
    for place, files in places.items():
        size = sum(file.expected_bytes or 0 for file in files)
        trust = ", ".join(dict.fromkeys(_trust(file, downloads) for file in files))
        names = ", ".join(file.name for file in files)
        about = f" (about {in_words(size)})" if size else ""
        yield from _wrapped(f"image lists {names}{about}: {trust}", "  ")
        yield f"    {place}/"
        if place in others:
            yield f"    or, should that fail: {others[place]}"


def _size(file: SourceFile, part: NeedPlan) -> str:
    if file.expected_bytes is None:
        return "size unknown"
    size = f"{'' if file.bytes is not None else 'about '}{in_words(file.expected_bytes)}"
    left = part.bytes or 0
    return size if part.state == "to fetch" else f"{size}, of which {in_words(file.expected_bytes - left)} are there"


def _trust(file: SourceFile, downloads: Downloads) -> str:
    if file.sha256:
        return f"sha256 {file.sha256[:16]}..."
    if file.md5:
        return f"md5 {file.md5}"
    known = downloads.recorded().get(file.urls[0])
    return "hash unknown: recorded at first use" if known is None else f"sha256 {known[:16]}... as at first use"


def _by_hand(plan: Plan) -> Iterator[str]:
    sets: dict[str, list[str]] = {}
    parts: dict[str, NeedPlan] = {}
    for entry in plan.to_do:
        for part in entry.missing:
            sets.setdefault(part.need.best.name, []).append(entry.recipe.name)
            parts[part.need.best.name] = part
    if not parts:
        return
    yield ""
    yield "What you must fetch yourself"
    for name, part in parts.items():
        size = part.need.best.expected_bytes
        yield f"  {name}{f' (about {in_words(size)})' if size else ''}, for {' and '.join(sets[name])}"
        if part.state == "offline":
            urls = " or ".join(web_address(url) for file in part.need.files for url in file.urls)
            yield from _wrapped(f"It is at {urls}; --offline forbids to fetch it.")
        else:
            yield from _wrapped(part.need.best.obtain)
    yield "  Then run the same command with --from FOLDER, the folder that holds it. The other sets do not wait for it."


def _licences(plan: Plan) -> Iterator[str]:
    licences: dict[str, list[str]] = {}
    for entry in plan.to_do:
        licences.setdefault(entry.recipe.licence, []).append(entry.recipe.name)
    if licences:
        yield ""
        yield "Licences (yours to check; `mmood sets NAME` has more)"
        for licence, names in licences.items():
            yield from _wrapped(f"{', '.join(names)}: {licence}", "  ")


def _wrapped(text: str, indent: str = "    ") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
