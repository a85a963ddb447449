"""Results as files and tables: nothing is lost, nothing is half written, and every table says what it shows."""

import csv
import dataclasses
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import mmood.files.writing
from mmood.errors import MmoodError
from mmood.metrics.functional import OoDMetrics
from mmood.results.blocks import FPR95_OOD_POS, blocks, percent
from mmood.results.model import IdRow, ResultRow, Results, build_results
from mmood.results.serialisation import read_results, to_json, write_results
from mmood.results.tables import to_csv, to_latex, to_markdown, to_rich

SETS = {"ssb_hard": "near", "ninco": "near", "inaturalist": "far", "sun": "far", "textures": "far"}


def metrics(start: float) -> OoDMetrics:
    """Five different numbers, a seventh apart from each other row's, with more digits than any table prints."""
    values = [start + i / 70 for i in range(5)]
    return OoDMetrics(
        n_id=50_000,
        n_ood=1_234,
        auroc=values[0],
        aupr_id=values[1],
        aupr_ood=values[2],
        fpr95_id_pos=values[3],
        fpr95_ood_pos=values[4],
    )


def results(partial: bool = False) -> Results:
    rows = [
        ResultRow(score=score, set=name, group=group, metrics=metrics((7 * i + j) / 40 + 0.1))
        for i, score in enumerate(["mcm", "neglabel", "relative_mahalanobis"])
        for j, (name, group) in enumerate(SETS.items())
    ]
    rows += [
        ResultRow(
            score="adaneg",
            variant="gap=0.5",
            seed=seed,
            protocol="test_time",
            set=name,
            group="far",
            metrics=metrics(at),
        )
        for seed, name, at in [(0, "sun", 0.9), (1, "sun", 0.92), (0, "textures", 0.5), (1, "textures", 0.5)]
    ]
    id_rows = [IdRow(set="imagenet", n=50_000, accuracy=0.68341)]
    return build_results(
        stage="test", provenance={"model": "ViT-B-16", "seeds": [0, 1]}, id_rows=id_rows, rows=rows, partial=partial
    )


def rendered(found: Results, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(to_rich(found))
    return console.file.getvalue()  # type: ignore[attr-defined]


def printed(found: Results) -> set[str]:
    """Every number that a full table must hold."""
    return {
        cell.text for p in ("static", "test_time") for b in blocks(found, p) for c in b.lines.values() for cell in c
    }


def test_means_are_unweighted_over_sets_and_seeds_count_as_one() -> None:
    means = {(m.score, m.variant, m.protocol, m.group): m.rates for m in results().means}
    assert set(means) >= {("mcm", None, "static", g) for g in ("near", "far", "all")}
    assert means["mcm", None, "static", "near"].auroc == pytest.approx((0.1 + 0.125) / 2, abs=1e-15)
    assert means["mcm", None, "static", "all"].auroc == pytest.approx(0.15, abs=1e-15)
    assert means["adaneg", "gap=0.5", "test_time", "far"].auroc == pytest.approx((0.91 + 0.5) / 2, abs=1e-15)


def test_what_is_written_is_read_back_to_the_last_digit(tmp_path: Path) -> None:
    paths = write_results(tmp_path, results())
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)
    assert [p.name for p in paths] == ["results.json", "results.csv", "results.md", "results.tex"]
    assert read_results(tmp_path) == read_results(tmp_path / "results.json") == results()
    assert read_results(write_results(tmp_path, results(partial=True), ["json"])[0]).partial


def test_json_is_flat_and_named_as_documented() -> None:
    raw = json.loads(to_json(results()))
    assert list(raw) == ["schema", "stage", "provenance", "id", "rows", "means"]
    assert [*raw["rows"][0], "run"] == list(csv.DictReader(to_csv(results()).splitlines()).fieldnames or [])
    assert set(raw["rows"][0]) - set(raw["means"][0]) == {"seed", "set", "n_id", "n_ood"}
    assert json.loads(to_json(results(partial=True)))["partial"] is True


def test_csv_keeps_every_digit() -> None:
    for line, row in zip(csv.DictReader(to_csv(results()).splitlines()), results().rows, strict=True):
        assert (line["score"], line["set"], line["seed"]) == (
            row.score,
            row.set,
            "" if row.seed is None else str(row.seed),
        )
        assert float(line["fpr95_ood_pos"]) == row.metrics.fpr95_ood_pos
        assert int(line["n_ood"]) == row.metrics.n_ood


def test_skipped_samples_are_kept_and_told(tmp_path: Path) -> None:
    sample = {"set": "sun", "key": 7, "shard": "000.tar", "sample": "a", "reason": "truncated"}
    found = dataclasses.replace(results(), skipped=(sample,))
    assert read_results(write_results(tmp_path, found)[0]) == found
    assert "could not be read: 1 image." in rendered(found, 80)
    assert "could not be read" not in rendered(results(), 80)


def test_nan_never_reaches_a_file(tmp_path: Path) -> None:
    bad = dataclasses.replace(results(), provenance={"temperature": math.nan})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_results(tmp_path, bad)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_results(tmp_path, results())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mmood.files.writing.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_results(tmp_path, results(partial=True))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def change(raw: dict[str, Any], *path: str | int, to: object) -> None:
    *parents, last = path
    for key in parents:
        raw = raw[key]  # type: ignore[index]
    raw[last] = to  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["schema"], 2, "has schema 2; this version of mmood reads schema 1"),
        (["rows"], {}, "has rows = {}; it must be a list"),
        (["rows", 3], 5, r"rows\[3\] is 5; it must be an object"),
        (["rows", 3, "auroc"], 93.1, r"rows\[3\] has auroc = 93.1; it must be a number from 0 to 1"),
        (["rows", 0, "auroc"], math.nan, r"NaN is not a JSON number"),
        (["rows", 0, "seed"], "0", r"has seed = '0'; it must be a whole number"),
        (["rows", 0, "protocol"], "adaptive", "it must be 'static' or 'test_time'"),
        (["means", 1, "group"], None, r"means\[1\] has group = None; it must be a text"),
        (["id", 0, "n"], True, r"id\[0\] has n = True; it must be a whole number"),
        (["provenance"], "x", "provenance = 'x'"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, path: list[str | int], value: object, message: str) -> None:
    raw = results().as_dict()
    change(raw, *path, to=value)
    (tmp_path / "results.json").write_text(json.dumps(raw))
    with pytest.raises(MmoodError, match=message):
        read_results(tmp_path)


def test_missing_fields_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MmoodError, match="There are no results at"):
        read_results(tmp_path)
    file = tmp_path / "results.json"
    for text, message in [("{", "is not JSON"), ("[]", r"is \[\]"), ('{"schema": 1}', "has no 'stage'")]:
        file.write_text(text)
        with pytest.raises(MmoodError, match=message):
            read_results(tmp_path)


@pytest.mark.parametrize("width", [80, 100])
def test_the_screen_shows_every_number_and_set(width: int) -> None:
    screen = rendered(results(), width)
    shown = set(re.findall(r"\d+\.\d\d\b", screen))
    assert printed(results()) <= shown
    assert all(name in screen for name in [*SETS, "mean of near", "mean of far", "mean of all", "relative_mahalanobis"])
    assert "accuracy 68.34 %" in screen
    assert "1,234 OoD" in screen
    assert "FPR95 ID-pos: OoD accepted when at least 95 % of ID is accepted." in screen
    assert "FPR95 OoD-pos: ID rejected when at least 95 % of OoD is rejected." in screen
    assert screen.index("mean of all") < screen.index("TEST-TIME ADAPTIVE") < screen.index("adaneg [gap=0.5]")
    assert max(map(len, screen.splitlines())) <= width


def test_long_names_fold_and_lose_nothing() -> None:
    name = "a_score_with_a_name_that_nobody_should_give_but_somebody_will"
    row = dataclasses.replace(results().rows[0], score=name)
    found = build_results(stage="test", provenance={}, id_rows=[], rows=[row])
    screen = rendered(found, 80)
    assert name in "".join(re.sub(r"[^a-z_]", "", line) for line in screen.splitlines())
    assert percent(row.metrics.aupr_ood) in screen


def test_the_best_static_number_of_a_column_is_marked_and_equal_prints_are_equal() -> None:
    def row(score: str, auroc: float, **more: Any) -> ResultRow:
        same = dataclasses.replace(metrics(0.2), auroc=auroc)
        return ResultRow(score=score, set="sun", group="far", metrics=same, **more)

    rows = [row("a", 0.900001), row("b", 0.900002), row("c", 0.8), row("t", 0.99, protocol="test_time")]
    found = build_results(stage="test", provenance={}, id_rows=[], rows=rows)
    (static,) = blocks(found, "static")
    assert {name: cells[0].best for name, cells in static.lines.items()} == {"a": True, "b": True, "c": False}
    (adaptive,) = blocks(found, "test_time")
    assert not any(cell.best for cell in adaptive.lines["t"])
    assert to_markdown(found).count("**90.00**") == 2
    assert to_latex(found).count(r"\textbf{90.00}") == 2
    assert "**99.00**" not in to_markdown(found)


def test_lower_fpr_is_better() -> None:
    static = blocks(results(), "static")[0]
    assert [cell.best for cell in static.lines["mcm"]] == [False, True, True, False, False]
    assert [cell.best for cell in static.lines["relative_mahalanobis"]] == [True, False, False, True, True]


def test_markdown_is_aligned_escaped_and_complete() -> None:
    text = to_markdown(results())
    tables = [line for line in text.splitlines() if line.startswith("|")]
    static, adaptive = text.split("## Test-time adaptive")
    assert len({len(line) for line in static.splitlines() if line.startswith("|")}) == 1
    assert all(len(re.split(r"(?<!\\)\|", line)) == 9 for line in tables)
    assert r"| ssb\_hard " in static
    assert r"adaneg \[gap=0.5\]" in adaptive
    assert "adaneg" not in static
    assert printed(results()) <= set(re.findall(r"\d+\.\d\d\b", text))
    assert "OoD accepted when at least 95 % of ID is accepted" in text


def test_a_pipe_in_a_name_does_not_break_the_table() -> None:
    rows = [dataclasses.replace(results().rows[0], score="p(y|x)")]
    text = to_markdown(build_results(stage="test", provenance={}, id_rows=[], rows=rows))
    assert r"p(y\|x)" in text


def test_latex_is_rectangular_escaped_and_says_which_fpr() -> None:
    text = to_latex(results())
    body = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in body} == {2 * (len(SETS) + 3)}
    assert r"ssb\_hard" in text
    assert r"relative\_mahalanobis" in text
    assert not re.search(r"(?<!\\)[_#]", text)
    assert r"at least 95 \% of ID is accepted" in text
    assert "--" in next(line for line in body if line.startswith("adaneg"))  # was not run on the near sets
    assert text.index("relative") < text.index(r"\emph{test-time adaptive}") < text.index("adaneg")
    assert r"at least 95 \% of OoD is rejected" in to_latex(results(), fpr=FPR95_OOD_POS)


def test_every_special_character_of_latex_is_escaped() -> None:
    rows = [dataclasses.replace(results().rows[0], score="a&b%c$d#e_f{g}h~i^j\\k")]
    text = to_latex(build_results(stage="test", provenance={}, id_rows=[], rows=rows))
    assert r"a\&b\%c\$d\#e\_f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k" in text


def test_results_without_ood_sets_show_the_accuracy() -> None:
    found = build_results(
        stage="validate", provenance={}, id_rows=[IdRow(set="val", n=10, accuracy=0.5)], rows=[], partial=True
    )
    for text in (rendered(found, 80), to_markdown(found), to_latex(found)):
        assert "accuracy 50.00" in text
        assert "partial" in text
    assert len(to_csv(found).splitlines()) == 1


def test_a_model_that_names_no_class_has_no_accuracy(tmp_path: Path) -> None:
    found = build_results(stage="test", provenance={}, id_rows=[IdRow(set="val", n=10, accuracy=None)], rows=[])
    assert "accuracy" not in rendered(found, 80)
    assert read_results(write_results(tmp_path, found)[0]) == found


def test_starts_without_torch() -> None:
    check = "import sys, mmood.results.serialisation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
