import json
import logging
import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from words_world import FakeReference

from mmood.encoders import EncoderSettings, build_encoder
from mmood.errors import MmoodError
from mmood.modules.reference import ModelReference
from mmood.words import CSP, INTERNEG, NEGLABEL, CorpusSettings
from mmood.words.mining import cache_folder, mine_negatives

NOUNS = [f"thing {i}" for i in range(40)]
ADJECTIVES = [f"kind {i}" for i in range(20)]
NAMES = ["Thing_3", "cat", "dog", "boat", "tree"]


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "nouns.txt").write_text("\n".join(NOUNS))
    (tmp_path / "adjectives.txt").write_text("\n".join(ADJECTIVES))
    return CorpusSettings(nouns=(str(tmp_path / "nouns.txt"),), adjectives=(str(tmp_path / "adjectives.txt"),))


@pytest.fixture
def miner(corpus):
    return replace(NEGLABEL, corpus=corpus)


def words(mined):
    return {part.kind: list(part.words) for part in mined.parts}


def test_neglabel_equals_the_definition(miner):
    reference = FakeReference(NAMES)
    mined = mine_negatives(replace(miner, exclude_id_names=False), reference)
    names = reference.encode_text([f"the nice {name}" for name in NAMES]).double()

    def lowest(members, template, count):
        cosines = reference.encode_text([template.format(word) for word in members]).double() @ names.T
        order = cosines.quantile(0.95, dim=-1).argsort()
        return [members[i] for i in order[:count]]

    assert words(mined) == {
        "noun": lowest(NOUNS, "the nice {}", 6),
        "adjective": lowest(ADJECTIVES, "This is a {} photo", 3),
    }
    assert list(mined.parts[0].similarity) == sorted(mined.parts[0].similarity)


def test_id_names_are_excluded_whatever_their_spelling(miner):
    every = replace(miner, fraction=1.0)
    assert "thing 3" not in mine_negatives(every, FakeReference(NAMES)).words
    kept = mine_negatives(replace(every, exclude_id_names=False), FakeReference(NAMES))
    assert "thing 3" in kept.words
    assert len(kept) == 60


def test_order_of_the_classes_does_not_matter(miner):
    assert words(mine_negatives(miner, FakeReference(NAMES))) == words(
        mine_negatives(miner, FakeReference(NAMES[::-1]))
    )


def test_count_is_the_number_in_all(miner):
    mined = mine_negatives(replace(miner, count=12, exclude_id_names=False), FakeReference(NAMES))
    assert [len(part.words) for part in mined.parts] == [8, 4]


def test_csp_makes_phrases_and_averages_prompts(corpus):
    mined = mine_negatives(replace(CSP, corpus=corpus), FakeReference(NAMES))
    nouns, phrases = mined.parts
    assert len(nouns.templates) == 8
    assert len(phrases.templates) == 4
    assert len(mined.id_templates) == 8
    assert len(CSP.superclasses) == 14
    assert all(phrase.rsplit(" ", 1)[1] in CSP.superclasses for phrase in phrases.words)
    every = [mine_negatives(replace(CSP, corpus=corpus, fraction=1.0, seed=s), FakeReference(NAMES)) for s in (0, 0, 1)]
    assert set(every[0].words) == set(every[1].words) != set(every[2].words)


def test_inter_modal_needs_images_and_takes_the_largest_deviations(corpus):
    miner = replace(INTERNEG, corpus=corpus, count=6)
    reference = FakeReference(NAMES, dim=256)
    with pytest.raises(MmoodError, match=r"inter_modal.*needs images"):
        mine_negatives(miner, reference)
    names = reference.encode_text([f"The nice {name}." for name in NAMES])
    mined = mine_negatives(miner, reference, proxies=names)
    texts = reference.encode_text([f"The nice {noun}." for noun in NOUNS if noun != "thing 3"])
    order = (texts @ names.T).mean(-1).argsort()
    expected = [[noun for noun in NOUNS if noun != "thing 3"][i] for i in order]
    assert list(mined.parts[0].words) == expected[: len(mined.parts[0].words)]
    assert len(mined) == 6
    other = mine_negatives(miner, reference, proxies=names.flip(0))
    assert other.mined_with != mined.mined_with


def test_global_generators_are_never_touched(corpus):
    before = torch.get_rng_state(), random.getstate()
    mine_negatives(replace(CSP, corpus=corpus), FakeReference(NAMES))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_a_second_run_reads_the_cache(miner):
    first = mine_negatives(miner, FakeReference(NAMES))
    reference = FakeReference(NAMES)
    assert mine_negatives(miner, reference) == first
    assert not reference.asked
    assert len(list(cache_folder().glob("*.json"))) == 1


def test_the_key_is_all_that_the_list_depends_on(miner, corpus, tmp_path):
    mine_negatives(miner, FakeReference(NAMES))
    mine_negatives(miner, FakeReference(NAMES[:4]))
    mine_negatives(miner, FakeReference(NAMES, weights="w1"))
    mine_negatives(replace(miner, quantile=0.5), FakeReference(NAMES))
    mine_negatives(replace(miner, templates=INTERNEG.templates), FakeReference(NAMES))
    (tmp_path / "nouns.txt").write_text("\n".join(NOUNS[:-1]))
    mine_negatives(miner, FakeReference(NAMES))
    assert len(list(cache_folder().glob("*.json"))) == 6


@pytest.mark.parametrize("damage", ["cut", "swapped", "foreign"])
def test_a_damaged_cache_file_is_mined_again_with_a_warning(miner, caplog, damage):
    first = mine_negatives(miner, FakeReference(NAMES))
    (path,) = cache_folder().glob("*.json")
    text = path.read_text()
    document = json.loads(text)
    if damage == "swapped":
        document["parts"].reverse()
    if damage == "foreign":
        document["mined_with"]["criterion"]["quantile"] = 0.5
    path.write_text(text[: len(text) // 2] if damage == "cut" else json.dumps(document))
    with caplog.at_level(logging.WARNING):
        assert mine_negatives(miner, FakeReference(NAMES)) == first
    assert "min" in caplog.text
    assert path.name in caplog.text
    assert path.read_text() == text


def test_many_may_mine_at_a_time(miner):
    with ThreadPoolExecutor(4) as pool:
        mined = list(pool.map(lambda _: mine_negatives(miner, FakeReference(NAMES)), range(8)))
    assert all(one == mined[0] for one in mined)
    assert [path.suffix for path in cache_folder().iterdir()] == [".json"]


def test_a_cache_that_cannot_be_written_is_named(miner, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MmoodError, match="MMOOD_CACHE"):
        mine_negatives(miner, FakeReference(NAMES), cache=tmp_path / "file" / "negatives")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fraction": 0.0}, "mining.fraction is 0.0"),
        ({"fraction": 0.001}, "keeps none of the 60 words"),
        ({"count": 0}, "mining.count is 0"),
        ({"quantile": 2.0}, "mining.quantile is 2.0"),
        ({"criterion": "quantil"}, "mining.criterion is 'quantil'"),
    ],
)
def test_impossible_settings_are_named(miner, change, message):
    with pytest.raises(MmoodError, match=message):
        mine_negatives(replace(miner, **change), FakeReference(NAMES))


@pytest.mark.skipif("MMOOD_REAL_DATA" not in os.environ, reason="MMOOD_REAL_DATA names no folder with a real model")
def test_a_real_text_tower(corpus, tmp_path):
    root = Path(os.environ["MMOOD_REAL_DATA"])
    encoder = build_encoder(EncoderSettings(f"local-dir:{root / 'models' / 'miniclip'}")).eval()
    names = (root / "data" / "id-classes.txt").read_text().split("\n")[:20]
    far = ["inflation", "theorem", "contract", "grammar", "parliament", "rent", "melody", "algebra", "dogma", "tariff"]
    (tmp_path / "nouns.txt").write_text("\n".join([*names, *far]))
    reference = ModelReference(encoder, names, ["a photo of a {}"])
    every = replace(NEGLABEL, corpus=CorpusSettings(nouns=corpus.nouns), exclude_id_names=False)
    # With the maximum in place of the quantile an ID name is as near to the ID set as a word can be: to itself.
    mined = mine_negatives(replace(every, count=10, quantile=1.0), reference)
    assert set(mined.words) == set(far)
    assert mined.mined_with["encoder"]["weights_sha256"] == encoder.weights_hash()
