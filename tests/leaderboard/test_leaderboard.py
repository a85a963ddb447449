"""`mmood leaderboard` from outside: honest runs are ranked by their raw scores, and changed ones refused, naming why."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmood.cli.main import main
from mmood.leaderboard.kinds import kind_of
from mmood.metrics.functional import OoDMetrics
from mmood.report.runs import Run, load_runs
from mmood.results.arrays import arrays_bytes, run_of_arrays
from mmood.results.model import ResultRow, Results


@pytest.fixture(scope="module")
def stream_run(toy_root, toy_flags, tmp_path_factory) -> Path:
    """A run with a score that learns from its stream, over two seeds."""
    folder = tmp_path_factory.mktemp("stream") / "run"
    scores = "{running: {class_path: running_mean.RunningMean}}"
    flags = ["--model", "ZeroShot", "--model.scores", scores, "--evaluation.stream.seeds", "[0, 1]", *toy_flags]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "evaluation" / "streams")
        assert main(["test", *flags, "--run_dir", str(folder)]) == 0
    return folder


def board(runs, out, *flags) -> tuple[int, dict]:
    code = main(["leaderboard", *map(str, runs), "--out", str(out), "--resamples", "20", *flags])
    return code, json.loads((out / "leaderboard.json").read_text())


def test_the_numbers_are_those_of_the_raw_scores(toy_runs, tmp_path):
    code, found = board(toy_runs, tmp_path)
    assert code == 0
    (only,) = found["boards"]
    lines = [line for line in only["lines"] if line["name"] == "nice" and line["score"] == "mcm"]
    sides = [np.load(toy_runs[2] / "scores" / f"{name}.npz")["mcm"] for name in ("toy-test", "toy-near", "toy-far")]
    aurocs = [
        roc_auc_score(np.r_[np.ones(len(sides[0])), np.zeros(len(side))], np.r_[sides[0], side]) for side in sides[1:]
    ]
    (line,) = lines
    assert line["places"]["toy-near"]["auroc"] == pytest.approx(aurocs[0])
    assert line["places"]["mean of all sets"]["auroc"] == pytest.approx(np.mean(aurocs))
    assert line["given"] == "zero-shot"
    for place in line["places"].values():
        low, high = place["intervals"]["auroc"]
        assert 0 <= low <= high <= 1
    means = [line["places"]["mean of all sets"]["auroc"] for line in only["lines"]]
    assert means == sorted(means, reverse=True)


def test_the_page_names_every_run_and_loads_nothing(toy_runs, tmp_path):
    board(toy_runs, tmp_path)
    page = (tmp_path / "index.html").read_text()
    for run in load_runs(toy_runs):
        assert f'id="run-{run.results.run}"' in page
        assert f'href="#run-{run.results.run}"' in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert "default-src &#x27;none&#x27;" in page


def rewritten(folder: Path, name: str, change) -> None:
    """Change the arrays of a file of scores as somebody would who keeps the id of the run."""
    path = folder / "scores" / f"{name}.npz"
    arrays = {key: array.copy() for key, array in np.load(path).items()}
    run = run_of_arrays(path, "the file")
    path.write_bytes(arrays_bytes(change(arrays), run))


def unhashed(folder: Path, **claims) -> None:
    """Drop the hashes, as somebody would who hides a change."""
    path = folder / "results.json"
    results = json.loads(path.read_text())
    results.pop("files")
    path.write_text(json.dumps({**results, **claims}))


def better_score(arrays):
    arrays["mcm"][0] = -1e3
    return arrays


def doubled_key(arrays):
    arrays["key"][1] = arrays["key"][0]
    return arrays


def missing_image(arrays):
    return {name: array[1:] for name, array in arrays.items()}


def other_image(arrays):
    arrays["key"][-1] += 1
    return arrays


def as_id(arrays):
    arrays["label"][0] = 1
    return arrays


def without_score(arrays):
    del arrays["mcm"]
    return arrays


@pytest.mark.parametrize(
    ("change", "hashed", "message"),
    [
        (better_score, True, "The file scores/toy-near.npz was changed after the run"),
        (better_score, False, "AUROC of 'mcm' on toy-near, but its scores give"),
        (doubled_key, False, "The key 0 stands twice"),
        (missing_image, False, "It has scores of 20 images of toy-near, and records 21 images"),
        (other_image, False, "It has no scores of the image with key 20 of toy-near"),
        (as_id, False, "Some images of toy-near are labelled with ID classes"),
        (without_score, False, "It has no scores 'mcm' of the images of toy-near"),
    ],
)
def test_a_changed_run_is_refused_naming_why(change, hashed, message, toy_runs, tmp_path, capsys):
    folder = tmp_path / "changed"
    shutil.copytree(toy_runs[0], folder)
    rewritten(folder, "toy-near", change)
    if not hashed:
        unhashed(folder)
    code, found = board([folder, *toy_runs[1:]], tmp_path / "site")
    assert code == 1
    assert message in found["refused"]["changed"]
    assert "refused changed: " in capsys.readouterr().err
    assert {line["name"] for line in found["boards"][0]["lines"]} == {"photo_again", "nice"}


def claimed(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("part", ["rows", "means", "id"])
def test_a_claimed_number_that_is_not_that_of_the_scores_is_refused(part, toy_runs, tmp_path):
    folder = tmp_path / "boasting"
    shutil.copytree(toy_runs[0], folder)
    entries = claimed(folder)[part]
    metric = "accuracy" if part == "id" else "fpr95_ood_pos"
    entries[0][metric] = (entries[0][metric] + 0.001) % 1
    path = folder / "results.json"
    path.write_text(json.dumps({**claimed(folder), part: entries}))
    _, found = board([folder], tmp_path / "site")
    assert re.search("Its results claim .* %.* give ", found["refused"]["boasting"])
    assert found["boards"] == []


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"partial": True}, "not a complete test"),
        ({"stage": "validate"}, "not a complete test"),
        ({"skipped": [{"set": "toy-near"}]}, "left out 1 images"),
        ({"rows": []}, "no OoD results"),
    ],
)
def test_what_is_no_complete_test_is_refused(claims, message, toy_runs, tmp_path):
    folder = tmp_path / "odd"
    shutil.copytree(toy_runs[0], folder)
    unhashed(folder, **claims)
    _, found = board([folder], tmp_path / "site")
    assert message in found["refused"]["odd"]


def test_the_same_run_and_other_labels_of_the_same_images_are_refused(toy_runs, tmp_path):
    copy, other = tmp_path / "copy", tmp_path / "other"
    shutil.copytree(toy_runs[0], copy)
    shutil.copytree(toy_runs[1], other)

    def swapped(arrays):
        # As many right as before: the accuracy alone does not show it.
        first = np.flatnonzero(arrays["predicted"] != arrays["label"])[0]
        free = [c for c in range(3) if c not in (arrays["label"][first], arrays["predicted"][first])]
        arrays["label"][first] = free[0]
        return arrays

    rewritten(other, "toy-test", swapped)
    unhashed(other)
    _, found = board([toy_runs[0], copy, other], tmp_path / "site")
    assert "which" in found["refused"]["copy"]
    assert "Its labels of toy-test are not those" in found["refused"]["other"]


def test_streams_are_computed_from_their_own_files(stream_run, tmp_path):
    _, found = board([stream_run], tmp_path / "site")
    assert found["refused"] == {}
    (line,) = found["boards"][0]["lines"]
    assert line["given"] == "test-time"
    assert line["places"]["toy-near"]["seeds"] == 2
    aurocs = []
    for seed in (0, 1):
        stream = np.load(stream_run / "scores" / "streams" / "running" / f"toy-near.{seed}.npz")
        aurocs.append(roc_auc_score(stream["label"] >= 0, stream["score"]))
    assert line["places"]["toy-near"]["auroc"] == pytest.approx(np.mean(aurocs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: {**arrays, "score": -arrays["score"]}, "AUROC of 'running (seed 1)' on toy-near"),
        (lambda arrays: {**arrays, "key": np.zeros_like(arrays["key"])}, "The key 0 of toy-test stands twice"),
    ],
)
def test_a_changed_stream_is_refused(change, message, stream_run, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(stream_run, folder)
    unhashed(folder)
    rewritten(folder, "streams/running/toy-near.1", change)
    _, found = board([folder], tmp_path / "site")
    assert message in found["refused"]["changed"]


def test_hashes_of_every_file_of_scores_are_in_the_results(stream_run):
    files = claimed(stream_run)["files"]
    assert set(files) == {path.relative_to(stream_run).as_posix() for path in (stream_run / "scores").rglob("*.npz")}
    assert len(files) == 3 + 2 * 2


def test_bad_input_ends_in_a_sentence(toy_runs, tmp_path, capsys):
    run = str(toy_runs[0])
    assert main(["leaderboard", run, run, "--out", str(tmp_path)]) == 2
    assert "named twice" in capsys.readouterr().err
    assert main(["leaderboard", run]) == 2
    assert "--out" in capsys.readouterr().err
    assert main(["leaderboard", str(tmp_path), "--out", str(tmp_path / "site")]) == 1
    assert "There are no results" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"module": "ZeroShot", "scores": {"s": {"temperature": 1.0}}}, "zero-shot"),
        ({"module": "ZeroShot", "scores": {"s": {"k": 1, "shots": None}}}, "training images"),
        ({"module": "ZeroShot", "scores": {"s": {"images": {"shots": 16}}}}, "few-shot"),
        ({"module": "LinearProbe", "settings": {"training": {"shots": None}}}, "training images"),
        ({"module": "LinearProbe", "settings": {"training": {"shots": 4}}}, "few-shot"),
        ({"module": "PromptLearning"}, "few-shot"),
        ({"module": "AlignmentFineTune"}, "fine-tuned"),
        ({"module": "CrossEntropyFineTune", "settings": {"trained": {"towers": "none"}}}, "training images"),
        ({"module": "Mine"}, "other"),
    ],
)
def test_what_a_score_was_given_is_read_from_its_record(record, kind):
    metrics = OoDMetrics(n_id=1, n_ood=1, auroc=1, aupr_id=1, aupr_ood=1, fpr95_id_pos=0, fpr95_ood_pos=0)
    row = ResultRow(score="s", set="far", group="far", metrics=metrics)
    results = Results(run=None, stage="test", provenance=record, id=(), rows=(row,), means=())
    assert kind_of(Run("r", Path("r"), results), row) == kind
