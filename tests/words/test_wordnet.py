import zipfile
from pathlib import Path

import pytest
from words_world import write_wordnet

from mmood.errors import MmoodError
from mmood.words.corpus import PRESETS, CorpusSettings, build_corpus, clean_word, load_corpus
from mmood.words.wordnet import LEXICOGRAPHER_FILES, find_wordnet, read_wordnet

VARIABLES = ("WNSEARCHDIR", "WNHOME", "NLTK_DATA")
DEBIAN = Path("/usr/share/wordnet/data.noun")


@pytest.fixture
def wordnet(tmp_path):
    return write_wordnet(tmp_path / "dict")


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("mmood.words.wordnet._USUAL", ())
    monkeypatch.setattr("mmood.words.wordnet._USUAL_NLTK", ())
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")


def test_table_of_lexicographer_files():
    assert len(LEXICOGRAPHER_FILES) == len(set(LEXICOGRAPHER_FILES)) == 45
    numbers = {
        "adj.all": 0,
        "adj.pert": 1,
        "noun.Tops": 3,
        "noun.animal": 5,
        "noun.food": 13,
        "noun.time": 28,
        "adj.ppl": 44,
    }
    assert {name: LEXICOGRAPHER_FILES.index(name) for name in numbers} == numbers


def test_presets_name_the_files_of_the_papers():
    kinds = {name: [sum(f.startswith(k) for f in files) for k in ("noun.", "adj.")] for name, files in PRESETS.items()}
    assert kinds == {"neglabel": [24, 3], "csp": [21, 2], "full": [26, 3]}
    assert not {"noun.animal", "noun.food"} & set(PRESETS["neglabel"])


def test_reads_version_synsets_and_adjective_markers(wordnet):
    read = read_wordnet(wordnet)
    assert read.version == "3.0"
    assert read.synsets["noun.animal"] == (("dog", "Canis_familiaris"),)
    assert read.synsets["adj.all"] == (("galore", "abounding"), ("ready_to_hand",), ("outback", "remote"), ("orange",))
    assert read.synsets["adj.ppl"] == (("broken",),)


def test_presets_select_files_and_words(wordnet):
    corpora = {name: load_corpus(CorpusSettings(name, wordnet=str(wordnet))) for name in PRESETS}
    assert corpora["neglabel"].nouns == ("entity", "organism", "golden gate bridge", "orange", "people")
    assert corpora["neglabel"].adjectives == ("galore", "ready to hand", "outback", "thermal", "broken")
    assert corpora["csp"].nouns == ("entity", "organism", "golden gate bridge", "orange")
    assert corpora["csp"].adjectives == ("galore", "ready to hand", "outback", "broken")
    assert {"dog", "solid food"} < set(corpora["full"].nouns)
    every = load_corpus(CorpusSettings(words="all", wordnet=str(wordnet)))
    assert {"being", "bridge"} < set(every.nouns)
    assert len({corpus.content_hash for corpus in (*corpora.values(), every)}) == 4


def test_places_are_tried_in_order(nowhere, monkeypatch, tmp_path):
    with pytest.raises(MmoodError, match=r"apt install wordnet-base.*nltk.*WNSEARCHDIR"):
        find_wordnet()
    nltk = write_wordnet(tmp_path / "nltk" / "corpora" / "wordnet")
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "nltk"))
    assert find_wordnet() == nltk
    home = write_wordnet(tmp_path / "wn" / "dict")
    monkeypatch.setenv("WNHOME", str(tmp_path / "wn"))
    assert find_wordnet() == home
    searched = write_wordnet(tmp_path / "search")
    monkeypatch.setenv("WNSEARCHDIR", str(searched))
    assert find_wordnet() == searched


def test_reads_the_zip_file_of_nltk(nowhere, monkeypatch, tmp_path, wordnet):
    (tmp_path / "nltk" / "corpora").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "nltk" / "corpora" / "wordnet.zip", "w") as packed:
        for name in ("data.noun", "data.adj"):
            packed.write(wordnet / name, f"wordnet/{name}")
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "nltk"))
    assert read_wordnet() == read_wordnet(wordnet)


def test_a_folder_without_wordnet_is_named(tmp_path):
    with pytest.raises(MmoodError, match=r"no WordNet in '.*': the folder must hold the files data.noun and data.adj"):
        read_wordnet(tmp_path)


@pytest.mark.parametrize("line", ["00000001 99 n 01 word 0 000 |", "00000001 03 n xy word 0", "00000001 03 n 02 word"])
def test_a_malformed_line_is_named(wordnet, line):
    with (wordnet / "data.noun").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(MmoodError, match=r"data.noun, line 10 is not a synset"):
        read_wordnet(wordnet)


def test_words_are_cleaned_and_the_first_stays():
    assert [clean_word(text) for text in (" A_b  C\n", "[thermal", "x]")] == ["a b c", "thermal", "x"]
    corpus = build_corpus("toy", "here", ["b", "A", "a", " ", "[]"], ["c", "B", "C"])
    assert (corpus.nouns, corpus.adjectives) == (("b", "a"), ("c",))
    assert corpus.content_hash != build_corpus("toy", "here", ["a", "b"], ["c"]).content_hash
    assert corpus.content_hash == build_corpus("other", "there", ["b", "a"], ["c"]).content_hash
    with pytest.raises(MmoodError, match=r"'toy' .* has no words"):
        build_corpus("toy", "here", [" "], [])


def test_text_files_are_a_corpus(tmp_path):
    (tmp_path / "things.txt").write_text("Sea\nhill\n")
    (tmp_path / "more.txt").write_text("sea\nlake\n")
    (tmp_path / "kinds.txt").write_text("blue\nhill\n")
    nouns, adjectives = (
        tuple(str(tmp_path / f"{name}.txt") for name in ("things", "more")),
        (str(tmp_path / "kinds.txt"),),
    )
    corpus = load_corpus(CorpusSettings(nouns=nouns, adjectives=adjectives))
    assert (corpus.nouns, corpus.adjectives) == (("sea", "hill", "lake"), ("blue",))
    assert corpus.source == "things.txt, more.txt, kinds.txt"
    with pytest.raises(MmoodError, match=r"word list '.*absent.txt' cannot be read"):
        load_corpus(CorpusSettings(nouns=(str(tmp_path / "absent.txt"),)))


def test_an_unknown_preset_is_named():
    with pytest.raises(MmoodError, match="no corpus preset 'neglable'; did you mean 'neglabel'"):
        load_corpus(CorpusSettings("neglable"))


@pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's package wordnet-base is not installed")
def test_counts_of_wordnet_3_0():
    corpus = load_corpus(CorpusSettings(wordnet=str(DEBIAN.parent)))
    # The published lists, made from WordNet's sources: 58,546 + 11,454 = 70,000.
    assert (corpus.source, len(corpus.nouns), len(corpus.adjectives)) == ("WordNet 3.0", 58_514, 12_280)
    csp = load_corpus(CorpusSettings("csp", wordnet=str(DEBIAN.parent)))
    assert (len(csp.nouns), len(csp.adjectives)) == (47_287, 10_206)
