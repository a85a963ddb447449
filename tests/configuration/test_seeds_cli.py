"""One seed rules all seeds that are not set by themselves, from the training to the report."""

import json

import pytest
import torch
import yaml

from mmood.cli.main import main


@pytest.fixture(scope="module")
def world(toy_root, toy_model, tmp_path_factory):
    """Flags of a short fit of a probe, and a function that runs a command in a folder of its own."""
    flags = [
        *("--model.encoder.name", toy_model, "--data.root", str(toy_root), "--data.benchmark", "null"),
        *("--data.id", "toy-test", "--data.ood", "{near: [toy-near], far: [toy-far]}"),
        *("--data.class_names", str(toy_root / "classes.txt"), "--data.loader.workers", "0"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.enable_progress_bar", "false"),
        *("--data.train", "toy-train", "--data.batch_size", "16", "--trainer.max_epochs", "2"),
        *("--model.training.batch_size", "16", "--model.training.shots", "8"),
    ]
    base = tmp_path_factory.mktemp("seeds")

    def run(name, command, *arguments):
        folder = base / name
        given = [] if arguments[0] in ("--ckpt_path", "--config") else ["--config", "vitb16_linear.yaml", *flags]
        assert main([command, *given, *arguments, "--run_dir", str(folder)]) == 0
        return folder

    return run


def state(folder):
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


def weight(folder):
    return state(folder)["state_dict"]["probe.spaces.features.heads.0.weight"]


def provenance(folder):
    return json.loads((folder / "results.json").read_text())["provenance"]


def test_one_seed_rules_training_test_and_report(world, capsys):
    fits = {seed: world(f"fit{seed}", "fit", "--seed_everything", str(seed)) for seed in (1, 2, 3)}
    again = world("fit1again", "fit", "--seed_everything", "1")
    assert torch.equal(weight(fits[1]), weight(again))
    assert not torch.equal(weight(fits[1]), weight(fits[2]))

    written = fits[2] / "config.fit.yaml"
    said = written.read_text()
    assert "# model.init_args.training.seed follows seed_everything: 2\n" in said
    assert "# data.loader.seed follows seed_everything: 2\n" in said
    config = yaml.safe_load(said)
    assert (config["seed_everything"], config["data"]["loader"]["seed"]) == (2, None)
    rerun = world("rerun2", "fit", "--config", str(written))
    assert torch.equal(weight(rerun), weight(fits[2]))
    other = world("rerun3", "fit", "--config", str(written), "--seed_everything", "3")
    assert torch.equal(weight(other), weight(fits[3]))

    kept = state(fits[2])["mmood"]
    assert kept["seed_everything"] == 2
    assert kept["seeds"]["model.init_args.training.seed"] == kept["seeds"]["data.loader.seed"] == 2
    assert kept["seeds"]["evaluation.stream.seeds"] == [6, 7, 8]
    tests = [
        world(f"test{seed}", "test", "--ckpt_path", str(fit / "checkpoints/last.ckpt")) for seed, fit in fits.items()
    ]
    found = provenance(tests[1])
    assert (found["seed"], found["loader_seed"], found["settings"]["training"]["seed"]) == (2, 2, 2)
    trained = found["checkpoint"]
    assert trained["path"] == str(fits[2] / "checkpoints/last.ckpt")
    assert (trained["seed"], trained["max_epochs"], trained["world_size"]) == (2, 2, 1)
    assert trained["optimizers"][0]["class_path"] == "torch.optim.adam.Adam"
    assert trained["optimizers"][0]["weight_decay"] == found["settings"]["optimizer"]["init_args"]["weight_decay"]
    assert trained["global_step"] == 4  # 24 of the images, 16 a step, two epochs

    capsys.readouterr()
    assert main(["report", *map(str, tests), "--resamples", "0"]) == 0
    assert "(n = 3)" in (tests[0] / "report.md").read_text()
    assert "same to the last bit" not in capsys.readouterr().err
    same = world("test1as9", "test", "--ckpt_path", str(again / "checkpoints/last.ckpt"), "--seed_everything", "9")
    assert main(["report", str(tests[0]), str(same), "--resamples", "0"]) == 0
    assert "state the seeds 1 and 9, and their numbers are the same to the last bit" in capsys.readouterr().err
    assert "same to the last bit" in (tests[0] / "report.md").read_text()


def test_a_seed_that_is_set_by_itself_stays(world):
    own = ("--model.training.seed", "7", "--data.loader.seed", "8")
    one = world("own1", "fit", "--seed_everything", "1", *own)
    two = world("own2", "fit", "--seed_everything", "2", *own)
    assert torch.equal(weight(one), weight(two))
    assert state(two)["mmood"]["model"]["init_args"]["training"]["seed"] == 7


@pytest.mark.parametrize("seed", ["-1", "abc", "4294967296", "1.5"])
def test_no_seeds(seed, toy_flags, capsys):
    assert main(["test", "--config", "vitb16_zeroshot.yaml", *toy_flags, "--seed_everything", seed]) == 2
    assert f"seed_everything is {seed}; it must be a whole number in [0, 4294967295]" in capsys.readouterr().err
