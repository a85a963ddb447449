"""Shards on other machines that have no index: read once, and indexed in the cache."""

from __future__ import annotations

import hashlib
from itertools import islice

from braceexpand import braceexpand

from mmood.errors import MmoodError
from mmood.files import is_file
from mmood.files.cache import cache_folder
from mmood.output.console import progress_bar
from mmood.output.printing import complain
from mmood.runs.locks import wait_for_lock
from mmood.shards.indexing import FoundShard, Labelling, write_index
from mmood.shards.locations import is_remote, web_address
from mmood.shards.passed_over import PassedOver
from mmood.shards.shard_index import INDEX_FILE, ShardIndex, load_index

MOST_SHARDS = 2**20
"""Shards of a list in braces, at most."""


def is_shard_list(path: str) -> bool:
    """Return whether a path is one of shards on another machine."""
    return is_remote(path) or path.startswith("hf://")


def remote_shards(name: str, pattern: str, class_names: tuple[str, ...] = ()) -> ShardIndex:
    """Return the index of shards behind URLs; on first use, every shard is read once to count and hash its samples.

    Args:
        name: what results call the set.
        pattern: http(s) URL, with braces for several (`imagenet-{000000..000146}.tar`); `hf://datasets/OWNER/NAME/FILE`
            stands for a file of the Hugging Face hub.
        class_names: the ID classes in the order of the labels; none if the samples name them, or for OoD sets.

    Raises:
        MmoodError: the pattern is none, a shard cannot be read, or a sample is not as it must be.
    """
    urls = expanded(pattern)
    of_names = hashlib.sha256("\n".join([*urls, "", *class_names]).encode()).hexdigest()
    folder = cache_folder("sets") / f"{name}.{of_names[:16]}" / name
    if is_file(folder / INDEX_FILE):
        return load_index(str(folder.parent), name)
    with wait_for_lock(folder.parent.with_name(f".{folder.parent.name}.lock"), f"indexes {pattern}"):
        if not is_file(folder / INDEX_FILE):
            folder.mkdir(parents=True, exist_ok=True)
            complain(f"{name} has no index, so its {len(urls)} shards are read once now; the index is kept.")
            with progress_bar(f"indexing {name}", len(urls), transient=True) as bar:
                shards = [FoundShard(url, url) for url in urls]
                found = write_index(
                    folder, shards, PassedOver(), Labelling(class_names), pattern, lambda _: bar.advance(1)
                )
            if found.passed_over:
                complain(f"{name}: {found.passed_over}")
    return load_index(str(folder.parent), name)


def expanded(pattern: str) -> list[str]:
    """Return the http(s) URLs that a pattern with braces stands for.

    >>> expanded("https://host/a-{00..02}.tar")
    ['https://host/a-00.tar', 'https://host/a-01.tar', 'https://host/a-02.tar']

    Raises:
        MmoodError: its braces do not pair, it is too long, or it is no http(s) URL.
    """
    try:
        found = list(islice(braceexpand(pattern), MOST_SHARDS + 1))
    except ValueError as error:
        raise MmoodError(f"The shards {pattern:.120} have braces that do not pair.") from error
    if len(found) > MOST_SHARDS:
        raise MmoodError(f"The shards {pattern:.120} are more than {MOST_SHARDS:,}.")
    urls = [web_address(url) for url in found]
    far = next((url for url in urls if not is_remote(url)), None)
    if far is not None:
        raise MmoodError(
            f"The shards {pattern:.120} are not http(s) URLs; name the folder of local shards, and index it with "
            "`mmood pack --index`."
        )
    return urls
