"""The leaderboard as a page: a board for each choice of images, filters, what was refused, and the provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from mmood.leaderboard.board import Board, Estimate, Line
from mmood.leaderboard.kinds import KINDS
from mmood.report.page.html import NOTHING, Cell, Html, details, div, element, join, paragraph, section, table
from mmood.report.page.numbers import FIELDS
from mmood.report.page.standalone import asset, standalone
from mmood.results.blocks import FPR95_ID_POS, FPR95_OOD_POS, MEANING, Column, percent

_DESCRIPTION = "OoD detection: numbers computed from the raw scores of runs"


def to_html(found: Sequence[Board], refused: Mapping[str, str], resamples: int, command: str) -> str:
    """Return the page.

    Args:
        found: the boards.
        refused: run folder -> why it is not on a board.
        resamples: of the bootstrap.
        command: that makes the page.
    """
    lines = [line for board in found for line in board.lines]
    body = [
        element("header", [element("h1", "Leaderboard"), paragraph(_said(resamples), "note"), *_kinds(lines)]),
        element(
            "main",
            [
                *(_board(number, board) for number, board in enumerate(found)),
                _refused(refused),
                _provenance(lines),
                _submission(command),
            ],
        ),
    ]
    script = asset("page.js") + asset("leaderboard.js", "mmood.leaderboard")
    return standalone("OoD detection: leaderboard", body, script, _DESCRIPTION)


def _said(resamples: int) -> str:
    drawn = (
        f" Below each number is its 95 % percentile interval, a bootstrap over the images with {resamples:,} resamples."
        if resamples
        else ""
    )
    return (
        "Every number is computed from the raw scores of the images in the run folders; what a folder claims is "
        "compared with that, and a folder with any difference is refused. Runs on other images stand on another board. "
        f"Per cent. {MEANING[FPR95_ID_POS]} {MEANING[FPR95_OOD_POS]}{drawn} Numbers of test-time scores are means over "
        "the seeds of their streams."
    )


def _kinds(lines: Sequence[Line]) -> list[Html]:
    present = [kind for kind in KINDS if any(line.kind == kind for line in lines)]
    boxes = []
    for kind in present:
        box = element(
            "input", (), {"type": "checkbox", "value": kind, "checked": "", "id": f"kind-{kind.replace(' ', '-')}"}
        )
        boxes.append(
            element("label", join([box, f" {kind} ({KINDS[kind]})"]), {"for": f"kind-{kind.replace(' ', '-')}"})
        )
    if len(present) < 2:
        return []
    return [element("fieldset", [element("legend", "Show scores that were given"), *boxes], {"class": "kinds"})]


def _board(number: int, board: Board) -> Html:
    sets = "; ".join(f"{name} ({group}, {size:,})" for name, (group, size) in board.sets.items())
    note = f"ID: {board.id_set[0]} ({board.id_set[1]:,} images). OoD: {sets}."
    places = board.places
    options = [element("option", place, {"value": place}) for place in places]
    chooser = [
        element(
            "label", ["Numbers of ", element("select", options, {"id": f"place-{number}"})], {"for": f"place-{number}"}
        )
    ]
    tables = [element("div", _table(board, place), {"data-place": place}) for place in places]
    parts = [element("h2", board.name), paragraph(note, "note"), *(chooser if len(places) > 1 else []), *tables]
    return element("section", parts, {"class": "board", "id": f"board-{number}"})


def _table(board: Board, place: str) -> Html:
    heads = ["Run", "Score", *(_head(column) for column in FIELDS), "ID accuracy ↑", "Given", "Model"]
    rows = [
        [
            Cell(element("a", line.run.run.name, {"href": f"#run-{line.run.run.results.run}"})),
            Cell(line.score),
            *(_value(line.estimates[place], column) for column in FIELDS),
            Cell(NOTHING) if line.accuracy is None else Cell(percent(line.accuracy), line.accuracy),
            Cell(line.kind, css="kind"),
            Cell(_model(line)),
        ]
        for line in sorted(board.lines, key=lambda line: -line.estimates[place].rates.auroc)
    ]
    return table(f"{place}, best AUROC first; a click on a run shows where its numbers come from", heads, rows)


def _head(column: Column) -> str:
    return f"{column.head} {column.below}".strip() + (" ↑" if column.higher_is_better else " ↓")


def _value(estimate: Estimate, column: Column) -> Cell:
    value, notes = column.value(estimate.rates), []
    if FIELDS[column] in estimate.intervals:
        low, high = estimate.intervals[FIELDS[column]]
        notes.append(element("small", f"[{percent(low)}, {percent(high)}]"))
    if estimate.seeds > 1:
        notes.append(element("small", f"{estimate.seeds} seeds"))
    return Cell(join([percent(value), *notes]), value)


def _model(line: Line) -> str:
    encoder = line.run.run.results.provenance.get("encoder")
    name = str(encoder.get("name", NOTHING)) if isinstance(encoder, dict) else NOTHING
    # A folder on somebody's disk is named by its last part; the hash of the weights is in the provenance.
    return name if not name.startswith("local-dir:") else name.rstrip("/").rpartition("/")[2]


def _refused(refused: Mapping[str, str]) -> Html:
    if not refused:
        return section("refused", "Refused", [paragraph("No run was refused.", "note")])
    rows = [[Cell(name), Cell(reason)] for name, reason in refused.items()]
    return section("refused", "Refused", [table("Run folders that are on no board", ["Run folder", "Why"], rows)])


def _provenance(lines: Sequence[Line]) -> Html:
    runs = {str(line.run.run.results.run): line.run for line in lines}
    parts = []
    for identifier, run in runs.items():
        hashed = (
            "The hashes of its files of scores are those in its results."
            if run.hashed
            else "Its results state no hashes of the files of scores (they are from an older mmood)."
        )
        shown = json.dumps(run.run.results.provenance, indent=1, ensure_ascii=False, sort_keys=True, default=str)
        text = element("pre", shown)
        folded = details(f"{run.run.name} (run {identifier})", [paragraph(hashed, "note"), div("scroll", [text])])
        parts.append(Html(folded.replace("<details>", f'<details id="run-{identifier}">', 1)))
    return section("provenance", "Provenance", parts)


def _submission(command: str) -> Html:
    return section(
        "submission",
        "Submission",
        [
            paragraph(
                "A submission is a run folder with results.json, config.test.yaml and scores/, as mmood test writes "
                "it. Nothing else is asked for, and no number is taken from it. This page was made by"
            ),
            element("pre", command),
            paragraph(
                "The checks find damage, mistakes, and numbers that do not follow from the scores. Scores that were "
                "made up as a whole, with hashes and results to match, are only found by running the config again.",
                "note",
            ),
        ],
    )
