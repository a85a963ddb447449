"""Mining negative labels: runs encoder, corpus and criterion, and keeps the list on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from mmood.encoders.prompts import check_templates
from mmood.errors import MmoodError
from mmood.files import user_path
from mmood.words import criteria
from mmood.words.corpus import Corpus, clean_word, load_corpus
from mmood.words.embedding import embed_words
from mmood.words.lists import NegativeList, NegativePart, load_negatives
from mmood.words.miner import NegativeMiner
from mmood.words.templates import Kind

logger = logging.getLogger(__name__)

Proxies = Float[Tensor, "classes dim"]


class MiningReference(Protocol):
    """What mining must know of the ID side."""

    @property
    def class_names(self) -> Sequence[str]:
        """The C names of the ID classes."""

    def identity(self) -> dict[str, object]:
        """Return what names the encoder; `name` and `weights_sha256` are read."""

    def encode_text(self, texts: Sequence[str], normalise: bool = True) -> Float[Tensor, "texts dim"]:
        """Return float32 embeddings of whole texts, of unit norm unless `normalise` is off."""


def mine_negatives(
    miner: NegativeMiner, reference: MiningReference, proxies: Proxies | None = None, cache: str | Path | None = None
) -> NegativeList:
    """Return the negatives for the classes and encoder of `reference`: from the cache, or mined and put there.

    Several processes may mine the same list at a time: files appear whole, and each returns what the file holds.

    Args:
        miner: the settings.
        reference: class names and encoder.
        proxies: (C, D) unit-norm mean image embedding of each class, for the criterion `inter_modal`.
        cache: folder; by default `$MMOOD_CACHE/negatives` or `~/.cache/mmood/negatives`.

    Raises:
        MmoodError: impossible settings, no corpus, a cache folder that cannot be written.
    """
    _check(miner, proxies)
    corpus = load_corpus(miner.corpus)
    key = _key(miner, corpus, reference, proxies)
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = (Path(cache) if cache is not None else cache_folder()) / f"{name}.json"
    if (found := _from_cache(path, key)) is not None:
        return found
    logger.info("Mining negative labels from %d words; kept in %s.", _size(corpus), path)
    mined = replace(_mine(miner, corpus, reference, proxies), mined_with=key)
    if _from_cache(path, key) is None:
        _write(mined, path)
    # Another process may have been faster; its file is then everybody's list.
    return _from_cache(path, key) or mined


def criterion_of(miner: NegativeMiner) -> dict[str, object]:
    """Return the settings of the choice as plain data, as `NegativeList.mined_with` records them."""
    settings = asdict(replace(miner, seed=miner.seed or 0))
    del settings["corpus"]  # what counts is what was read, not where
    plain: dict[str, object] = json.loads(json.dumps(settings))
    return plain


def cache_folder() -> Path:
    """Return the folder of mined lists: `$MMOOD_CACHE/negatives`, or `~/.cache/mmood/negatives`."""
    return user_path(os.environ.get("MMOOD_CACHE") or "~/.cache/mmood") / "negatives"


def candidate_words(miner: NegativeMiner, class_names: Sequence[str]) -> dict[Kind, tuple[str, ...]]:
    """Return the words that a miner chooses from, by kind: those of its corpus, without ID names if it excludes them.

    Raises:
        MmoodError: there is no such corpus.
    """
    return _candidates(miner, load_corpus(miner.corpus), class_names)


def _check(miner: NegativeMiner, proxies: Proxies | None) -> None:
    if miner.criterion == "inter_modal" and proxies is None:
        raise MmoodError(
            "mining.criterion is 'inter_modal', which needs images of the ID classes; set it to 'quantile'."
        )
    for templates in (miner.templates.id, miner.templates.noun, miner.templates.adjective):
        check_templates(templates)


def _key(
    miner: NegativeMiner, corpus: Corpus, reference: MiningReference, proxies: Proxies | None
) -> Mapping[str, object]:
    identity = reference.identity()
    settings = criterion_of(miner)
    if proxies is not None:
        settings["proxies_sha256"] = hashlib.sha256(proxies.detach().float().cpu().numpy().tobytes()).hexdigest()
    names = json.dumps(list(reference.class_names)).encode()
    key = {
        "encoder": {entry: identity[entry] for entry in ("name", "weights_sha256")},
        "classes": {"count": len(reference.class_names), "sha256": hashlib.sha256(names).hexdigest()},
        "corpus": {"name": corpus.name, "source": corpus.source, "words": _size(corpus), "sha256": corpus.content_hash},
        "criterion": settings,
    }
    plain: Mapping[str, object] = json.loads(json.dumps(key))  # as it will come back from the file
    return plain


def _mine(miner: NegativeMiner, corpus: Corpus, reference: MiningReference, proxies: Proxies | None) -> NegativeList:
    prototypes = embed_words(
        reference.encode_text, reference.class_names, miner.templates.id, miner.templates.normalise_first
    )
    words = _candidates(miner, corpus, reference.class_names)
    chosen: dict[Kind, tuple[Tensor, Tensor]] = {}
    for kind, members in words.items():
        embedding = embed_words(
            reference.encode_text, members, miner.templates.of(kind), miner.templates.normalise_first
        )
        chosen[kind] = _judge(miner, embedding, prototypes, proxies)
    sizes = _sizes(miner, {kind: len(allowed) for kind, (_, allowed) in chosen.items()})
    parts = []
    for kind, (similarity, allowed) in chosen.items():
        best = allowed[criteria.select_farthest(similarity[allowed], sizes[kind])]
        values = tuple(round(value, 6) for value in similarity[best].tolist())
        picked = tuple(words[kind][index] for index in best.tolist())
        parts.append(NegativePart(kind, miner.templates.of(kind), picked, values))
    if not any(part.words for part in parts):
        raise MmoodError(f"Mining keeps none of the {_size(corpus)} words of '{corpus.name}'; {_why_none(miner)}")
    return NegativeList(tuple(parts), miner.templates.id, normalise_first=miner.templates.normalise_first)


def _why_none(miner: NegativeMiner) -> str:
    if miner.criterion == "quantile":
        return "raise mining.fraction."
    return (
        "each word is nearer to the images of some class than the name of that class is, so this encoder does not "
        "match these class names with their images; use mining.criterion 'quantile', or give a list."
    )


def _candidates(miner: NegativeMiner, corpus: Corpus, class_names: Sequence[str]) -> dict[Kind, tuple[str, ...]]:
    adjectives = corpus.adjectives
    if miner.superclasses:
        draw = random.Random(miner.seed or 0)  # noqa: S311 - no cryptography
        adjectives = tuple(f"{word} {draw.choice(miner.superclasses)}" for word in adjectives)
    excluded = {clean_word(name) for name in class_names} if miner.exclude_id_names else set()
    words: dict[Kind, tuple[str, ...]] = {"noun": corpus.nouns, "adjective": adjectives}
    kept: dict[Kind, tuple[str, ...]] = {
        kind: tuple(word for word in members if word not in excluded) for kind, members in words.items()
    }
    return {kind: members for kind, members in kept.items() if members}


def _judge(
    miner: NegativeMiner, embedding: Tensor, prototypes: Tensor, proxies: Proxies | None
) -> tuple[Tensor, Tensor]:
    """Return each candidate's similarity to the ID side and the indices of the candidates that may be chosen."""
    if miner.criterion == "quantile" or proxies is None:
        similarity = criteria.quantile_similarity(embedding, prototypes, miner.quantile, miner.near_duplicate)
        return similarity, torch.arange(len(similarity), device=similarity.device)
    admissible, deviation = criteria.inter_modal_deviation(embedding, proxies.to(embedding), prototypes)
    return -deviation, admissible.nonzero().squeeze(-1)


def _sizes(miner: NegativeMiner, available: Mapping[Kind, int]) -> dict[Kind, int]:
    if miner.count is None:
        return {kind: criteria.share(miner.fraction, count) for kind, count in available.items()}
    nouns, adjectives = criteria.split_in_proportion(
        miner.count, available.get("noun", 0), available.get("adjective", 0)
    )
    return {"noun": nouns, "adjective": adjectives}


def _size(corpus: Corpus) -> int:
    return len(corpus.nouns) + len(corpus.adjectives)


def _from_cache(path: Path, key: Mapping[str, object]) -> NegativeList | None:
    if not path.exists():
        return None
    try:
        found = load_negatives(path)
    except MmoodError as error:
        logger.warning("A cached list is unreadable and will be mined again: %s", error)
        return None
    if found.mined_with != key:
        logger.warning(
            "The cached list %s was mined with different settings from those in its name; mining again.", path
        )
        return None
    return found


def _write(mined: NegativeList, path: Path) -> None:
    try:
        mined.save(path)
    except MmoodError as error:
        raise MmoodError(f"{error} Mined lists are cached there; set MMOOD_CACHE to another folder.") from error
