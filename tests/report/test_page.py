"""`mmood report` from outside: run folders in, a page and three tables out."""

import csv
import dataclasses
import io
import json
import re
import shutil
import statistics
from html.parser import HTMLParser

import numpy as np
import pytest

from mmood.cli.main import main
from mmood.cli.report import write_report
from mmood.errors import MmoodError
from mmood.metrics.bootstrap import delong, placements
from mmood.published.registry import registry
from mmood.report.comparison import compare
from mmood.report.images import hardest, open_set, thumbnails
from mmood.report.page.comparisons import published_section
from mmood.report.page.html import element, join, table
from mmood.report.published import matches
from mmood.report.runs import load_runs
from mmood.report.seeds import group_seeds
from mmood.report.summary import summarise
from mmood.report.uncertainty import Uncertainty
from mmood.results.arrays import arrays_bytes
from mmood.results.serialisation import read_results

NASTY = "<script>alert('x')</script>\"&"


class Strict(HTMLParser):
    """Collects what a browser would act on, and demands that every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.scripts, self.addresses = [], 0, []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page):
    parser = Strict()
    parser.feed(page)
    assert parser.open == []
    return parser


@pytest.fixture(scope="session")
def written(toy_runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "report.html"
    arguments = ["report", *map(str, toy_runs), "--out", str(out), "--resamples", "50"]
    assert main(arguments) == 0
    return out


def test_the_page_is_whole_and_loads_nothing(written):
    page = written.read_text()
    found = parsed(page)
    assert found.scripts == 1
    assert all(address.startswith(("#", "data:image/jpeg;base64,")) for address in found.addresses)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", page)
    assert page.count("<svg") == page.count('role="img"') + page.count('aria-hidden="true"')
    assert page.count('role="img"') == page.count("<desc>")
    for name in ("toy-near", "toy-far", "mcm", "red square", "the nice {}"):
        assert name in page


def test_images_and_original_classes_are_shown(written):
    page = written.read_text()
    assert page.count("<img") == page.count("nearest: ") == 3 * (8 + 2 + 8)  # runs x (near, far, ID)


def test_the_csv_holds_what_the_runs_measured(written, toy_runs):
    rows = list(csv.DictReader(io.StringIO(written.with_suffix(".csv").read_text())))
    nice = {(row["score"], row["place"]): row for row in rows if row["run"] == "nice"}
    for row in read_results(toy_runs[2]).rows:
        found = nice[row.score, row.set]
        assert float(found["auroc"]) == row.metrics.auroc
        assert float(found["auroc_low"]) <= row.metrics.auroc <= float(found["auroc_high"])
        assert found["auroc_sd"] == ""
    seeds = [row for row in rows if row["run"] == "photo (+ 1 seeds)"]
    assert {row["n_seeds"] for row in seeds} == {"2"}


def test_markdown_and_latex_say_which_fpr_they_show(written):
    assert "OoD accepted when at least 95 % of ID is accepted" in written.with_suffix(".md").read_text()
    latex = written.with_suffix(".tex").read_text()
    assert latex.count(r"\\") == 2 + 14
    assert "FPR95 ID-pos" in latex


def test_spread_is_the_sample_standard_deviation(toy_runs):
    runs = load_runs(toy_runs[:2])
    second = runs[1].results
    rows = [
        dataclasses.replace(row, metrics=dataclasses.replace(row.metrics, auroc=row.metrics.auroc / 2))
        for row in second.rows
    ]
    runs[1] = dataclasses.replace(runs[1], results=dataclasses.replace(second, rows=tuple(rows)))
    groups = group_seeds(runs)
    assert [len(group.runs) for group in groups] == [2]
    line = summarise(groups, Uncertainty(runs, 0)).lines[0]
    values = [run.results.rows[0].metrics.auroc for run in runs]
    assert line.estimates["toy-near"].spread.auroc == pytest.approx(statistics.stdev(values))
    assert line.estimates["toy-near"].rates.auroc == pytest.approx(statistics.mean(values))
    assert line.estimates["toy-near"].intervals is None


def test_runs_of_one_seed_are_no_spread(toy_runs):
    runs = load_runs([toy_runs[0], toy_runs[2]])
    assert [len(group.runs) for group in group_seeds(runs)] == [1, 1]
    copy = dataclasses.replace(runs[0], name="copy")
    assert [len(group.runs) for group in group_seeds([runs[0], copy])] == [1, 1]


def test_comparisons_are_with_the_same_score_of_the_first_run(toy_runs):
    runs = load_runs([toy_runs[0], toy_runs[2]])
    found = compare(runs, Uncertainty(runs, 40))
    assert len(found) == 2 * 6 + 2 * 7
    each = next(one for one in found if (one.run, one.score, one.set) == ("nice", "energy", "toy-near"))
    assert each.reference == ("photo", "energy")
    sides = [
        placements(run.id_file.scores["energy"], run.sets["toy-near"].scores["energy"]) for run in (runs[1], runs[0])
    ]
    assert (each.differences["auroc"], each.p) == pytest.approx(delong(*sides)[::2])
    assert each.intervals["auroc"].low <= each.differences["auroc"] <= each.intervals["auroc"].high


def test_runs_on_other_images_are_not_compared(toy_runs):
    runs = load_runs([toy_runs[0], toy_runs[2]])
    other = dataclasses.replace(runs[1].id_file, samples="other")
    runs[1] = dataclasses.replace(runs[1], sets={**runs[1].sets, "toy-test": other})
    assert {each.run for each in compare(runs, Uncertainty(runs, 2))} == {"photo"}


def test_untrusted_names_stay_text(toy_runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(toy_runs[0], folder)
    results = json.loads((folder / "results.json").read_text())
    for row in [*results["rows"], *results["means"]]:
        row["score"] = NASTY if row["score"] == "mcm" else row["score"]
    results["provenance"]["module"] = NASTY
    (folder / "results.json").write_text(json.dumps(results))
    for path in (folder / "scores").glob("*.npz"):
        with np.load(path) as file:
            arrays = {NASTY if name == "mcm" else name: file[name] for name in file.files}
        path.write_bytes(arrays_bytes(arrays, results["run"]))
    write_report([folder], folder / "report.html", resamples=2)
    page = (folder / "report.html").read_text()
    assert NASTY not in page
    assert parsed(page).scripts == 1
    assert "&lt;script&gt;alert" in page


def test_html_escapes_whatever_is_no_markup():
    assert element("td", ["<", element("b", "&")], {"title": "'\""}) == '<td title="&#x27;&quot;">&lt;<b>&amp;</b></td>'
    assert join(["<i>"]) == "&lt;i&gt;"
    assert "<x>" not in table("<x>", ["<x>"], [])


def test_a_report_needs_neither_scores_nor_settings_nor_images(toy_runs, tmp_path, toy_root):
    folder = tmp_path / "bare"
    folder.mkdir()
    shutil.copy(toy_runs[0] / "results.json", folder)
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    parsed(page)
    assert "saved no scores of single images" in page
    run = load_runs([toy_runs[0]])[0]
    gone = dataclasses.replace(run, config={**run.config, "data": {"root": str(tmp_path)}})
    assert "cannot be read" in open_set(gone, "toy-near").reason
    far_away = dataclasses.replace(run, config={"data": {"root": "https://host.invalid/sets"}})
    assert "reads only local folders" in open_set(far_away, "toy-near").reason


def test_other_shards_under_the_same_name_are_not_shown(toy_runs):
    run = load_runs([toy_runs[0]])[0]
    provenance = json.loads(json.dumps(dict(run.results.provenance)))
    provenance["sets"]["toy-near"]["index_sha256"] = "0" * 64
    changed = dataclasses.replace(run, results=dataclasses.replace(run.results, provenance=provenance))
    assert "not the ones that the run read" in open_set(changed, "toy-near").reason


def test_thumbnails_are_of_the_keys_asked_for(toy_runs):
    images = open_set(load_runs([toy_runs[0]])[0], "toy-test")
    assert set(thumbnails(images, [3, 20, 36])) == {3, 20, 36}
    assert images.original(0) == "blue square"
    assert hardest(np.array([1.0, 3.0, 2.0]), 2, highest=True).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "There are no results"),
        (["{run}", "{run}"], "named twice"),
        (["{run}", "--out", "page.txt"], "must end in .html"),
        (["{run}", "--resamples", "-1"], "at least 0"),
    ],
)
def test_bad_input_ends_in_a_sentence(arguments, message, toy_runs, capsys):
    assert main(["report", *(text.replace("{run}", str(toy_runs[0])) for text in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_broken_scores_are_named(toy_runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(toy_runs[0], folder)
    (folder / "scores" / "toy-near.npz").write_bytes(b"PK broken")
    with pytest.raises(MmoodError, match=r"toy-near\.npz cannot be read"):
        load_runs([folder])


def published_run(temperature=1.0, prompts=("a photo of a {}",), n_id=50_000) -> str:
    row = registry().tables["mcm:main"].rows[0]
    sizes = {"inaturalist": 10_000, "sun": 10_000, "places": 10_000, "textures": 5_640}
    return json.dumps(
        {
            "schema": 1,
            "stage": "test",
            "provenance": {
                "module": "ZeroShot",
                "encoder": {"name": "ViT-B-16/openai", "pretrained": None},
                "settings": {"prompts": list(prompts)},
                "scores": {"mcm": {"temperature": temperature}},
            },
            "id": [{"set": "imagenet", "n": n_id, "accuracy": 0.66}],
            "rows": [
                {"score": "mcm", "variant": None, "seed": None, "protocol": "static", "set": name, "group": "far"}
                | {"n_id": n_id, "n_ood": n, "aupr_id": 0.5, "aupr_ood": 0.5, "fpr95_ood_pos": 0.5, **row.sets[name]}
                for name, n in sizes.items()
            ],
            "means": [],
        }
    )


@pytest.mark.parametrize(
    ("settings", "tables"),
    [
        ({}, ["mcm:main", "mcm:rerun-neglabel", "mcm:rerun-setar"]),
        ({"prompts": ("The nice {}",)}, ["cma:1"]),
        ({"temperature": 0.01}, []),
        ({"n_id": 45_000}, []),
        ({"prompts": ("a photo of a {}.",)}, []),
    ],
)
def test_published_rows_match_only_their_own_protocol(settings, tables, tmp_path):
    (tmp_path / "results.json").write_text(published_run(**settings))
    found = matches(load_runs([tmp_path])[0])
    assert [match.table.id for match in found] == tables
    for match in found:
        assert set(match.values) == {"inaturalist", "sun", "places", "textures", "mean of far"}
    if tables[:1] == ["mcm:main"]:
        values = dict(found[0].values)
        mean, printed = values.pop("mean of far")
        assert all(ours == theirs for ours, theirs in values.values())
        assert mean == pytest.approx(printed, abs=1e-4), "papers round their means"


@pytest.mark.parametrize(("changed", "tables"), [({}, ["reneg:mos", "tanl:main", "tanl:order"]), ({"carry": True}, [])])
def test_published_rows_of_streams_need_their_protocol_and_stand_beside_the_mean_over_seeds(changed, tables, tmp_path):
    run = json.loads(published_run())
    usual = {"batch_size": 256, "order": "shuffled", "ratio": None, "carry": False, "seeds": [0, 1]}
    settings = {"temperature": 0.01, "reference_behaviour": False, "update": "before"}
    run["provenance"] |= {"scores": {"tanl": settings}, "streams": {"protocol": {**usual, **changed}, "runs": []}}
    run["rows"] = [
        {**row, "score": "tanl", "protocol": "test_time", "seed": seed, "auroc": 0.9 + seed / 100}
        for row in run["rows"]
        for seed in (0, 1)
    ]
    (tmp_path / "results.json").write_text(json.dumps(run))
    found = matches(load_runs([tmp_path])[0])
    assert [match.table.id for match in found] == tables
    if found:
        ours, theirs = found[1].values["sun"]
        assert ours == {"auroc": pytest.approx(0.905), "fpr95_ood_pos": 0.5}
        assert set(theirs) == set(ours), "its FPR95 is of the other convention"
        page = str(published_section(found))
        assert "90.50" in page
        assert "FPR95 OoD-pos" in page
