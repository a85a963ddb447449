"""`mmood monitor`: quiet on ID images at the stated rate, loud when the images are others."""

import json

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from mmood.cli.main import main
from mmood.detector.conformal import calibrate
from mmood.detector.drift import Reference, energy_test, population_stability, windows
from mmood.detector.embeddings import summarised
from mmood.errors import MmoodError

DIM = 8


def images(generator, count, shift=0.0):
    """Scores and embeddings; `shift` moves both away from ID."""
    rows = generator.normal(size=(count, DIM)).astype(np.float32)
    rows[:, :2] += (shift, 2)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return (generator.normal(size=count) - shift).astype(np.float32), rows


def write(path, scores, rows):
    lines = [
        {"input": "x", "status": "ok", "score": float(score), "p_value": 0.5, "accepted": True} for score in scores
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    np.save(f"{path}.embeddings.npy", rows.astype(np.float16))


@pytest.fixture(scope="module")
def reference():
    scores, rows = images(np.random.default_rng(0), 1000)
    return Reference(calibrate(scores, 0.95), summarised([rows]), rate=0.05)


def test_false_alarms_keep_their_rate(reference, tmp_path):
    """Over the draw of the calibration, too: each round has one of its own."""
    generator, alarms, count = np.random.default_rng(1), 0, 40
    for _ in range(count):
        scores, rows = images(generator, 500)
        fresh = Reference(calibrate(scores, 0.95), summarised([rows]), 0.05)
        write(tmp_path / "d.jsonl", *images(generator, 100))
        (window,) = windows([tmp_path / "d.jsonl"], fresh, 100)
        alarms += bool(window.alarms)
    assert stats.binomtest(alarms, count, 0.05, alternative="greater").pvalue > 1e-3


def test_a_window_of_other_images_alarms_and_no_other(reference, tmp_path):
    generator = np.random.default_rng(2)
    parts = [images(generator, 200), images(generator, 200, shift=1.0), images(generator, 150)]
    write(tmp_path / "d.jsonl", *(np.concatenate(both) for both in zip(*parts, strict=True)))
    first, second, third = windows([tmp_path / "d.jsonl"], reference, 200)
    assert (first.alarms, third.alarms, third.images) == ((), (), 150)
    assert set(second.alarms) == {"rejected", "ks", "energy"}
    assert second.psi > 5 * first.psi
    assert second.cosine < first.cosine
    scores = parts[1][0]
    assert second.rejected == np.mean(scores < reference.calibration.threshold)
    assert (second.ks, second.ks_p) == pytest.approx(tuple(stats.ks_2samp(scores, reference.calibration.scores)))


def test_psi_and_energy_by_their_definitions():
    generator = np.random.default_rng(3)
    calibration, scores = generator.normal(size=1000), generator.normal(1, 1, 400)
    edges = [-np.inf, *np.quantile(calibration, np.arange(1, 10) / 10), np.inf]
    actual, expected = (np.histogram(values, edges)[0] + 0.5 for values in (scores, calibration))
    actual, expected = actual / actual.sum(), expected / expected.sum()
    assert population_stability(scores, calibration) == pytest.approx(
        stats.entropy(actual, expected) + stats.entropy(expected, actual)
    )
    x, y = generator.normal(size=(30, 3)), generator.normal(0.8, 1, (40, 3))
    found, p_value = energy_test(x, y)
    assert found == pytest.approx(2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean())
    assert p_value == 1 / 200
    assert energy_test(x[:, :1], x[:, :1].copy())[1] == 1.0


def test_the_command_has_a_table_a_file_a_picture_and_an_exit_code(saved, id_folder, toy_root, tmp_path, capsys):
    decisions, noise = tmp_path / "d.csv", tmp_path / "noise.csv"
    out = tmp_path / "m.json"
    detect = ["detect", str(saved), "--embeddings", "--device", "cpu"]
    assert main([*detect, str(id_folder), "--out", str(decisions)]) == 0
    assert main(["monitor", str(saved), str(decisions), "--window", "48", "--out", str(out)]) == 0
    document = json.loads(out.read_text())
    assert [window["images"] for window in document["windows"]] == [48]
    assert out.with_suffix(".svg").read_text().startswith("<svg")
    assert "0 of 1 windows alarm" in capsys.readouterr().out
    assert main([*detect, str(toy_root.parent / "images" / "toy-near"), "--out", str(noise)]) == 0
    assert main(["monitor", str(saved), str(noise), "--window", "21"]) == 3
    noise.with_name("noise.csv.embeddings.npy").unlink()
    main(["monitor", str(saved), str(noise), "--window", "21"])
    assert "Embeddings were not compared" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.csv"], "There are no decisions at none.csv"),
        (["{d}", "--window", "5"], "--window is 5"),
        (["{d}", "--false_alarms", "0"], "--false_alarms is 0.0"),
        (["{d}", "--false_alarms", "0.001"], "no p-value below 0.005"),
    ],
)
def test_what_cannot_be_monitored_is_said(saved, tmp_path, capsys, arguments, said):
    write(tmp_path / "d.jsonl", *images(np.random.default_rng(0), 30))
    assert main(["monitor", str(saved), *(argument.format(d=tmp_path / "d.jsonl") for argument in arguments)]) == 2
    assert said in capsys.readouterr().err


def test_embeddings_of_another_tower_are_refused(reference, tmp_path):
    scores, rows = images(np.random.default_rng(0), 30)
    write(tmp_path / "d.jsonl", scores, rows[:, :5])
    with pytest.raises(MmoodError, match="the detector's embeddings have 8 columns"):
        list(windows([tmp_path / "d.jsonl"], reference, 30))
