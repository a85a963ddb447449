"""docs/scale.md holds the table that its script computes."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_has_the_table_of_the_script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    import scale

    assert scale.table() in (ROOT / "docs" / "scale.md").read_text()
    assert scale.steps(scale.SIZES[2])[0].seconds == 10**8 / scale.EMBEDDED
    sys.modules.pop("scale")
