"""The leaderboard in a real browser, where there is one: it fits, filters, changes place, and shows provenance."""

import pytest
from browser import CHROMIUM, facts

from mmood.cli.main import main

# It stands in a copy, since the page's policy lets no other script run.
PROBE = """
<script>
const seen = () => [...document.querySelectorAll("tr")].filter((row) => row.querySelector("td.kind") && row.offsetParent);
const found = [innerWidth, Math.max(0, document.documentElement.scrollWidth - innerWidth)];
const tables = () => [...document.querySelectorAll("[data-place]")].filter((place) => !place.hidden);
const place = document.querySelector("select");
found.push(tables().length === 1 && tables()[0].dataset.place === "mean of all sets");
place.value = "toy-near"; place.dispatchEvent(new Event("change"));
found.push(tables().length === 1 && tables()[0].dataset.place === "toy-near");
const box = document.querySelector("input[value=zero-shot]"), before = seen().length;
box.click();
found.push(before > 0 && seen().length < before && seen().every((row) => row.querySelector("td.kind").textContent !== "zero-shot"));
document.querySelectorAll("details").forEach((part) => { part.open = false; });
location.hash = document.querySelector("a[href^='#run-']").getAttribute("href");
setTimeout(() => {
  found.push(document.querySelectorAll("details[open]").length === 1);
  parent.postMessage("facts " + found.join(" "), "*");
}, 100);
</script>
"""
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome is installed")


@pytest.fixture(scope="module")
def site(toy_runs, toy_flags, tmp_path_factory):
    base = tmp_path_factory.mktemp("browser")
    shots = ["--model.scores.knn", "KNN", "--model.scores.knn.shots", "2", "--data.train", "toy-train"]
    few = ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, *shots, "--run_dir", str(base / "few")]
    assert main(few) == 0
    assert main(["leaderboard", str(toy_runs[0]), str(base / "few"), "--out", str(base), "--resamples", "20"]) == 0
    return base / "index.html"


@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_fits_filters_and_shows_provenance(site, width, tmp_path):
    assert facts(site, tmp_path, PROBE, width) == [str(width), "0", *["true"] * 4]
