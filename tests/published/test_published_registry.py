"""The published tables: their files agree with themselves, with the benchmarks, and with the headers of the configs."""

import re
from pathlib import Path
from statistics import fmean

import pytest

from mmood.data.benchmarks import BENCHMARKS
from mmood.errors import MmoodError
from mmood.published.reading import parse_paper, parse_protocols
from mmood.published.registry import find_tables, registry

CONFIGS = Path(__file__).parents[2] / "configs"
# Means that the papers print are not always those of their columns.
MISPRINTED = {("cma:1", "CMA + NegLabel", "auroc")}
PAPER = """\
method: Mine
arxiv: "1234.56789"
differs: [It is mine.]
tables:
  main:
    benchmark: imagenet-mos
    model: ViT-B-16/openai
    fpr95: ood_pos
    grade: note
    read_in: a note
    rows:
      - {method: Mine, sets: {sun: [90.5, 12.25], places: [null, 7]}, means: {far: [91]}, accuracy: 66.6}
"""


def test_every_paper_of_the_field_has_its_tables():
    papers = {"mcm", "neglabel", "csp", "eoe", "cma", "plp", "adaneg", "tanl", "coevo", "interneg", "locoop", "gl-mcm"}
    assert papers <= set(registry().papers())


def test_rows_are_of_the_sets_of_their_benchmark():
    for table in registry().tables.values():
        if table.benchmark is None:
            continue
        groups = BENCHMARKS[table.benchmark].ood
        known = {name for names in groups.values() for name in names}
        for row in table.rows:
            assert set(row.sets) <= known, table.id
            assert set(row.means) <= set(groups), table.id


def test_printed_means_are_those_of_the_columns():
    """So no cell was typed off wrongly, as far as a mean shows it."""
    checked = 0
    for table in registry().tables.values():
        groups = BENCHMARKS[table.benchmark].ood if table.benchmark else {}
        for row in table.rows:
            for group, printed in row.means.items():
                cells = [row.sets.get(name, {}) for name in groups.get(group, ())]
                for metric, mean in printed.items():
                    if cells and all(metric in cell for cell in cells):
                        # Two papers round the mean of rounded cells: half a digit each.
                        fits = fmean(cell[metric] for cell in cells) == pytest.approx(mean, abs=4e-4)
                        assert fits != ((table.id, row.method, metric) in MISPRINTED), (table.id, row.method, metric)
                        checked += 1
    assert checked > 80


def test_headers_of_configs_state_numbers_of_the_registry():
    known = {f"{100 * value:.2f}" for value in _all_values()}
    for path in CONFIGS.glob("*.yaml"):
        head = " ".join(line for line in path.read_text().splitlines() if line.startswith("#"))
        stated = re.findall(r"(?<![\d.])\d{1,2}\.\d{2}(?![\d.]\d| million)", head)
        # Smaller ones are settings.
        assert {number for number in stated if float(number) >= 1} <= known, path.name


def _all_values():
    for table in registry().tables.values():
        for row in table.rows:
            yield from ([] if row.accuracy is None else [row.accuracy])
            for values in (*row.sets.values(), *row.means.values()):
                yield from values.values()
            # A header may also state the mean of the cells, where a paper prints another.
            for metric in {metric for values in row.sets.values() for metric in values}:
                yield fmean(values[metric] for values in row.sets.values() if metric in values)


def test_values_are_read_as_printed():
    (table,) = parse_paper(PAPER, "mine", {})
    (row,) = table.rows
    assert row.sets == {"sun": {"auroc": 0.905, "fpr95_ood_pos": 0.1225}, "places": {"fpr95_ood_pos": 0.07}}
    assert row.means == {"far": {"auroc": 0.91}}
    assert row.accuracy == 0.666
    assert table.source == "Mine, arXiv 1234.56789"
    assert table.tolerance == {"auroc": 0.005, "fpr95": 0.02, "accuracy": 0.005}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("grade: note", "grade: hearsay", "has grade = 'hearsay'; it must be 'table' or"),
        ("fpr95: ood_pos", "fpr95: both", "has fpr95 = 'both'"),
        ("read_in: a note", "red_in: a note", "an unknown key 'red_in'"),
        ("[90.5, 12.25]", "[90.5, 12.25, 3]", "must be 1 to 2 numbers"),
        ("[90.5, 12.25]", "[0.905, 122.5]", "has the number 122.5; it must be a value in per cent"),
        ("{method: Mine", "{protocol: mcm, method: Mine", "'mcm', which no protocol is called"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(old, new, message):
    with pytest.raises(MmoodError, match=re.escape(message)):
        parse_paper(PAPER.replace(old, new, 1), "mine", {})


def test_a_protocol_needs_its_run():
    text = "models: {}\nruns: {}\nprotocols: {p: {run: none, scores: [mcm], module: ZeroShot}}\n"
    with pytest.raises(MmoodError, match="names the run 'none'"):
        parse_protocols(text)


def test_tables_are_found_by_name():
    assert [table.id for table in find_tables("cma")] == ["cma:1", "cma:2", "cma:3"]
    assert [table.id for table in find_tables("cma:2")] == ["cma:2"]
    with pytest.raises(MmoodError, match="There is no paper 'neglable'; did you mean 'neglabel'"):
        find_tables("neglable")
    with pytest.raises(MmoodError, match="There is no table 'cma:9'"):
        find_tables("cma:9")
