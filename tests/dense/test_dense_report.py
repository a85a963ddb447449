"""The page of a run of scores of pixels: rates of classes, and the worst images."""

import base64
import json
import shutil

import numpy as np
import pytest
from test_dense_runs import last, run

from mmood.errors import MmoodError
from mmood.report.page.pixels import pixels_section
from mmood.report.pixels import pixel_sets
from mmood.report.runs import load_runs


@pytest.fixture(scope="module")
def tested(segmenter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "test"
    return run(["test", "--ckpt_path", last(segmenter), "--evaluation.save_maps", "3"], folder)


def test_a_page_has_the_rates_of_all_classes_and_the_worst_images(tested, tmp_path):
    from mmood.cli.main import main

    assert main(["report", str(tested), "--out", str(tmp_path / "page.html"), "--resamples", "0"]) == 0
    page = (tmp_path / "page.html").read_text()
    start = page.index('<section id="pixels">')
    shown = page[start : page.index("</section>", start)]
    assert 'href="#pixels"' in page
    assert "mean of all" not in page  # over conventions
    (found,) = pixel_sets(load_runs([tested])[0])
    for name in ("sky", "road", "car", "OoD pixels"):
        assert f">{name}</th>" in shown
    assert shown.count("<figure>") == 3
    for image in found.images:
        assert base64.b64encode(image.picture).decode() in shown


def test_rates_and_worst_pixels_are_those_of_the_maps(tested):
    (found,) = pixel_sets(load_runs([tested])[0])
    details = json.loads((tested / "dense.json").read_text())["sets"]["street-test"]["scores"][found.score]
    rows = {row["score"]: row for row in json.loads((tested / "results.json").read_text())["rows"]
            if row["set"] == "street-test: pixels"}  # fmt: skip
    assert found.score == max(rows, key=lambda name: rows[name]["auroc"])
    assert found.rejected_ood[found.score] == pytest.approx(1 - rows[found.score]["fpr95_id_pos"])
    for image in found.images:
        with np.load(tested / f"maps/street-test/{image.key}.npz") as arrays:
            targets, scores = arrays["targets"], arrays[found.score]
        assert image.alarms == (scores[targets >= 0] < details["threshold"]).mean()
        worst = image.false_alarm
        assert scores[worst.row, worst.column] == scores[targets >= 0].min()
        assert ("sky", "road", "car")[targets[worst.row, worst.column]] == worst.name
        if (targets == -1).any():
            assert scores[image.miss.row, image.miss.column] == scores[targets == -1].max()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("dense.json", b"[]", "must be an object"),
        ("dense.json", b'{"run": "another", "sets": {}}', "another"),
        ("maps/street-test/0.npz", b"no zip", "cannot be read"),
    ],
)
def test_files_that_are_broken_or_of_another_run(tested, tmp_path, name, content, sentence):
    copy = shutil.copytree(tested, tmp_path / "copy")
    (copy / name).write_bytes(content)
    with pytest.raises(MmoodError, match=sentence):
        pixel_sets(load_runs([copy])[0])


def test_runs_of_images_have_no_such_section(tested, tmp_path):
    copy = shutil.copytree(tested, tmp_path / "copy")
    (copy / "dense.json").unlink()
    assert pixels_section(load_runs([copy])) is None
