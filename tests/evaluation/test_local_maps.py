"""Maps of local scores as files of a run: what the steps computed, in the order of the images, on any ranks."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from mmood import LocalMaps, MmoodError, OoDCallback, OoDDataModule, ZeroShot
from mmood.cli.main import main
from mmood.encoders import EncoderSettings, build_encoder
from mmood.loading.settings import LoaderSettings
from mmood.results.arrays import read_arrays, run_of_arrays
from mmood.scores import LMCM

SCORES = ["--model", "ZeroShot", "--model.scores.glmcm", "GLMCM", "--model.scores.mcm", "MCM"]


def maps_of(folder, name):
    path = folder / "maps" / f"{name}.npz"
    return read_arrays(path, str(path), dimensions=3)


@pytest.fixture(scope="module")
def tested(toy_flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    flags = [*SCORES, *toy_flags, "--model.scores.lmcm", "LMCM", "--maps.files", "png", "--run_dir", str(folder)]
    assert main(["test", *flags]) == 0
    return folder


def test_the_arrays_are_those_of_the_score(tested, toy_model, toy_root):
    arrays = maps_of(tested, "toy-near")
    assert set(arrays) == {"key", "glmcm", "lmcm"}
    encoder = build_encoder(EncoderSettings(toy_model)).eval()
    rows, columns = encoder.patch_grid()
    assert arrays["glmcm"].shape == (len(arrays["key"]), rows, columns)
    pictures = sorted((toy_root.parent / "images" / "toy-near").rglob("*.png"))
    with torch.no_grad():
        encoded = encoder.encode_image(encoder.transform()(Image.open(pictures[3]))[None], patches=True)
        names = (toy_root / "classes.txt").read_text().splitlines()
        texts = encoder.prototypes(names, ["a photo of a {}"])
    probabilities = (encoded.patches[0] @ texts.T).softmax(dim=-1).amax(dim=-1).reshape(rows, columns)
    assert np.allclose(1 / (1 + np.exp(-arrays["glmcm"][3])), probabilities, rtol=1e-5)
    scores = read_arrays(tested / "scores" / "toy-near.npz", "It")
    assert np.array_equal(arrays["lmcm"].max(axis=(1, 2)), scores["lmcm"])


def test_each_image_has_a_picture(tested):
    names = sorted(path.name for path in (tested / "maps" / "toy-far").iterdir())
    keys = maps_of(tested, "toy-far")["key"]
    assert len(names) == 2 * len(keys)
    assert names[0].startswith("000000-")
    assert names[0].endswith(".glmcm.png")
    with Image.open(tested / "maps" / "toy-far" / names[0]) as picture:
        assert (picture.mode, picture.size) == ("RGB", (40, 36))


@pytest.mark.ddp
def test_two_ranks_write_the_same(tested, forked, toy_flags, tmp_path):
    flags = [*SCORES, *toy_flags, "--model.scores.lmcm", "LMCM", "--maps.files", "png", "--run_dir", str(tmp_path)]
    finished = forked.ranks(["test", *flags])
    assert finished.code == 0, finished.err
    for name in ("toy-test", "toy-near", "toy-far"):
        one, two = maps_of(tested, name), maps_of(tmp_path, name)
        assert all(np.array_equal(one[array], two[array]) for array in one)
        pictures = [sorted((folder / "maps" / name).iterdir()) for folder in (tested, tmp_path)]
        assert [path.read_bytes() for path in pictures[0]] == [path.read_bytes() for path in pictures[1]]
    rows = [
        [line.rpartition(",")[0] for line in (folder / "results.csv").read_text().splitlines()]
        for folder in (tested, tmp_path)
    ]
    assert rows[0] == rows[1]


def test_a_trainer_of_ones_own_writes_maps_into_the_same_run(toy_root, toy_model, tmp_path):
    data = OoDDataModule(
        str(toy_root),
        id="toy-test",
        ood={"far": ["toy-far"]},
        class_names=str(toy_root / "classes.txt"),
        loader=LoaderSettings(workers=0),
    )
    model = ZeroShot(EncoderSettings(toy_model), str(toy_root / "classes.txt"), {"lmcm": LMCM()})
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "use_distributed_sampler": False}
    with pytest.raises(MmoodError, match="give the Trainer both callbacks"):
        Trainer(callbacks=[LocalMaps("npz")], default_root_dir=tmp_path, **options).test(model, data)
    callbacks = [OoDCallback(), LocalMaps("npz")]
    Trainer(callbacks=callbacks, default_root_dir=tmp_path, **options).test(model, data, verbose=False)
    run = run_of_arrays(tmp_path / "maps" / "toy-test.npz", "It")
    assert run == run_of_arrays(tmp_path / "scores" / "toy-test.npz", "It") == callbacks[0].run


def test_predicted_images_have_maps(toy_flags, toy_root, tmp_path):
    images = toy_root.parent / "images" / "toy-far"
    flags = [*SCORES, *toy_flags, "--data.predict", str(images), "--maps.files", "npz", "--run_dir", str(tmp_path)]
    assert main(["predict", *flags]) == 0
    count = len((tmp_path / "predictions.csv").read_text().splitlines()) - 1
    assert maps_of(tmp_path, "predict")["glmcm"].shape[0] == count
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["predict.npz"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model.scores.mcm", "MCM", "--maps.files", "npz"], "no score in model.scores has a map; add GLMCM or LMCM"),
        (["--model.scores.mcm", "MCM", "--maps.files", "jpg"], "maps.files"),
    ],
)
def test_what_has_no_map_is_refused(flags, said, toy_flags, tmp_path, capsys):
    assert main(["test", "--model", "ZeroShot", *flags, *toy_flags, "--run_dir", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()


def test_nothing_is_written_unless_asked_for(toy_flags, tmp_path):
    assert main(["test", *SCORES, *toy_flags, "--run_dir", str(tmp_path)]) == 0
    assert not (tmp_path / "maps").exists()
