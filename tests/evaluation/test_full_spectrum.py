"""Covariate-shifted ID sets, corruptions and smoothing in whole runs, against sums done by hand."""

import json
import re

import numpy as np
import pytest

from mmood.cli.main import main
from mmood.cli.report import write_report
from mmood.data.settings import resolve
from mmood.errors import MmoodError
from mmood.leaderboard.checking import check_run
from mmood.metrics.functional import ood_metrics

RATES = ("auroc", "aupr_id", "aupr_ood", "fpr95_id_pos", "fpr95_ood_pos")
SCORES = ("mcm", "energy", "entropy")


@pytest.fixture
def flags(toy_flags):
    return ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--data.batch_size", "16"]


def run(folder, flags):
    assert main([*flags, "--run_dir", str(folder)]) == 0
    return json.loads((folder / "results.json").read_text())


def arrays(folder, name):
    with np.load(folder / "scores" / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def row_of(results, score, variant, of):
    (found,) = (row for row in results["rows"] if (row["score"], row["variant"], row["set"]) == (score, variant, of))
    return {name: found[name] for name in RATES}


def test_rows_with_csid_are_those_of_images_pooled_by_hand(flags, tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    plain = run(tmp_path / "plain", flags)
    found = run(tmp_path / "full", [*flags, "--data.csid", "[toy-train, toy-val-ood]"])

    assert [(row["set"], row["n"]) for row in found["id"]] == [
        ("toy-test", 37), ("toy-train", 48), ("toy-val-ood", 9), ("id+csid", 94),
    ]  # fmt: skip
    assert found["id"][1]["accuracy"] is not None
    assert found["id"][2]["accuracy"] is found["id"][3]["accuracy"] is None, "toy-val-ood has no labels"
    id_sets = [arrays(tmp_path / "full", name) for name in ("toy-test", "toy-train", "toy-val-ood")]
    for of in ("toy-near", "toy-far"):
        ood = arrays(tmp_path / "full", of)
        for score in SCORES:
            assert row_of(found, score, None, of) == row_of(plain, score, None, of), "the rows of id stay as they are"
            together = np.concatenate([each[score] for each in id_sets])
            expected = vars(ood_metrics(together, ood[score]))
            assert row_of(found, score, "id+csid", of) == {name: expected[name] for name in RATES}
    assert {mean["variant"] for mean in found["means"]} == {None, "id+csid"}
    assert "37 or 94 ID" in (tmp_path / "full" / "results.md").read_text()

    checked = check_run(tmp_path / "full", "full")
    assert len(checked.rows) == len(found["rows"]), "the leaderboard computes the pooled rows again, too"
    page = tmp_path / "report.html"
    write_report([tmp_path / "plain", tmp_path / "full"], page, resamples=0)
    assert "What breaks first" in page.read_text()


def test_a_corruption_is_in_rows_provenance_and_stores(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    corruption = ["--data.corruption", "{name: gaussian_noise, severity: 3, groups: [id]}"]
    clean = run(tmp_path / "clean", flags)
    found = run(tmp_path / "noisy", [*flags, *corruption])
    again = run(tmp_path / "again", [*flags, *corruption, "--data.batch_size", "5", "--data.loader.workers", "1"])

    variant = "gaussian_noise 3 of id"
    assert {row["variant"] for row in found["rows"]} == {variant}
    sets = found["provenance"]["sets"]
    assert sets["toy-test"]["corruption"] == {"name": "gaussian_noise", "severity": 3, "seed": 0}
    assert "corruption" not in sets["toy-near"]
    name, near = f"mcm [{variant}]", arrays(tmp_path / "clean", "toy-near")
    noisy = arrays(tmp_path / "noisy", "toy-test")[name]
    assert not np.allclose(noisy, arrays(tmp_path / "clean", "toy-test")["mcm"])
    assert np.array_equal(arrays(tmp_path / "noisy", "toy-near")[name], near["mcm"])
    assert np.allclose(arrays(tmp_path / "again", "toy-test")[name], noisy, atol=1e-5), "whatever the batches"
    assert row_of(again, "mcm", variant, "toy-near") == row_of(found, "mcm", variant, "toy-near")

    # A stored set stands for its own corruption alone.
    embed = ["embed", *flags[1:], "--sets", "toy-test"]
    assert main(embed) == 0
    assert run(tmp_path / "stored", flags)["provenance"]["sets"]["toy-test"]["features"] is not None
    assert run(tmp_path / "unstored", [*flags, *corruption])["provenance"]["sets"]["toy-test"]["features"] is None

    none = run(tmp_path / "none", [*flags, "--data.corruption", "{name: fog, severity: 0}"])
    assert none["rows"] == clean["rows"], "severity 0 is the clean run"


def test_smoothed_rows_are_medians_and_bounds(flags, tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    smoothing = ["--evaluation.smoothing", "{copies: 12, noise: 0.1, radii: [0.02, 0.05], alpha: 0.1}"]
    found = run(tmp_path / "smoothed", [*flags, *smoothing])

    bounds = [f"smoothed 0.1, certified l2 {radius} ood-as-id" for radius in ("0.02", "0.05")]
    id_arrays, ood = arrays(tmp_path / "smoothed", "toy-test"), arrays(tmp_path / "smoothed", "toy-near")
    for score in SCORES:
        median, *upper = (ood[f"{score} [{variant}]"] for variant in ("smoothed 0.1", *bounds))
        assert (median <= upper[0]).all()
        assert (upper[0] <= upper[1]).all()
        assert (median < upper[1]).any()
        aurocs = [row_of(found, score, variant, "toy-near")["auroc"] for variant in ("smoothed 0.1", *bounds)]
        assert aurocs == sorted(aurocs, reverse=True)
        for variant in bounds:
            kept = id_arrays[f"{score} [{variant}]"]
            assert np.array_equal(kept, id_arrays[f"{score} [smoothed 0.1]"]), "an adversary changes OoD images alone"
            expected = vars(ood_metrics(kept, ood[f"{score} [{variant}]"]))
            assert row_of(found, score, variant, "toy-near") == {name: expected[name] for name in RATES}
    assert found["provenance"]["smoothing"]["copies"] == 12


@pytest.mark.ddp
def test_two_ranks_give_the_numbers_of_one(flags, tmp_path, monkeypatch, forked):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    settings = [
        *("--data.csid", "[toy-train]", "--data.corruption", "{name: impulse_noise, severity: 2}"),
        *("--evaluation.smoothing", "{copies: 8, noise: 0.1, radii: [0.02], alpha: 0.1}"),
    ]
    one = run(tmp_path / "one", [*flags, *settings])
    forked.ranks([*flags, *settings, "--run_dir", str(tmp_path / "two")], count=2)
    two = json.loads((tmp_path / "two" / "results.json").read_text())

    assert two["provenance"]["world_size"] == 2
    for name in ("toy-test", "toy-train", "toy-near", "toy-far"):
        alone, shared = arrays(tmp_path / "one", name), arrays(tmp_path / "two", name)
        assert alone.keys() == shared.keys()
        for key in alone.keys() - {"run"}:
            assert np.allclose(alone[key], shared[key], atol=1e-5), key
    assert [row["variant"] for row in one["rows"]] == [row["variant"] for row in two["rows"]]
    assert one["rows"] == two["rows"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--data.csid", "[toy-near]"], "The set 'toy-near' is in `data` twice: as csid and in ood.near."),
        (["--data.corruption", "{name: fogg, severity: 1}"], "did you mean 'fog'"),
        (["--data.corruption", "{name: fog, severity: 1, groups: [neer]}"], "has 'neer'; the groups are csid, far, id"),
        (["--evaluation.smoothing.copies", "5"], "with which no score is bounded at the radius 0.125"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_a_sentence(flags, tmp_path, capfd, settings, message):
    assert main([*flags, *settings, "--run_dir", str(tmp_path / "run")]) == 2
    said = re.sub(r"\s+", " ", capfd.readouterr().err)

    assert message in said
    assert "Traceback" not in said


def test_a_group_of_ood_sets_is_not_called_like_one_of_id():
    with pytest.raises(MmoodError, match=r"`data.ood.csid` would count as ID; name such sets in `data.csid`"):
        resolve(None, "imagenet", {"csid": ["imagenet_r"]}, None)


def test_the_full_spectrum_of_openood_has_three_csid_sets():
    plan = resolve("imagenet-full-spectrum", None, None, None)

    assert (plan.id, plan.csid) == ("imagenet_openood", ("imagenet_v2", "imagenet_c", "imagenet_r"))
    assert resolve("imagenet-full-spectrum", None, None, None, csid=[]).csid == ()
