"""Dense runs from the command line: train, test, watch, resume; the same rows on two ranks."""

import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from forked import mmood
from lightning.pytorch import Callback
from PIL import Image
from street_world import NAMES, write_shard

from mmood.cli.main import main
from mmood.dense.data import DenseDataModule

SMALL = ["--model.network.width", "0.125"]
SCORES = {"msp", "max_logit", "energy", "entropy", "standardised_max_logit"}


def run(arguments, folder):
    assert main([*arguments, "--run_dir", str(folder)]) == 0
    return folder


def last(folder):
    return str(folder / "checkpoints" / "last.ckpt")


def rows(folder):
    return json.loads((folder / "results.json").read_text())["rows"]


def test_a_segmenter_and_its_observer(segmenter, street_flags, tmp_path, capsys):
    tested = run(["test", "--ckpt_path", last(segmenter), "--evaluation.save_maps", "2"], tmp_path / "test")
    found = {(row["score"], row["set"]): row for row in rows(tested)}
    conventions = {"street-test: pixels", "street-test: errors", "street-test: images"}
    assert set(found) == {(score, convention) for score in SCORES for convention in conventions}
    assert found["msp", "street-test: images"]["n_ood"] == 4
    assert "mean of all" not in capsys.readouterr().out
    # Two images, each with its arrays and a picture for every score.
    names = sorted(path.name for path in (tested / "maps/street-test").iterdir())
    assert len(names) == 2 * (1 + len(SCORES))
    details = json.loads((tested / "dense.json").read_text())["sets"]["street-test"]
    assert details["scores"]["msp"]["components"]["n"] >= 4
    assert set(details["iou"]) == {"sky", "road", "car"}

    arguments = ["fit", "--config", "camvid_obsnet.yaml", *street_flags, *SMALL, "--trainer.max_epochs", "1"]
    observer = run([*arguments, "--model.segmenter", last(segmenter)], tmp_path / "observer")
    # The observer's checkpoint is enough: it holds the segmenter too.
    watched = run(["test", "--ckpt_path", last(observer), "--model.segmenter", "gone.ckpt"], tmp_path / "watched")
    after = {(row["score"], row["set"]): row for row in rows(watched)}
    for score in ("msp", "max_logit", "energy"):
        assert after[score, "street-test: pixels"] == found[score, "street-test: pixels"]
    assert ("observer", "street-test: errors") in after


def test_a_test_reads_no_validation_set_and_says_which_images_were_trained_on(segmenter, tmp_path, capsys):
    sets = ["--data.val", "gone", "--data.test", "[street-test, street-train]"]
    folder = run(["test", "--ckpt_path", last(segmenter), *sets], tmp_path / "test")
    said = " ".join(capsys.readouterr().out.split())
    assert "24 of 24 images of street-train are in street-train: the model was trained on them." in said
    found = {one["set"]: one["copies"] for one in json.loads((folder / "results.json").read_text())["overlap"]}
    assert found == {"street-test": 0, "street-train": 24}


def test_counts_give_the_rows_of_exact_scores_within_their_error(segmenter, tmp_path):
    exact = run(["test", "--ckpt_path", last(segmenter)], tmp_path / "exact")
    counted = run(["test", "--ckpt_path", last(segmenter), "--evaluation.exact_pixels", "0"], tmp_path / "counted")
    errors = json.loads((counted / "dense.json").read_text())["sets"]["street-test"]["scores"]
    for a, b in zip(rows(exact), rows(counted), strict=True):
        if a["set"].endswith("pixels"):
            assert abs(a["auroc"] - b["auroc"]) <= errors[a["score"]]["auroc_error"] + 1e-12


def test_ranks_share_the_training_images_that_scores_learn_from(street):
    def keys_of(rank):
        data = DenseDataModule(str(street), NAMES, [3], [4], train="street-train", image_size=(32, 48))
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        return [key for batch in data.training_images() for key in batch["key"].tolist()]

    assert sorted([*keys_of(0), *keys_of(1)]) == list(range(24))
    assert len(keys_of(0)) == 12


@pytest.mark.ddp
def test_two_ranks_give_the_rows_of_one(segmenter, tmp_path, forked):
    arguments = ["test", "--ckpt_path", last(segmenter), "--evaluation.save_maps", "3"]
    alone = run(arguments, tmp_path / "alone")
    finished = forked.ranks([*arguments, "--run_dir", str(tmp_path / "two")])
    assert finished.code == 0, finished.err
    maps = [sorted(path.name for path in folder.glob("maps/*/*")) for folder in (alone, tmp_path / "two")]
    assert maps[0] == maps[1]
    assert len(maps[0]) == 3 * (1 + len(SCORES))
    for one, two in zip(rows(alone), rows(tmp_path / "two"), strict=True):
        # Pixels are counted alike; a convolution rounds by the size of its batch.
        assert two == {
            name: pytest.approx(value, abs=1e-4) if isinstance(value, float) else value for name, value in one.items()
        }


class KilledAt(Callback):
    """Ends the run in the middle of an epoch, after a checkpoint of the step before."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 4:
            trainer.save_checkpoint("cut.ckpt")
            trainer.should_stop = True


def killed(arguments):
    import mmood.configuration.lightning as cli

    torch.set_num_threads(1)  # as the tests themselves: sums of more threads round otherwise
    before = cli.with_progress
    cli.with_progress = lambda *settings: [*before(*settings), KilledAt()]
    return mmood(arguments)


def test_a_run_that_is_resumed_in_an_epoch_ends_with_the_same_weights(
    street_flags, segmenter, tmp_path, forked, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    observe = ["--config", "camvid_obsnet.yaml", *street_flags, *SMALL, "--model.segmenter", last(segmenter)]
    observe += ["--trainer.max_epochs", "2"]
    whole = run(["fit", *observe], tmp_path / "whole")
    finished = forked.call(killed, ["fit", *observe, "--run_dir", str(tmp_path / "cut")])
    assert finished.code == 0, finished.err
    resumed = run(["fit", "--ckpt_path", "cut.ckpt"], tmp_path / "resumed")
    expected, found = (torch.load(last(folder), weights_only=True)["state_dict"] for folder in (whole, resumed))
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def damaged(street, folder, change):
    """Return a root whose test set has one sample changed."""
    shutil.copytree(street, folder)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((32, 48), np.uint8)).save(buffer, "PNG")
    members = [("a.png", _rgb()), ("a.mask.png", buffer.getvalue()), ("b.png", _rgb()), *change]
    write_shard(folder / "street-test/000.tar", members)
    (folder / "street-test/index.json").unlink()
    assert main(["pack", "--index", str(folder / "street-test"), "--quiet"]) == 0
    return folder


def _rgb(size=(32, 48)):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _grey(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ([], "key 1 ('b'): there is no mask (`mask.png`)."),
        ([("b.mask.png", _grey(np.zeros((30, 48), np.uint8)))], "48 x 30 pixels, but the image has 48 x 32."),
        ([("b.mask.png", _grey(np.full((32, 48), 9, np.uint8)))], "the mask has the label 9, but there are 5 names"),
    ],
)
def test_broken_masks_are_one_sentence(street, segmenter, tmp_path, capsys, change, sentence):
    root = damaged(street, tmp_path / "root", change)
    arguments = ["test", "--ckpt_path", last(segmenter), "--data.root", str(root)]
    assert main([*arguments, "--run_dir", str(tmp_path / "test")]) == 2
    assert sentence in capsys.readouterr().err
    arguments += ["--data.loader.on_error", "skip", "--run_dir", str(tmp_path / "skipped")]
    assert main(arguments) == 0
    assert [one["key"] for one in json.loads((tmp_path / "skipped/results.json").read_text())["skipped"]] == [1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data.test", "[]"], "`data.test` is not set"),
        (["--data.ood_labels", "[9]"], "`data.ood_labels` has 9"),
        (["--model.scores.observer", "ObserverScore"], "only `Observer` has one"),
    ],
)
def test_settings_that_cannot_be(street_flags, capsys, arguments, sentence):
    assert main(["test", "--config", "camvid_segnet.yaml", *street_flags, *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_an_observer_needs_its_segmenter(street_flags, tmp_path, capsys):
    arguments = ["fit", "--config", "camvid_obsnet.yaml", *street_flags, *SMALL, "--run_dir", str(tmp_path / "a")]
    assert main(arguments) == 2
    assert "`model.segmenter` is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["predict"],
        ["embed"],
        ["doctor"],
        ["tune", "--grid", "{msp: {temperature: [1, 2]}}"],
    ],
)
def test_commands_for_images(command, street_flags, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--config", "camvid_segnet.yaml", *street_flags]) != 0
    assert list(tmp_path.iterdir()) == []
    captured = capsys.readouterr()
    assert "This command is for detectors of images" in captured.err + captured.out


def test_zero_shot_from_patches(street_flags, toy_model, tmp_path):
    scores = "{mcm: {class_path: OfPatches, init_args: {score: {class_path: MCM}, global_weight: 1.0}}}"
    arguments = ["test", "--config", "camvid_clip.yaml", *street_flags, "--model.encoder.name", toy_model]
    folder = run([*arguments, "--model.scores", scores, "--model.tiles", "[2, 3]"], tmp_path / "test")
    assert {row["set"] for row in rows(folder)} == {f"street-test: {kind}" for kind in ("pixels", "errors", "images")}


def test_classes_in_another_order_are_refused(segmenter, street_flags, tmp_path, capsys):
    # As many classes, and every shape fits.
    arguments = ["test", "--ckpt_path", last(segmenter), "--data.ood_labels", "[0]", "--run_dir", str(tmp_path / "a")]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "was trained on the classes sky, road, car" in said
    assert "leave road, car, animal; set them as in the training." in said
    observe = ["fit", "--config", "camvid_obsnet.yaml", *street_flags, *SMALL, "--model.segmenter", last(segmenter)]
    assert main([*observe, "--data.ood_labels", "[0]", "--run_dir", str(tmp_path / "b")]) == 2
    assert "of `model.segmenter` was trained on the classes sky, road, car" in capsys.readouterr().err


def test_a_score_that_tells_nothing_apart_is_named(street_flags, tmp_path, capsys):
    one_class = ["--data.ignore_labels", "[0, 2, 4]", "--model.scores", "{msp: {class_path: PixelMSP}}"]
    fit = ["fit", "--config", "camvid_segnet.yaml", *street_flags, *SMALL, *one_class, "--trainer.max_epochs", "1"]
    trained = run(fit, tmp_path / "fit")
    run(["test", "--ckpt_path", last(trained)], tmp_path / "test")
    assert "the same for every image, so their numbers mean nothing: msp" in " ".join(capsys.readouterr().err.split())


def test_a_second_test_puts_all_files_of_the_first_aside(segmenter, tmp_path):
    arguments = ["test", "--ckpt_path", last(segmenter), "--evaluation.save_maps", "1"]
    folder = run(arguments, tmp_path / "test")
    first = (folder / "dense.json").read_text()
    run([*arguments, "--overwrite", "true", "--evaluation.save_maps", "0"], folder)
    assert (folder / "previous/dense.json").read_text() == first
    assert not (folder / "maps").exists()
