"""What breaks first: conditions read from variants, losses against the right clean numbers, the order, and the page."""

import re
from pathlib import Path

import pytest

from mmood.metrics.functional import OoDMetrics
from mmood.report.conditions import Condition, split_variant
from mmood.report.page.robustness import robustness_section
from mmood.report.robustness import detectors_of
from mmood.report.runs import Run
from mmood.results.model import IdRow, ResultRow, build_results


def row(score, auroc, variant=None, of="sun", n_id=100):
    rates = dict.fromkeys(("aupr_id", "aupr_ood", "fpr95_id_pos", "fpr95_ood_pos"), 0.5)
    metrics = OoDMetrics(n_id=n_id, n_ood=50, auroc=auroc, **rates)
    return ResultRow(score=score, variant=variant, set=of, group="far", metrics=metrics)


def run(name, *rows, **provenance):
    found = build_results(
        stage="test", provenance=provenance, id_rows=[IdRow(set="val", n=100, accuracy=0.5)], rows=rows
    )
    return Run(name, Path(name), found)


@pytest.fixture
def runs():
    return [
        run("clean", row("mcm", 0.9), row("knn", 0.8), row("energy", 0.7)),
        run("fog-1", row("mcm", 0.85, "fog 1 of id"), row("knn", 0.6, "fog 1 of id")),
        run("fog-5", row("mcm", 0.6, "fog 5 of id"), row("knn", 0.55, "fog 5 of id")),
        # On other images, with clean numbers of its own.
        run(
            "attack",
            row("mcm", 0.95, "clean", n_id=10),
            row("mcm", 0.3, "apgd linf 1/255 ood-as-id", n_id=10),
            row("mcm", 0.1, "apgd linf 4/255 ood-as-id", n_id=10),
        ),
        run(
            "smoothed",
            row("mcm", 0.92, n_id=20),
            row("mcm", 0.88, "smoothed 0.25", n_id=20),
            row("mcm", 0.7, "smoothed 0.25, certified l2 0.5 ood-as-id", n_id=20),
        ),
    ]


@pytest.mark.parametrize(
    ("variant", "own", "condition"),
    [
        (None, None, Condition()),
        ("clean", None, Condition()),
        ("wise-ft 0.5", "wise-ft 0.5", Condition()),
        ("id+csid", None, Condition("shift", "id+csid")),
        ("fog 3 of csid, id+csid", None, Condition("shift", "fog of csid, id+csid", 3.0, "3")),
        ("fog 3 of csid", None, Condition()),
        ("manipulation", None, Condition("attack", "manipulation")),
        ("pgd l2 0.5 both", None, Condition("attack", "pgd l2 both", 0.5, "0.5")),
        ("apgd linf 8/255 id-as-ood", None, Condition("attack", "apgd linf id-as-ood", 8 / 255, "8/255")),
        (
            "wise-ft 1, smoothed 0.1, certified l2 0.25 ood-as-id",
            "wise-ft 1",
            Condition("certificate", "smoothed 0.1, certified l2 ood-as-id", 0.25, "0.25"),
        ),
    ],
)
def test_a_variant_says_what_a_row_was_measured_under(variant, own, condition):
    assert split_variant(variant) == (own, condition)


def test_losses_are_against_the_clean_number_of_the_same_images(runs):
    mcm, knn = detectors_of(runs)

    losses = {(family.name, point.condition.shown): point.loss for family in mcm.families for point in family.points}
    assert {key: round(loss, 9) for key, loss in losses.items()} == {
        ("fog of id", "1"): 0.05,
        ("fog of id", "5"): 0.3,
        ("apgd linf ood-as-id", "1/255"): 0.65,
        ("apgd linf ood-as-id", "4/255"): 0.85,
        ("smoothed 0.25", ""): 0.04,
        ("smoothed 0.25, certified l2 ood-as-id", "0.5"): 0.22,
    }
    assert (mcm.name, mcm.clean, knn.name, knn.clean) == ("mcm", 0.9, "knn", 0.8)
    assert "energy" not in (mcm.name, knn.name), "it was measured clean alone"


def test_what_costs_most_at_its_weakest_comes_first(runs):
    mcm, knn = detectors_of(runs)

    assert [family.name for family in mcm.ranked()] == [
        "apgd linf ood-as-id",
        "smoothed 0.25, certified l2 ood-as-id",
        "fog of id",
        "smoothed 0.25",
    ]
    broken = {family.name: family.first_broken for family in mcm.families}
    assert broken["fog of id"].condition.shown == "5", "0.6 is less than half way from 0.9 to chance, 0.85 is not"
    assert broken["apgd linf ood-as-id"].condition.shown == "1/255"
    assert broken["smoothed 0.25"] is None
    assert knn.families[0].first_broken.condition.shown == "1"


def test_other_images_give_no_loss():
    (mcm,) = detectors_of([run("clean", row("mcm", 0.9)), run("fog", row("mcm", 0.8, "fog 2", n_id=7))])

    assert mcm.families[0].points[0].loss is None
    assert mcm.families[0].first_broken is None


def test_detectors_with_other_weights_or_settings_stand_apart():
    one = [row("mcm", 0.9), row("mcm", 0.7, "id+csid")]
    found = detectors_of(
        [
            run("a", *one, encoder={"weights_sha256": "1"}, scores={"mcm": {"temperature": 1}}),
            run("b", *one, encoder={"weights_sha256": "2"}, scores={"mcm": {"temperature": 1}}),
            run("c", *one, encoder={"weights_sha256": "2"}, scores={"mcm": {"temperature": 2}}),
        ]
    )

    assert [detector.name for detector in found] == ["mcm (a)", "mcm (b)", "mcm (c)"]


def test_the_page_shows_the_order_and_every_number(runs):
    section = robustness_section(runs)
    ranking, beside = re.findall(r"<table.*?</table>", section, flags=re.DOTALL)

    assert robustness_section(runs[:1]) is None, "nothing but clean numbers"
    places = re.findall(r"<tr><th[^>]*>(\w+)</th><td[^>]*>(\d)</td><td>(\w+)</td>", ranking)
    assert places[:4] == [
        ("mcm", "1", "attack"), ("mcm", "2", "certificate"), ("mcm", "3", "shift"), ("mcm", "4", "defence"),
    ]  # fmt: skip
    lines = [re.sub(r"<[^>]+>", "|", line) for line in re.findall(r"<tr>.*?</tr>", beside, flags=re.DOTALL)]
    assert [line.strip("|").split("|")[0] for line in lines[1:]] == [
        "clean", "shift", "shift", "attack", "attack", "defence", "certificate",
    ]  # fmt: skip
    assert "90.00" in lines[1]
    assert "\N{MINUS SIGN}65.00" in lines[4]
