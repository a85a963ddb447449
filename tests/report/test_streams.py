"""Test-time adaptive scores in every table: a block of their own, mean and spread over seeds, the protocol in words."""

import io
import statistics

import pytest
from rich.console import Console

from mmood.metrics.functional import OoDMetrics
from mmood.results.model import IdRow, ResultRow, build_results
from mmood.results.protocol import protocol_sentences, run_protocols, stream_lines
from mmood.results.tables import to_csv, to_latex, to_markdown, to_rich

VALUES = {("sun", 0): 0.91, ("sun", 1): 0.95, ("sun", 2): 0.90, ("dtd", 0): 0.71, ("dtd", 1): 0.75, ("dtd", 2): 0.85}
PROTOCOL = {"batch_size": 64, "order": "id-first", "ratio": [1, 100], "carry": True, "seeds": [0, 1, 2]}


def row(at, name, **more):
    rates = {name: at for name in ("auroc", "aupr_id", "aupr_ood", "fpr95_id_pos", "fpr95_ood_pos")}
    return ResultRow(set=name, group="far", metrics=OoDMetrics(n_id=10, n_ood=1000, **rates), **more)


def results(**provenance):
    rows = [row(0.5, name, score="mcm") for name in ("sun", "dtd")]
    rows += [row(at, of, score="ada", seed=seed, protocol="test_time") for (of, seed), at in VALUES.items()]
    return build_results(
        stage="test", provenance=provenance, id_rows=[IdRow(set="imagenet", n=10, accuracy=0.5)], rows=rows
    )


def shown(value):
    return f"{100 * value:.2f}"


def spreads():
    """Mean and sample deviation by hand: of a set over its seeds, of the mean over sets for each seed."""
    found = {}
    for name in ("sun", "dtd"):
        values = [at for (of, _), at in VALUES.items() if of == name]
        found[name] = shown(statistics.mean(values)), shown(statistics.stdev(values))
    by_seed = [(VALUES["sun", seed] + VALUES["dtd", seed]) / 2 for seed in (0, 1, 2)]
    found["mean of far"] = shown(statistics.mean(by_seed)), shown(statistics.stdev(by_seed))
    return found


def test_markdown_and_latex_show_mean_and_spread_in_a_block_of_their_own():
    markdown, latex = to_markdown(results()), to_latex(results())
    static, adaptive = markdown.split("## Test-time adaptive")
    assert "±" not in static
    for place, (mean, deviation) in spreads().items():
        (line,) = [line for line in adaptive.splitlines() if line.startswith(f"| {place} ")]
        assert f"{mean} ± {deviation}" in line
        assert rf"{mean}\,$\pm$\,{deviation}" in latex


def test_the_screen_shows_the_spread_below_the_mean():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(to_rich(results(streams={"protocol": PROTOCOL})))
    text = console.export_text()
    assert text.index("TEST-TIME ADAPTIVE") < text.index(spreads()["sun"][0])
    assert f"±{spreads()['sun'][1]}" in text
    assert "1:100" in text


def test_csv_keeps_a_row_for_each_seed():
    lines = to_csv(results()).splitlines()
    assert sum(",test_time," in line for line in lines) == len(VALUES)


def test_the_protocol_is_said_in_words():
    (said,) = protocol_sentences(
        results(streams={"protocol": {**PROTOCOL, "update": {"ada": "after", "tanl": "before"}}})
    )
    for part in (
        "all ID images first",
        "ID:OoD 1:100",
        "batches of 64",
        "carried from set to set",
        "seeds of the stream: 0, 1, 2",
    ):
        assert part in said
    assert "tanl learns from a batch before scoring it. ada learns from a batch after scoring it." in said
    (other,) = protocol_sentences(results())
    assert "not recorded" in other
    static = build_results(stage="test", provenance={}, id_rows=[], rows=[row(0.5, "sun", score="mcm")])
    assert protocol_sentences(static) == []


def test_runs_of_one_protocol_share_a_sentence():
    one, other = results(streams={"protocol": PROTOCOL}), results(streams={"protocol": {**PROTOCOL, "batch_size": 1}})
    assert [said.split(".")[0] for said in run_protocols({"a": one, "b": other, "c": one})] == ["a, c", "b"]


def test_counts_and_purity_are_means_over_seeds():
    runs = [
        {"variant": None, "score": "ada", "set": "sun", "seed": seed, "counts": {"seen": 10 + seed}, "purity": of}
        for seed, of in enumerate(
            [
                {"id": {"kept": 2, "pure": 0.5}, "ood": {"kept": 0, "pure": None}},
                {"id": {"kept": 4, "pure": 1.0}, "ood": {"kept": 0, "pure": None}},
            ]
        )
    ]
    (line,) = stream_lines(results(streams={"protocol": PROTOCOL, "runs": runs}))
    assert (line.score, line.set, line.counts) == ("ada", "sun", {"seen": 10.5})
    assert line.purity == {"id": (3, 0.75), "ood": (0, None)}


@pytest.mark.parametrize(
    "section", [None, 3, [], {"protocol": 1}, {"protocol": {"seeds": 3}, "runs": [1, {"counts": []}]}]
)
def test_untrusted_provenance_is_read_with_care(section):
    found = results(streams=section)
    assert len(protocol_sentences(found)) == 1
    assert all(line.counts == {} for line in stream_lines(found))
