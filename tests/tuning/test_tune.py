"""`mmood tune` from outside: what it refuses, what it chooses, what a later test says of it."""

import doctest
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import roc_auc_score
from tuning_world import world

from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.features.store import open_store
from mmood.shards.shard_index import ShardIndex
from mmood.tuning import criteria, held_out
from mmood.tuning.held_out import class_folds

GRID = "{knn: {k: [1, 5, 20]}}"
SCORES = "{knn: {class_path: KNN}, mcm: {class_path: MCM}, energy: {class_path: Energy, init_args: {temperature: 3.0}}}"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Sets that may be tuned on together, and others that may not."""
    return world(tmp_path_factory.mktemp("tuning") / "data")


@pytest.fixture
def flags(root, toy_model, tmp_path, monkeypatch):
    """A zero-shot detector on these sets, with a cache for each test; the output goes to the working directory."""
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return [
        *("--config", "vitb16_zeroshot.yaml", "--model.encoder.name", toy_model, "--model.scores", SCORES),
        *("--data.root", str(root), "--data.benchmark", "null", "--data.class_names", str(root / "classes.txt")),
        *("--data.train", "train", "--data.val", "{id: val, ood: {val: [val-ood]}}"),
        *("--data.id", "test", "--data.ood", "{far: [test-ood]}", "--data.loader.workers", "0"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.enable_progress_bar", "false"),
    ]


@pytest.mark.parametrize("module", [criteria, held_out])
def test_examples(module):
    assert not doctest.testmod(module).failed


def tune(flags, *more):
    return main(["tune", *flags, "--quiet", *more])


def tuned(path="tuned.yaml"):
    return yaml.safe_load(Path(path).read_text())


def refused(capsys, flags, *more):
    capsys.readouterr()
    assert tune(flags, *more) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("mmood: ")
    assert not Path("tuned.yaml").exists()
    return error


@pytest.fixture
def no_work(monkeypatch):
    """Fail where an image is read or a model built."""

    def fail(*args, **kwargs):
        raise AssertionError("work began before the refusal")

    monkeypatch.setattr("mmood.modules.base.build_encoder", fail)
    monkeypatch.setattr("mmood.cli.tune.image_hashes", fail)


LEAKS = {
    "an OoD test set without an ID test set": (
        ["--data.id", "null", "--data.ood", "{far: [val-ood]}"],
        "is a test set of",
    ),
    "the test set": (["--data.ood", "{far: [val-ood]}"], "`data.val.ood` names 'val-ood', which is a test set"),
    "a copy of it": (["--data.val", "{id: val, ood: {val: [copy]}}"], "same shards as the test set 'test-ood'"),
    "a class of it": (["--data.ood", "{far: [same-class]}"], "has classes of the test set 'same-class': 'dots'"),
    "the ID test set": (["--data.val.id", "test"], "`data.val.id` names 'test', which is a test set of the same run"),
    "its copy": (
        ["--data.id", "id-copy"],
        "`data.val.id` names 'val', which has the same shards as the test set 'id-copy'",
    ),
    "the training set": (["--data.val.id", "train"], "`data.val.id` names 'train', which is the training set"),
    "a part of the test set": (["--data.train", "test", "--data.val.id", "0.5"], "names 'test', which is a test set"),
}


@pytest.mark.parametrize("kind", LEAKS)
def test_what_is_tested_on_is_refused_before_any_work(kind, flags, root, no_work, capsys):
    if not (root / "id-copy").exists():
        shutil.copytree(root / "val", root / "id-copy")
    more, expected = LEAKS[kind]
    assert expected in refused(capsys, flags, "--grid", GRID, *more)


def test_a_shared_image_is_refused_and_no_image_is_read_for_it(flags, capsys, monkeypatch):
    def fail(*args):
        raise AssertionError("an image was read")

    monkeypatch.setattr("mmood.shards.shard_index.ShardIndex.read", fail)
    error = refused(capsys, flags, "--grid", GRID, "--data.ood", "{far: [test-ood, same-image]}")
    # The third of the dots, which come first, is the fourth of the spirals.
    assert "'val-ood', which shares an image with the test set 'same-image' (key 2 there is key 3 here)" in error


def test_an_image_that_id_validation_shares_with_the_id_test_set_is_refused(flags, root, capsys, monkeypatch):
    known_hashes = ShardIndex.known_hashes

    def with_a_twin(self, keys):
        twins = np.isin(keys, {"val": [7], "test": [0]}.get(self.name, []))
        return np.where(twins, np.uint64(5), known_hashes(self, keys))

    monkeypatch.setattr(ShardIndex, "known_hashes", with_a_twin)
    error = refused(capsys, flags, "--grid", GRID)
    assert (
        "`data.val.id` names 'val', which shares an image with the test set 'test' (key 7 there is key 0 here)" in error
    )


def test_a_shared_source_is_said_and_not_refused(flags, capsys):
    assert tune(flags, "--grid", GRID, "--data.ood", "{far: [test-ood, same-source]}") == 0
    said = "'val-ood' and the test set 'same-source' share a source: patterns of one book."
    assert f"Note: {said}" in capsys.readouterr().out
    assert tuned()["tuned"]["scores"]["knn"]["notes"] == [said]


def test_without_test_sets_that_is_said(flags, capsys):
    more = ["--grid", GRID, "--data.id", "null", "--data.ood", "null"]
    assert tune(flags, *more) == 0
    assert "not compared with any" in capsys.readouterr().out
    assert tuned()["tuned"]["scores"]["knn"]["compared_with"] == {}


def oracle(root_folder, scores, ood="val-ood"):
    """AUROC by scikit-learn of scores computed from the store of each set."""
    both = [scores("val"), scores(ood)]
    truth = np.concatenate([np.ones(len(both[0])), np.zeros(len(both[1]))])
    return roc_auc_score(truth, np.concatenate(both))


def stores(tmp_path):
    found = {
        path.name.split(".")[0]: open_store(path) for path in (tmp_path / "cache/features").iterdir() if path.is_dir()
    }
    return {
        name: (store.features.double().numpy(), store.embedding.double().numpy(), store.label.numpy())
        for name, store in found.items()
    }


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_chosen_value_is_the_best_of_a_brute_force_search_on_stored_features(
    flags, root, tmp_path, capsys, monkeypatch
):
    assert main(["embed", *flags, "--quiet"]) == 0

    def fail(*args, **kwargs):
        raise AssertionError("an image was decoded")

    # The encoded bytes are hashed once, but no image is decoded.
    monkeypatch.setattr("mmood.loading.decoding.decode_image", fail, raising=False)
    monkeypatch.setattr("mmood.loading.loader.EvalLoader.__iter__", fail)
    capsys.readouterr()
    assert tune(flags, "--grid", "{knn: {k: [20, 1, 5], average: [false, true]}}") == 0
    shown = capsys.readouterr().out
    assert "Images were encoded" not in shown
    rows = {name: unit(features) for name, (features, _, _) in stores(tmp_path).items()}

    def scores(k, average):
        def of(name):
            ranked = -np.sort(-(rows[name] @ rows["train"].T), axis=1)[:, :k]
            return ranked.mean(axis=1) if average else ranked[:, -1]

        return of

    expected = {(k, average): oracle(root, scores(k, average)) for k in (20, 1, 5) for average in (False, True)}
    record = tuned()["tuned"]["scores"]["knn"]
    found = {(row["k"], row["average"]): row["auroc"] for row in record["grid"]}
    assert list(found) == list(expected)
    for option, value in expected.items():
        # Rounding to float32 may order two near-equal images otherwise.
        assert found[option] == pytest.approx(value, abs=2e-3)
    assert len({round(value, 6) for value in found.values()}) > 1
    k, average = max(found, key=found.get)
    assert record["chosen"] == {"k": k, "average": average}
    assert record["value"] == found[k, average]
    assert tuned()["model"]["init_args"]["scores"]["knn"]["init_args"]["k"] == k
    assert record["id"]["n"] == 36
    assert [(one["set"], one["n"]) for one in record["ood"]] == [("val-ood", 16)]


def test_ties_leave_the_first(flags):
    # A temperature that divides all cosines alike does not change the order of the largest one.
    scores = "{a: {class_path: GEN}, b: {class_path: GEN}}"
    grid = "{a: {top: [50, 3, 7]}, b: {top: [7, 50]}}"
    assert tune(flags, "--model.scores", scores, "--grid", grid) == 0
    found = tuned()["tuned"]["scores"]
    assert len({row["auroc"] for row in found["a"]["grid"]}) == 1
    assert found["a"]["chosen"] == {"top": 50}
    assert found["b"]["chosen"] == {"top": 7}


def test_the_lowest_false_positive_rate_wins(flags):
    assert tune(flags, "--grid", "{mcm: {temperature: [0.001, 1.0]}, energy: {temperature: [0.001, 10.0]}}") == 0
    assert tune(flags, "--grid", GRID, "--criterion", "fpr95_id_pos", "--out", "fpr.yaml") == 0
    record = tuned("fpr.yaml")["tuned"]["scores"]["knn"]
    rates = [row["fpr95_id_pos"] for row in record["grid"]]
    assert record["chosen"]["k"] == [1, 5, 20][rates.index(min(rates))]


def test_held_out_classes_are_the_ood_of_a_brute_force_search(flags, tmp_path):
    assert main(["embed", *flags, "--quiet"]) == 0
    more = ["--criterion", "held_out_classes", "--data.val", "{id: val, ood: null}"]
    assert tune(flags, *more, "--grid", "{knn: {k: [1, 5, 15]}}") == 0
    record = tuned()["tuned"]["scores"]["knn"]
    assert record["ood"] == []
    found = {name: (unit(features), labels) for name, (features, _, labels) in stores(tmp_path).items()}
    (val, of_val), (train, of_train) = found["val"], found["train"]
    for row in record["grid"]:
        values = []
        for left_out in range(3):
            ranked = -np.sort(-(val @ train[of_train != left_out].T), axis=1)
            values.append(roc_auc_score(of_val != left_out, ranked[:, row["k"] - 1]))
        assert row["held_out_classes"] == pytest.approx(np.mean(values), abs=2e-3)


def test_a_test_takes_the_settings_and_says_what_they_were_tuned_on(flags, tmp_path, capsys):
    assert tune(flags, "--grid", "{knn: {k: [5, 1]}, mcm: {temperature: [0.1, 1.0]}}") == 0
    assert (
        tune([*flags, "--config", "tuned.yaml"], "--grid", "{energy: {temperature: [0.01, 1.0]}}", "--out", "all.yaml")
        == 0
    )
    written = tuned("all.yaml")
    assert set(written["tuned"]["scores"]) == {"knn", "mcm", "energy"}
    test = ["test", *flags, "--config", "all.yaml"]
    assert main([*test, "--run_dir", "tuned"]) == 0
    results = json.loads((tmp_path / "tuned/results.json").read_text())
    said = results["provenance"]["tuned"]
    for name, record in written["tuned"]["scores"].items():
        assert said[name] == {**record, "same_weights": True, "not_compared": []}
        for key, value in record["chosen"].items():
            assert results["provenance"]["scores"][name][key] == value
    # The numbers are those of the same settings given by hand, and the set that was tuned on is in none.
    by_hand = [
        f"--model.scores.{name}.{key}={value}"
        for name, record in said.items()
        for key, value in record["chosen"].items()
    ]
    assert main(["test", *flags, *by_hand, "--run_dir", "hand"]) == 0
    hand = json.loads((tmp_path / "hand/results.json").read_text())
    assert hand["rows"] == results["rows"]
    assert hand["provenance"]["tuned"] is None
    assert {row["set"] for row in results["rows"]} == {"test-ood"}


def test_a_test_is_held_to_what_was_tuned(flags, capsys, toy_model, tmp_path):
    assert tune(flags, "--grid", GRID) == 0
    test = ["test", *flags, "--config", "tuned.yaml", "--run_dir", "run"]
    capsys.readouterr()
    assert main([*test, "--model.scores.knn.k", "3"]) == 2
    assert "`tuned.scores` says that knn.k was tuned to" in capsys.readouterr().err
    assert main([*test, "--data.ood", "{far: [val-ood]}"]) == 2
    assert "The test set 'val-ood' was used to tune knn (as 'val-ood')" in capsys.readouterr().err
    assert main([*test, "--model.scores.knn.k", "3", "--tuned.scores", "null"]) == 0
    assert json.loads((tmp_path / "run/results.json").read_text())["provenance"]["tuned"] is None
    other = tmp_path / "other"
    shutil.copytree(toy_model.removeprefix("local-dir:"), other)
    content = bytearray((other / "open_clip_model.safetensors").read_bytes())
    content[-1] ^= 1
    (other / "open_clip_model.safetensors").write_bytes(bytes(content))
    again = ["--overwrite", "true", "--data.ood", "{far: [same-class]}", "--model.encoder.name", f"local-dir:{other}"]
    assert main([*test, *again]) == 0
    said = json.loads((tmp_path / "run/results.json").read_text())["provenance"]["tuned"]["knn"]
    assert said["not_compared"] == ["same-class"]
    assert said["same_weights"] is False


@pytest.fixture
def checkpoint(flags):
    """A linear probe on these sets, whose checkpoint needs no config."""
    fit = [*flags[2:4], *flags[6:], "--trainer.max_epochs", "5", "--trainer.check_val_every_n_epoch", "5"]
    fit += ["--model.training.batch_size", "16", "--model.optimizer.lr", "1e-2", "--run_dir", "fit"]
    scores = "{msp: {class_path: MCM}, react: {class_path: ReAct}, kl: {class_path: KLMatching}}"
    assert main(["fit", "--config", "vitb16_linear.yaml", *fit, "--model.scores", scores]) == 0
    return ["--ckpt_path", "fit/checkpoints/last.ckpt"]


def test_a_fitted_temperature_is_scipys_and_needs_no_ood(checkpoint, flags, tmp_path):
    assert main(["embed", *flags, "--quiet"]) == 0
    only_id = ["--data.val", "{id: val, ood: null}", "--data.ood", "null", "--data.id", "null"]
    assert tune(checkpoint, *only_id, "--grid", "{msp: {temperature: fitted}}") == 0
    record = tuned()["tuned"]["scores"]["msp"]
    assert (record["criterion"], record["ood"]) == ("nll", [])
    state = torch.load("fit/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    head = {name.removeprefix("probe.spaces.features."): tensor.double().numpy() for name, tensor in state.items()}
    features, _, labels = stores(tmp_path)["val"]
    logits = (features - head["mean"]) * head["scale"] @ head["heads.0.weight"].T + head["heads.0.bias"]

    def loss(log_temperature):
        log_p = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -log_p[np.arange(len(labels)), labels].mean()

    best = minimize_scalar(loss, bracket=(-1, 1), tol=1e-10)
    assert record["chosen"]["temperature"] == pytest.approx(np.exp(best.x), rel=1e-4)
    assert record["value"] == pytest.approx(best.fun, rel=1e-6)


def test_the_head_of_a_checkpoint_is_tuned_and_tested(checkpoint, tmp_path):
    grid = "{react: {percentile: [60, 90], temperature: [1.0, 10.0]}, msp: {temperature: fitted}}"
    assert tune(checkpoint, "--grid", grid) == 0
    record = tuned()["tuned"]["scores"]
    assert [(row["percentile"], row["temperature"]) for row in record["react"]["grid"]] == [
        *((60, 1.0), (60, 10.0), (90, 1.0), (90, 10.0))
    ]
    assert main(["test", *checkpoint, "--config", "tuned.yaml", "--run_dir", "test"]) == 0
    said = json.loads((tmp_path / "test/results.json").read_text())["provenance"]
    assert said["tuned"]["msp"]["same_weights"] is True
    assert said["scores"]["msp"]["temperature"] == record["msp"]["chosen"]["temperature"]
    # A validation run of the chosen settings gives the value that was written down.
    run = ["validate", *checkpoint, "--config", "tuned.yaml", "--run_dir", "validate"]
    assert main(run) == 0
    rows = json.loads((tmp_path / "validate/results.json").read_text())["rows"]
    (row,) = [row for row in rows if row["score"] == "react"]
    assert (row["set"], row["auroc"]) == ("val-ood", record["react"]["value"])


WRONG = {
    "an unknown score": (["--grid", "{knm: {k: [1]}}"], "no score in model.scores 'knm'; did you mean 'knn'?"),
    "an unknown setting": (["--grid", "{knn: {kk: [1]}}"], "--grid knn: "),
    "a wrong value": (
        ["--grid", "{knn: {k: [1, 0]}}"],
        "--grid knn: KNN.k is 0; it must be a whole number of at least 1.",
    ),
    "no list": (["--grid", "{knn: {k: 5}}"], "--grid knn.k is 5; give a list of values"),
    "an empty list": (["--grid", "{knn: {k: []}}"], "--grid knn.k is []; give a list"),
    "no YAML": (["--grid", "{knn: [}"], "--grid is not valid YAML"),
    "something else": (["--grid", "knn"], "write score -> setting -> values"),
    "no grid": ([], "--grid"),
    "a fitted k": (["--grid", "{knn: {k: fitted}}"], "give a list of values"),
    "a temperature of other things": (
        ["--model.scores", "{n: {class_path: NNGuide}}", "--grid", "{n: {temperature: fitted}}"],
        "does not read only the logits",
    ),
    "no ID validation": (
        ["--grid", GRID, "--data.val", "{id: null, ood: {val: [val-ood]}}"],
        "`data.val.id` is not set",
    ),
    "no OoD validation": (
        ["--grid", GRID, "--data.val", "{id: val, ood: null}"],
        "`data.val.ood` is not set; name a validation OoD set",
    ),
    "a criterion": (["--grid", GRID, "--criterion", "best"], "invalid choice: 'best'"),
    "several devices": (
        ["--grid", GRID, "--trainer.devices", "2", "--trainer.strategy", "ddp"],
        "works in one process",
    ),
    "a missing set": (["--grid", GRID, "--data.val.id", "vall"], "no set 'vall'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_bad_input_is_one_sentence_before_any_work(kind, flags, no_work, capsys):
    more, expected = WRONG[kind]
    assert expected in refused(capsys, flags, *more)


def test_help_says_every_criterion(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["tune", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in criteria.CRITERIA)
    assert "95 % of ID" in " ".join(shown.split())


def test_a_file_is_not_overwritten(flags, tmp_path, no_work, capsys):
    (tmp_path / "tuned.yaml").write_text("mine")
    assert tune(flags, "--grid", GRID) == 2
    assert "already exists" in capsys.readouterr().err


def test_too_few_classes_are_one_sentence(flags, root, capsys):
    with pytest.raises(MmoodError, match="with 2 too few remain"):
        class_folds(2)
    for classes in (3, 4, 11):
        folds = class_folds(classes)
        assert sorted(torch.cat(folds).tolist()) == list(range(classes))
        assert max(map(len, folds)) - min(map(len, folds)) <= 1
        assert len(folds) == min(5, classes)
