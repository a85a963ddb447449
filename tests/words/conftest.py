from pathlib import Path

import pytest

from mmood.words.taxonomy import read_taxonomy

DEBIAN = Path("/usr/share/wordnet")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def real_taxonomy():
    """The nouns of Debian's WordNet, which take seconds to read."""
    if not (DEBIAN / "index.noun").exists():
        pytest.skip("Debian's wordnet-base is not installed")
    return read_taxonomy(DEBIAN)
