"""`mmood test` and `mmood predict` from outside: commands in, files out."""

import csv
import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
import webdataset
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from mmood.cli.main import main

SCORES = {"mcm", "max_logit", "energy", "entropy", "softmax_variance", "gen", "margin"}


def run(arguments, folder):
    assert main([*arguments, "--run_dir", str(folder)]) == 0
    return json.loads((folder / "results.json").read_text())


def cosines(model_name, root, sets, class_names):
    """Cosines by plain open_clip and webdataset: nothing of mmood."""
    model, _, transform = open_clip.create_model_and_transforms(model_name)
    model.eval()
    tokens = open_clip.get_tokenizer(model_name)([f"a photo of a {name}" for name in class_names])
    found = {}
    with torch.no_grad():
        texts = torch.nn.functional.normalize(model.encode_text(tokens), dim=-1)
        for name in sets:
            shards = sorted(str(path) for path in (root / name).glob("*.tar"))
            dataset = webdataset.WebDataset(shards, shardshuffle=False).decode("pil")
            images = [transform(next(sample[ext] for ext in ("jpg", "png") if ext in sample)) for sample in dataset]
            features = torch.cat([model.encode_image(part) for part in torch.stack(images).split(64)])
            found[name] = (torch.nn.functional.normalize(features, dim=-1) @ texts.T).double().numpy()
    return found


def check_mcm(results, by_hand, id_name):
    def mcm(logits):
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1)

    for row in (row for row in results["rows"] if row["score"] == "mcm"):
        id_scores, ood_scores = mcm(by_hand[id_name]), mcm(by_hand[row["set"]])
        is_id = np.r_[np.ones(len(id_scores)), np.zeros(len(ood_scores))]
        both = np.r_[id_scores, ood_scores]
        assert row["auroc"] == pytest.approx(roc_auc_score(is_id, both), abs=1e-6)
        fpr, tpr, _ = roc_curve(is_id, both, drop_intermediate=False)
        assert row["fpr95_id_pos"] == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1.01 / len(ood_scores))


def test_mcm_equals_plain_open_clip_and_scikit_learn(toy_root, toy_model, toy_flags, tmp_path):
    results = run(["test", "--config", "vitb16_zeroshot.yaml", *toy_flags], tmp_path / "run")
    assert {(row["score"], row["set"]) for row in results["rows"]} == {
        (score, name) for score in SCORES for name in ("toy-near", "toy-far")
    }
    assert {row["n_id"] for row in results["rows"]} == {37}
    assert [entry["n"] for entry in results["id"]] == [37]
    class_names = (toy_root / "classes.txt").read_text().splitlines()
    by_hand = cosines(toy_model, toy_root, ["toy-test", "toy-near", "toy-far"], class_names)
    check_mcm(results, by_hand, "toy-test")


@pytest.mark.parametrize("count", [100, pytest.param(600, marks=pytest.mark.long)])
def test_mcm_on_real_shards_equals_plain_open_clip_and_scikit_learn(count, real_data, tmp_path):
    root = tmp_path / "data"
    sets = ("id-test", "near-ood", "far-textures")
    for name in sets:
        (root / name).mkdir(parents=True)
        shard = sorted((real_data / "data" / name).glob("*.tar"))[0]
        _first_samples(shard, root / name / shard.name, count)
    assert main(["pack", "--index", *(str(root / name) for name in sets), "--quiet"]) == 0
    model = f"local-dir:{real_data}/models/miniclip"
    results = run(
        [
            *("test", "--config", "vitb16_zeroshot.yaml", "--model.encoder.name", model, "--data.root", str(root)),
            *("--data.id", "id-test", "--data.ood.near", "[near-ood]", "--data.ood.far", "[far-textures]"),
            *("--data.class_names", str(real_data / "data" / "id-classes.txt"), "--trainer.accelerator", "cpu"),
            *("--data.loader.workers", "1", "--trainer.enable_progress_bar", "false"),
        ],
        tmp_path / "run",
    )
    class_names = (real_data / "data" / "id-classes.txt").read_text().splitlines()
    check_mcm(results, cosines(model, root, sets, class_names), "id-test")


def _first_samples(source, target, count):
    import tarfile

    seen = []
    with tarfile.open(source) as tar, tarfile.open(target, "w") as part:
        for member in tar:
            key = member.name.split(".")[0]
            if key not in seen:
                seen.append(key)
            if len(seen) > count:
                break
            part.addfile(member, tar.extractfile(member))


def test_files_of_a_run(toy_flags, tmp_path, capsys):
    folder = tmp_path / "run"
    results = run(["test", "--config", "vitb16_zeroshot.yaml", *toy_flags], folder)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names >= {f"results.{kind}" for kind in ("json", "csv", "md", "tex")}
    assert names >= {f"scores/{name}.npz" for name in ("toy-test", "toy-near", "toy-far")}
    assert names >= {"config.test.yaml", "logs/test/metrics.csv"}
    with np.load(folder / "scores" / "toy-test.npz") as scores:
        assert set(scores) == {"key", "label", "predicted", *SCORES}
        np.testing.assert_array_equal(scores["key"], np.arange(37))
        assert scores["mcm"].dtype == np.float32
        assert results["id"][0]["accuracy"] == pytest.approx(np.mean(scores["label"] == scores["predicted"]))
    with np.load(folder / "scores" / "toy-near.npz") as scores:
        assert (scores["label"] == -1).all()
    assert "FPR95" in capsys.readouterr().out
    logged = next(csv.DictReader((folder / "logs" / "test" / "metrics.csv").open()))
    row = next(row for row in results["rows"] if row["score"] == "mcm" and row["set"] == "toy-near")
    assert float(logged["ood/toy-near/mcm_auroc"]) == pytest.approx(row["auroc"], abs=1e-6)


def test_provenance_names_what_the_numbers_depend_on(toy_flags, tmp_path):
    found = run(["test", "--config", "vitb16_zeroshot.yaml", *toy_flags], tmp_path / "run")["provenance"]
    assert found["settings"]["prompts"] == ["a photo of a {}"]
    assert found["scores"]["mcm"] == {"temperature": 1.0}
    assert found["class_names"]["count"] == 3
    assert len(found["encoder"]["weights_sha256"]) == 64
    assert found["sets"]["toy-far"]["n"] == 2
    assert (found["precision"], found["world_size"], found["seed"]) == ("32-true", 1, 0)


def test_the_saved_config_gives_the_same_run(toy_flags, tmp_path):
    first = run(["test", "--config", "vitb16_zeroshot.yaml", *toy_flags], tmp_path / "a")
    again = run(["test", "--config", str(tmp_path / "a" / "config.test.yaml")], tmp_path / "b")
    assert again["rows"] == first["rows"]


def test_limited_runs_are_shown_but_are_no_results(toy_flags, tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--run_dir", str(folder)]
    assert main([*arguments, "--data.batch_size", "8", "--trainer.limit_test_batches", "2"]) == 0
    assert "partial" in capsys.readouterr().out
    assert main([*arguments, "--trainer.limit_test_batches", "0"]) == 2
    assert "`trainer.limit_test_batches` is 0, so no image would be evaluated" in capsys.readouterr().err
    assert not (folder / "results.json").exists()


def test_a_test_without_ood_sets_shows_the_accuracy(toy_flags, tmp_path, capsys):
    found = run(["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--data.ood", "{}"], tmp_path / "run")
    shown = capsys.readouterr().out
    assert found["rows"] == []
    assert f"accuracy {100 * found['id'][0]['accuracy']:.2f} %" in shown
    assert "No OoD set is named in the data, so there are no OoD metrics." in shown
    assert "AUROC" not in shown


def test_bf16_keeps_scores_in_float32(toy_flags, tmp_path):
    exact = run(["test", "--config", "vitb16_zeroshot.yaml", *toy_flags], tmp_path / "a")
    rounded = run(
        ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--trainer.precision", "bf16-mixed"], tmp_path / "b"
    )
    with np.load(tmp_path / "b" / "scores" / "toy-test.npz") as scores:
        assert len(np.unique(scores["mcm"])) == 37
    for row, other in zip(exact["rows"], rounded["rows"], strict=True):
        assert row["auroc"] == pytest.approx(other["auroc"], abs=0.15)


def test_predict_writes_a_row_per_image(toy_flags, toy_root, tmp_path):
    folder = tmp_path / "run"
    images = toy_root.parent / "images" / "toy-near"
    flags = [*toy_flags, "--data.predict", str(images), "--run_dir", str(folder)]
    assert main(["predict", "--config", "vitb16_zeroshot.yaml", *flags]) == 0
    rows = list(csv.DictReader((folder / "predictions.csv").open()))
    assert [row["image"] for row in rows] == sorted(path.name for path in images.iterdir())
    assert {row["class"] for row in rows} <= {"red square", "green square", "blue square"}
    assert all(np.isfinite(float(row["mcm"])) for row in rows)


@pytest.mark.ddp
@pytest.mark.parametrize("ranks", [2, 3])
def test_several_processes_give_the_same_rows(ranks, toy_flags, tmp_path, forked):
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--data.batch_size", "8"]
    alone = run(arguments, tmp_path / "alone")
    finished = forked.ranks([*arguments, "--run_dir", str(tmp_path / "ddp")], ranks)
    assert finished.code == 0, finished.err
    together = json.loads((tmp_path / "ddp" / "results.json").read_text())
    assert together["provenance"]["world_size"] == ranks
    for row, other in zip(alone["rows"], together["rows"], strict=True):
        assert (row["score"], row["set"], row["n_id"], row["n_ood"]) == (
            other["score"],
            other["set"],
            other["n_id"],
            other["n_ood"],
        )
        assert row["auroc"] == pytest.approx(other["auroc"], abs=1e-5)
        assert row["fpr95_id_pos"] == pytest.approx(other["fpr95_id_pos"], abs=1.01 / row["n_ood"])
        assert row["fpr95_ood_pos"] == pytest.approx(other["fpr95_ood_pos"], abs=1.01 / row["n_id"])
    for name in ("toy-test", "toy-near", "toy-far"):
        with (
            np.load(tmp_path / "alone/scores" / f"{name}.npz") as one,
            np.load(tmp_path / f"ddp/scores/{name}.npz") as many,
        ):
            np.testing.assert_array_equal(one["key"], many["key"])
            np.testing.assert_allclose(one["max_logit"], many["max_logit"], atol=1e-6)


FIT = """
model:
  class_path: AlignmentFineTune
  init_args:
    encoder: {name: ViT-B-16/openai}
    alignment: 0.001
    scores: {mcm: {class_path: MCM}, max_logit: {class_path: MaxLogit}}
    optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.0}}
trainer: {max_epochs: 1, precision: 32-true}
"""


@pytest.mark.ddp
def test_validation_inside_fit_is_exact_although_a_rank_has_no_image(toy_flags, tmp_path, forked):
    (tmp_path / "fit.yaml").write_text(FIT)
    arguments = ["--config", str(tmp_path / "fit.yaml"), *toy_flags, "--data.train", "toy-train"]
    arguments += ["--data.val.id", "toy-test", "--data.val.ood", "{far: [toy-far]}", "--data.batch_size", "4"]
    alone = run(["validate", *arguments], tmp_path / "alone")
    finished = forked.ranks(["fit", *arguments, "--run_dir", str(tmp_path / "ddp")], 3)
    assert finished.code == 0, finished.err
    logged = list(csv.DictReader((tmp_path / "ddp" / "logs" / "fit" / "metrics.csv").open()))
    for row in alone["rows"]:
        (value,) = {entry[f"ood/{row['set']}/{row['score']}_auroc"] for entry in logged} - {""}
        assert float(value) == pytest.approx(row["auroc"], abs=1e-5)


def test_tensorboard_gets_numbers_table_and_histograms(toy_flags, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {"save_dir": str(tmp_path), "name": "board", "version": ""}
    logger = json.dumps({"class_path": "TensorBoardLogger", "init_args": settings})
    run(["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--trainer.logger", logger], tmp_path / "run")
    board = EventAccumulator(str(tmp_path / "board"), size_guidance={"histograms": 0}).Reload()
    assert "ood/toy-near/mcm_auroc" in board.Tags()["scalars"]
    assert {f"scores/mcm/{name}" for name in ("toy-test", "toy-near", "toy-far")} <= set(board.Tags()["histograms"])
    assert board.Histograms("scores/mcm/toy-test")[0].histogram_value.num == 37
    assert any("results/test" in tag for tag in board.Tags()["tensors"])


def test_scores_that_one_id_class_makes_constant_are_named(toy_flags, tmp_path, capsys):
    for number in range(6):
        path = tmp_path / f"images/cat/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (40 * number, 90, 120)).save(path)
    packing = ["--out", str(tmp_path / "root/one"), "--folder", str(tmp_path / "images"), "--quiet"]
    assert main(["pack", *packing]) == 0
    shutil.copytree(toy_flags[toy_flags.index("--data.root") + 1] + "/toy-near", tmp_path / "root/toy-near")
    flags = ["--data.root", str(tmp_path / "root"), "--data.id", "one", "--data.class_names", "[cat]"]
    scores = "{mcm: {class_path: MCM}, energy: {class_path: Energy, init_args: {temperature: 1.0}}}"
    more = ["--data.ood", "{near: [toy-near]}", "--model.scores", scores]
    run(["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, *flags, *more], tmp_path / "run")
    error = capsys.readouterr().err
    assert "their numbers mean nothing: mcm; they compare classes, but there is only one ID class" in error
