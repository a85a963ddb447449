"""Words: WordNet corpora, and the negative labels that are mined from them."""

from mmood.words.corpus import Corpus, CorpusSettings, load_corpus
from mmood.words.lists import NegativeList, load_negatives
from mmood.words.miner import CSP, INTERNEG, NEGLABEL, NegativeMiner
from mmood.words.mining import MiningReference, cache_folder, mine_negatives
from mmood.words.templates import Templates

__all__ = [
    "CSP",
    "INTERNEG",
    "NEGLABEL",
    "Corpus",
    "CorpusSettings",
    "MiningReference",
    "NegativeList",
    "NegativeMiner",
    "Templates",
    "cache_folder",
    "load_corpus",
    "load_negatives",
    "mine_negatives",
]
