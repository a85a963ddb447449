"""Every config that comes with mmood runs: on toy sets and a tiny model in place of ImageNet and the config's own."""

from pathlib import Path

import pytest
import yaml

from mmood.cli.main import main
from mmood.configuration.config_files import installed_folder
from mmood.dense import MODULES
from mmood.words.class_texts import ClassTexts, TextsFile
from mmood.words.proposed import origin_for

CONFIGS = sorted(path.name for path in installed_folder().glob("*.yaml"))
MINED = {"NegLabel", "CSP", "AdaNeg", "TANL", "InterNeg", "CoEvo", "TINS", "ANTS"}


LESS = {
    "vitb16_localprompt.yaml": [
        "--model.method.init_args",
        "{context: {tokens: 4}, negatives: 3, crops: 3, positives: 2}",
    ],
    "vitb16_idlike.yaml": ["--model.method.init_args", "{context: {tokens: 4}, negatives: 3, crops: 4, kept: 2}"],
}


def class_texts(root: Path, folder: Path) -> Path:
    """Write texts of the toy classes, as `mmood propose` does, and return the file."""
    names = (root / "classes.txt").read_text().splitlines()
    texts = tuple(ClassTexts(name, (f"a {name}",), (f"no {name}",)) for name in names)
    TextsFile(origin_for("pnps", names, {}), texts).save(folder / "texts.json")
    return folder / "texts.json"


def model_of(name: str) -> dict:
    model = yaml.safe_load((installed_folder() / name).read_text())["model"]
    return model if isinstance(model, dict) else yaml.safe_load((installed_folder() / model).read_text())


def test_every_part_serves_several_configs():
    texts = [(installed_folder() / name).read_text() for name in CONFIGS]
    parts = [str(path.relative_to(installed_folder())) for path in installed_folder().glob("*/*.yaml")]
    assert {
        part: sum(part in text for text in texts) for part in parts if sum(part in text for text in texts) < 2
    } == {}


def test_papers_train_on_all_images():
    assert "val" not in yaml.safe_load((installed_folder() / "data/imagenet_train.yaml").read_text())


@pytest.mark.parametrize(
    ("val", "kept"), [([], {"last.ckpt"}), (["--data.val.id", "0.25"], {"last.ckpt", "epoch=0.ckpt"})]
)
def test_a_best_epoch_needs_images_to_choose_it_by(val, kept, toy_flags, words, tmp_path, recwarn):
    flags = [*toy_flags, "--data.train", "toy-train", "--data.batch_size", "16", "--trainer.max_epochs", "1", *val]
    flags += ["--model.scores.neglabel.init_args.negatives", str(words), "--run_dir", str(tmp_path)]
    assert main(["fit", "--config", "vitb16_align.yaml", *flags]) == 0
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == kept
    assert not [warning for warning in recwarn if "could not find the monitored key" in str(warning.message)]


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    """A short list in place of WordNet, whose mining has tests of its own."""
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("\n".join(f"word {number}" for number in range(120)) + "\n")
    return path


def is_dense(name: str) -> bool:
    """Return whether a config scores pixels; tests/dense runs these."""
    return model_of(name)["class_path"] in MODULES


@pytest.mark.parametrize("name", [name for name in CONFIGS if not is_dense(name)])
def test_runs_on_demo_shards(name, toy_root, toy_flags, toy_sigmoid_model, words, tmp_path):
    model = model_of(name)
    stage = "test" if model["class_path"] == "ZeroShot" else "fit"
    flags = [*toy_flags, "--data.train", "toy-train", "--data.val", "{id: 0.25, ood: {val: [toy-val-ood]}}"]
    flags += ["--data.batch_size", "16"]
    if model["class_path"] == "PromptLearning":
        # The toy text tower takes 16 tokens in all, and the toy sets have few images for hundreds of crops.
        flags += ["--trainer.precision", "32-true", *LESS.get(name, ["--model.method.init_args.context.tokens", "4"])]
        if name == "vitb16_pnps.yaml":
            flags += ["--model.method.init_args.class_texts", str(class_texts(toy_root, tmp_path))]
    if name == "cifar10_mode.yaml":
        flags += ["--model.encoder", f"{{name: '{flags[flags.index('--model.encoder.name') + 1]}', pretrained: null}}"]
    if name.startswith("siglip"):
        flags += ["--model.encoder.name", toy_sigmoid_model]
    for score, settings in model["init_args"]["scores"].items():
        if settings["class_path"] in MINED:
            flags += [f"--model.scores.{score}.init_args.negatives", str(words)]
        if settings["class_path"] == "EOE":  # the lists that come with mmood name a toy class
            flags += [f"--model.scores.{score}.init_args.outliers", str(words)]
        if settings["class_path"] == "CoEvo":
            flags += [f"--model.scores.{score}.init_args.mining.corpus.nouns", f"[{words}]"]
    assert main([stage, "--config", name, *flags, "--trainer.fast_dev_run", "true", "--run_dir", str(tmp_path)]) == 0
    assert not (tmp_path / "results.json").exists(), "one batch is no result"


@pytest.mark.parametrize("name", [name for name in CONFIGS if not name.startswith("demo_")])
def test_says_what_to_set_where_there_are_no_data(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stage = "test" if model_of(name)["class_path"].endswith("ZeroShot") else "fit"
    assert main([stage, "--config", name]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert "data.root" in error
    assert list(tmp_path.iterdir()) == []
