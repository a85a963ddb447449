"""The page of claims: sides are paired image by image, and a verdict follows from interval and seeds alone."""

import json

import numpy as np
import pytest
import table_claims
from claims import CLAIMS, LEARNED, Claim, Side
from table_claims import Result

from mmood.results.arrays import arrays_bytes


@pytest.mark.parametrize(
    ("better", "interval", "verdict"),
    [
        ((0.8, 0.82), (0.05, 0.15), "holds"),
        ((0.8, 0.69), (0.01, 0.08), "cannot be told"),
        ((0.8,), (-0.01, 0.2), "cannot be told"),
        ((0.6,), (-0.2, -0.05), "does not"),
    ],
)
def test_the_verdict_needs_the_interval_and_every_seed(better, interval, verdict):
    assert Result("liteclip", "near", better, (0.7,), interval).verdict == verdict


def run(folder, scores, stream=False) -> None:
    """Write a run of a score; of a stream in a random order."""
    sides = {"id-test": scores[0], "near-ood": scores[1]}
    (folder / "scores").mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"id": [{"set": "id-test"}]}))
    for name, values in sides.items():
        arrays = {"key": np.arange(len(values)), "static": values}
        (folder / "scores" / f"{name}.npz").write_bytes(arrays_bytes(arrays, "run"))
    if stream:
        label = np.r_[np.zeros(len(scores[0])), -np.ones(len(scores[1]))].astype(int)
        key = np.r_[np.arange(len(scores[0])), np.arange(len(scores[1]))]
        order = np.random.default_rng(1).permutation(len(key))
        arrays = {"key": key[order], "label": label[order], "score": np.concatenate(scores)[order]}
        place = folder / "scores" / "streams" / "learning"
        place.mkdir(parents=True)
        (place / "near-ood.0.npz").write_bytes(arrays_bytes(arrays, "run"))


def test_a_stream_is_paired_with_a_static_score_image_by_image(tmp_path):
    draw = np.random.default_rng(0)
    scores = [draw.normal(1, 1, 80).astype(np.float32), draw.normal(0, 1, 60).astype(np.float32)]
    run(tmp_path / "static", scores)
    run(tmp_path / "stream", scores, stream=True)
    claim = Claim("t", "s", Side("work/stream", "learning"), Side("work/static", "static"), ("liteclip",), "n")
    (result,) = table_claims._tried(claim, {"work": tmp_path})
    assert result.better == result.worse
    assert result.interval == (0, 0), "the same images in every resample"


def test_every_claim_is_on_the_page_also_without_runs():
    page = table_claims._page([(claim, []) for claim in (*CLAIMS, *LEARNED)], None)
    assert page.count("not run | not run") == len(CLAIMS) + len(LEARNED)
    for claim in (*CLAIMS, *LEARNED):
        assert f"## {claim.title}\n" in page
