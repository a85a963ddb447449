"""The page in a real browser, where there is one: it renders, sorts, fits and stays silent."""

import pytest
from browser import CHROMIUM, browse, facts

from mmood.cli.report import write_report

# Asks the page what a reader would see; it stands in a copy, since the page's policy lets no other script run.
PROBE = """
<script>
const table = document.querySelector("table.sortable"), rows = () => [...table.tBodies[0].rows];
const button = table.tHead.rows[0].cells[2].querySelector("button"), facts = [innerWidth];
facts.push(Math.max(0, document.documentElement.scrollWidth - innerWidth));
for (const sign of [-1, 1]) {
  button.click();
  const values = rows().map((row) => sign * row.cells[2].dataset.v);
  facts.push(values.every((value, i) => i === 0 || values[i - 1] <= value));
}
table.tHead.rows[0].cells[0].querySelector("button").click();
facts.push(rows().every((row, i, all) => i === 0 || all[i - 1].cells[0].textContent >= row.cells[0].textContent));
facts.push([...document.querySelectorAll("svg[role=img]")].every((svg) => svg.querySelector("title, desc")));
facts.push([...document.querySelectorAll("details[open] svg.chart, section > .charts svg.chart")].every((svg) =>
  svg.getBoundingClientRect().height > 100));
parent.postMessage("facts " + facts.join(" "), "*");
</script>
"""
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome is installed")


@pytest.fixture(scope="module")
def page(toy_runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("browser") / "report.html"
    write_report(toy_runs, out, resamples=20)
    return out


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_renders_sorts_and_fits(page, tmp_path, width):
    assert facts(page, tmp_path, PROBE, width) == [str(width), "0", *["true"] * 5]


def test_the_untouched_page_obeys_its_own_policy_and_is_drawn(page, tmp_path):
    picture = tmp_path / "page.png"
    browse(page, tmp_path / "profile", f"--screenshot={picture}")
    assert picture.stat().st_size > 50_000
