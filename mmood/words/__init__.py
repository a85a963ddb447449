"""Words: WordNet corpora, and the negative labels that are mined from them.

What is imported here needs no torch: `mmood prepare` and `mmood sets` read WordNet without it. Lists of negative labels
are in `mmood.words.lists`, mining in `mmood.words.mining`.
"""

from mmood.words.corpus import Corpus, CorpusSettings, load_corpus
from mmood.words.miner import CSP, INTERNEG, NEGLABEL, NegativeMiner
from mmood.words.templates import Templates

__all__ = [
    "CSP",
    "INTERNEG",
    "NEGLABEL",
    "Corpus",
    "CorpusSettings",
    "NegativeMiner",
    "Templates",
    "load_corpus",
]
