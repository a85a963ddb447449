"""Probes: the head's mathematics, the loader of stored features, and whole runs through the command line."""

import json
import shutil

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tiny import CLASSES, save_tiny, trainer

from mmood.cli.main import main
from mmood.encoders import EncodedImages, EncoderSettings, build_encoder
from mmood.errors import MmoodError
from mmood.features.loader import FeatureTrainLoader, TrainingRows
from mmood.features.store import open_store
from mmood.loading.few_shot import few_shot
from mmood.modules import LinearProbe
from mmood.modules.optimisation import ShareWarmupCosine
from mmood.modules.probes.head import GridSettings, ProbeHead
from mmood.modules.probes.probe import Probe, build_probe, stored_probe
from mmood.modules.probes.pseudo_label import pseudo_labels
from mmood.modules.probes.training import ProbeSettings, training_rows
from mmood.scores.logits import MCM


def clouds(count=500, width=32, seed=0):
    """Overlapping classes around random means, and features of very different widths."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(CLASSES), (count,), generator=generator)
    means = torch.randn(len(CLASSES), width, generator=torch.Generator().manual_seed(99))
    features = 0.7 * means[labels] + torch.randn(count, width, generator=generator)
    return features * torch.logspace(-1, 1, width) + 5, labels


def test_standardisation_knows_the_training_rows_only():
    features, _ = clouds()
    features[:, 3] = 7.0
    keys = torch.arange(0, 500, 2)
    head = ProbeHead(32, 5)
    head.learn_statistics(features.half(), keys)
    before = head.mean.clone(), head.scale.clone()
    expected = StandardScaler().fit(features.half()[keys].double().numpy())
    varied = [column for column in range(32) if column != 3]
    z_scores = head.standardise(features.half()).numpy()
    np.testing.assert_allclose(
        z_scores[:, varied], expected.transform(features.half().double().numpy())[:, varied], atol=1e-3
    )
    assert (z_scores[:, 3] == 0).all()
    features[1::2] = 1e3
    head.learn_statistics(features.half(), keys)
    assert torch.equal(head.mean, before[0])
    assert torch.equal(head.scale, before[1])


def test_the_folded_head_gives_the_same_logits_on_raw_features():
    features, _ = clouds()
    head = ProbeHead(32, 5)
    head.learn_statistics(features, torch.arange(500))
    weight, bias = head.folded()
    torch.testing.assert_close(features @ weight.T + bias, head.logits(features), atol=1e-4, rtol=1e-4)


def test_heads_of_a_grid_do_not_touch_one_another_and_the_best_is_chosen():
    features, labels = clouds()
    options = GridSettings(lr=[1e-5, 1e-2], weight_decay=[0.0]).options()
    assert options == [{"lr": 1e-5, "weight_decay": 0.0}, {"lr": 1e-2, "weight_decay": 0.0}]
    together, alone = ProbeHead(32, 5, heads=2), ProbeHead(32, 5)
    assert torch.equal(together.heads[1].weight, alone.heads[0].weight)
    for head, groups in ((together, options), (alone, options[1:])):
        head.learn_statistics(features, torch.arange(500))
        optimizer = torch.optim.Adam(
            [{"params": part.parameters(), **group} for part, group in zip(head.heads, groups, strict=True)]
        )
        for _ in range(20):
            optimizer.zero_grad()
            head.loss(features, labels).backward()
            optimizer.step()
    torch.testing.assert_close(together.heads[1].weight, alone.heads[0].weight)
    right = together.right(features, torch.arange(500), labels)
    expected = [int((together.logits(features, number).argmax(dim=1) == labels).sum()) for number in range(2)]
    assert right.tolist() == expected
    assert expected[0] < expected[1]


def two_kinds():
    """Features that tell the class, and embeddings that are noise, or the other way round."""
    features, labels = clouds()
    noise = torch.randn(500, 24, generator=torch.Generator().manual_seed(7))
    return features, noise, labels


@pytest.mark.parametrize("best", ["features", "embedding"])
def test_heads_on_both_kinds_of_rows_are_trained_apart_and_the_best_is_chosen(best):
    good, noise, labels = two_kinds()
    other = "embedding" if best == "features" else "features"
    parts = {best: good, other: noise}
    batch = {**parts, "label": labels, "key": torch.arange(500)}
    options = GridSettings(lr=[1e-5, 1e-2]).options()

    def trained(reads):
        probe = Probe({kind: parts[kind].shape[1] for kind in reads}, 5, heads=2)
        probe.learn_statistics(parts, torch.arange(500))
        groups = [
            {"params": list(head.parameters()), **option}
            for _, heads in probe.by_kind()
            for head, option in zip(heads.heads, options, strict=True)
        ]
        optimizer = torch.optim.Adam(groups)
        for _ in range(20):
            optimizer.zero_grad()
            probe.loss(batch).backward()
            optimizer.step()
        return probe

    both, alone = trained([other, best]), trained([best])
    for one, two in zip(both.spaces[best].heads, alone.spaces[best].heads, strict=True):
        torch.testing.assert_close(one.weight, two.weight)
    both.choose(parts, torch.arange(500), labels)
    assert (both.choice()[0], both.choice()[2]) == (best, 1)
    linear = both.linear()
    encoded = EncodedImages(parts["features"], parts["embedding"])
    assert linear.reads == best
    torch.testing.assert_close(linear.logits(good), both(encoded), atol=1e-4, rtol=1e-4)
    again = stored_probe(both.state_dict())
    assert again.reads == (other, best)
    assert torch.equal(again(encoded), both(encoded))


def test_equally_good_heads_leave_the_first():
    probe = Probe({"embedding": 4, "features": 4}, 3, heads=2)
    rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    probe.choose({"features": rows, "embedding": rows}, torch.arange(9), torch.arange(9) % 3)
    assert int(probe.chosen) == 0
    assert probe.choice()[0] == "embedding"


def test_pseudo_labels_do_not_depend_on_scale_order_or_storage():
    generator = torch.Generator().manual_seed(0)
    embedding = torch.nn.functional.normalize(torch.randn(40, 16, generator=generator), dim=1)
    prototypes = torch.nn.functional.normalize(torch.randn(5, 16, generator=generator), dim=1)
    keys = torch.arange(40)
    labels, confidence = pseudo_labels(embedding, keys, prototypes, torch.tensor(100.0))
    cosines = embedding @ prototypes.T
    assert torch.equal(labels, cosines.argmax(dim=1))
    torch.testing.assert_close(confidence, (100 * cosines).softmax(dim=1).amax(dim=1))
    assert torch.equal(pseudo_labels(embedding, keys, prototypes, torch.tensor(1.0))[0], labels)
    assert torch.equal(pseudo_labels(3 * embedding, keys, prototypes, torch.tensor(100.0))[0], labels)
    assert torch.equal(pseudo_labels(embedding, keys.flip(0), prototypes, torch.tensor(100.0))[0], labels.flip(0))
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.equal(order[pseudo_labels(embedding, keys, prototypes[order], torch.tensor(100.0))[0]], labels)


@pytest.mark.parametrize("batch_size", [16, 256])
def test_the_peak_rate_is_the_configured_one_whatever_the_batch(batch_size, tmp_path):
    features, labels = clouds()
    rows = TrainingRows(features, torch.arange(500), labels, batch_size)
    probe = LinearProbe(save_tiny(tmp_path), CLASSES, {"msp": MCM()})
    run = trainer(-1, max_epochs=10)
    rates = []
    probe.on_before_optimizer_step = lambda optimizer: rates.append(optimizer.param_groups[0]["lr"])
    run.fit(probe, FeatureTrainLoader(rows, seed=0))
    steps = 10 * -(-500 // batch_size)
    assert len(rates) == steps
    assert rates[0] == 0
    assert max(rates) == rates[round(0.1 * steps)] == 1e-3
    assert 0 < rates[-1] < 1e-4
    assert not any(module.training for module in probe.encoder.modules())
    assert run.optimizers[0].param_groups[0]["fused"]


def test_the_schedule_is_linear_then_cosine():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = ShareWarmupCosine(optimizer, 20, share=0.2)
    rates = []
    for _ in range(21):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:5] == [0, 0.5, 1, 1.5, 2]
    assert rates[12] == pytest.approx(1)
    assert rates[20] == pytest.approx(0)


def accuracy(logits, labels):
    return float(np.mean(logits.argmax(axis=1) == labels))


def test_the_probe_is_as_accurate_as_logistic_regression(tmp_path):
    (features, labels), (unseen, truth) = clouds(), clouds(1000, seed=1)
    probe = LinearProbe(
        save_tiny(tmp_path),
        CLASSES,
        {"msp": MCM()},
        optimizer=lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=1e-2),
    )
    settings = ProbeSettings(batch_size=500)
    rows = training_rows(probe.probe, {"features": features}, torch.arange(500), labels, settings, CLASSES)
    trainer(-1, max_epochs=500).fit(probe, FeatureTrainLoader(rows, seed=0))
    scaler = StandardScaler().fit(features.numpy())
    regression = LogisticRegression(C=1 / (1e-2 * 500), max_iter=2000).fit(
        scaler.transform(features.numpy()), labels.numpy()
    )
    expected = accuracy(regression.decision_function(scaler.transform(unseen.numpy())), truth.numpy())
    with torch.no_grad():
        found = accuracy(probe.probe(EncodedImages(unseen, None)).numpy(), truth.numpy())
    assert found == pytest.approx(expected, abs=0.005)
    np.testing.assert_allclose(probe.probe.spaces["features"].heads[0].weight.detach(), regression.coef_, atol=0.05)


def numbered(count, batch_size):
    rows = torch.arange(count)
    return TrainingRows(rows[:, None].float(), rows, rows % 3, batch_size)


def epoch(loader, number):
    loader.sampler.set_epoch(number)
    return [batch["key"] for batch in loader]


def test_every_epoch_is_an_order_of_its_own_and_ranks_share_its_batches():
    alone = FeatureTrainLoader(numbered(101, 20), seed=3)
    first = epoch(alone, 0)
    assert [len(keys) for keys in first] == [20] * 5 + [1]
    assert torch.cat(first).sort().values.tolist() == list(range(101))
    assert torch.equal(torch.cat(epoch(alone, 0)), torch.cat(first))
    assert not torch.equal(torch.cat(epoch(alone, 1)), torch.cat(first))
    ranks = [FeatureTrainLoader(numbered(101, 20), seed=3, rank=rank, world=2) for rank in range(2)]
    shares = [epoch(loader, 0) for loader in ranks]
    assert [len(keys) for keys in shares[0]] == [len(keys) for keys in shares[1]] == [10] * 5
    for whole, one, two in zip(first, *shares, strict=False):
        assert torch.equal(torch.cat([one, two]).sort().values, whole)
    with pytest.raises(MmoodError, match="fewer than the 4 devices"):
        FeatureTrainLoader(numbered(3, 20), seed=0, world=4)


def test_training_goes_on_in_the_middle_of_an_epoch():
    loader = FeatureTrainLoader(numbered(50, 10), seed=3)
    whole = epoch(loader, 2)
    iterator = iter(loader)
    seen = [next(iterator)["key"] for _ in range(2)]
    again = FeatureTrainLoader(numbered(50, 10), seed=3)
    again.load_state_dict(loader.state_dict())
    rest = epoch(again, 2)
    assert [keys.tolist() for keys in seen + rest] == [keys.tolist() for keys in whole]
    with pytest.raises(MmoodError, match="with seed = 3, but now it is 4"):
        FeatureTrainLoader(numbered(50, 10), seed=4).load_state_dict(loader.state_dict())


def test_shots_are_drawn_for_each_class_on_its_own():
    labels = torch.tensor([0] * 50 + [1] * 3 + [2] * 50)
    drawn = few_shot(labels, 5, seed=0)
    assert labels[drawn].bincount().tolist() == [5, 3, 5]
    assert torch.equal(drawn, drawn.sort().values)
    assert torch.equal(drawn, few_shot(labels, 5, seed=0))
    assert not torch.equal(drawn, few_shot(labels, 5, seed=1))
    assert torch.equal(drawn[:8], few_shot(labels[:53], 5, seed=0))


@pytest.fixture
def flags(toy_flags, tmp_path, monkeypatch):
    """Toy sets, few epochs, and a cache for each test."""
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    return [
        *toy_flags,
        *(
            "--data.train",
            "toy-train",
            "--data.val",
            "{id: 0.25}",
            "--data.batch_size",
            "16",
            "--trainer.max_epochs",
            "20",
        ),
        *(
            "--model.training.batch_size",
            "16",
            "--model.optimizer.lr",
            "1e-2",
            "--trainer.check_val_every_n_epoch",
            "20",
        ),
    ]


def run(arguments, folder):
    assert main([*arguments, "--run_dir", str(folder)]) == 0


def checkpoint_of(folder):
    return folder / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize("config", ["vitb16_linear.yaml", "vitb16_plp.yaml"])
def test_a_probe_from_fit_to_predict(config, flags, toy_root, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(toy_root, root)
    flags = [*flags, "--data.root", str(root), "--data.class_names", str(root / "classes.txt")]
    run(["fit", "--config", config, *flags], tmp_path / "fit")
    path = checkpoint_of(tmp_path / "fit")
    assert path.stat().st_size < 50_000
    assert all(name.startswith("probe.") for name in torch.load(path, weights_only=True)["state_dict"])
    run(["test", "--ckpt_path", str(path)], tmp_path / "test")
    results = json.loads((tmp_path / "test/results.json").read_text())
    assert {row["score"] for row in results["rows"]} == {"msp", "energy", "l1", "max_logit"}
    assert results["provenance"]["settings"]["training"]["batch_size"] == 16
    # Colours are easy for true labels; zero-shot knows nothing here.
    assert results["id"][0]["accuracy"] > 0.9 or config == "vitb16_plp.yaml"
    images = toy_root.parent / "images" / "toy-near"
    run(["predict", "--ckpt_path", str(path), "--data.predict", str(images)], tmp_path / "predict")
    assert (tmp_path / "predict/predictions.csv").exists()
    for shard in (root / "toy-train").glob("*.tar"):
        shard.unlink()
    run(["fit", "--config", config, *flags], tmp_path / "again")
    same_state(path, checkpoint_of(tmp_path / "again"), 0)


def same_state(one, two, atol):
    states = [torch.load(path, weights_only=True)["state_dict"] for path in (one, two)]
    torch.testing.assert_close(states[0], states[1], atol=atol, rtol=0)


def test_features_off_trains_the_same_head_and_leaves_nothing(flags, tmp_path):
    run(["fit", "--config", "vitb16_linear.yaml", *flags], tmp_path / "auto")
    shutil.rmtree(tmp_path / "cache")
    run(["fit", "--config", "vitb16_linear.yaml", *flags, "--data.features", "off"], tmp_path / "off")
    same_state(checkpoint_of(tmp_path / "auto"), checkpoint_of(tmp_path / "off"), 0)
    assert not (tmp_path / "cache").exists()
    assert not list((tmp_path / "off/features").iterdir())


def test_a_grid_is_recorded_with_its_choice(flags, tmp_path):
    grid = ["--model.grid.lr", "[1e-6, 1e-2]", "--model.grid.weight_decay", "[0.0, 1e-3]"]
    run(["fit", "--config", "vitb16_linear.yaml", *flags, *grid], tmp_path / "fit")
    run(["test", "--ckpt_path", str(checkpoint_of(tmp_path / "fit"))], tmp_path / "test")
    settings = json.loads((tmp_path / "test/results.json").read_text())["provenance"]["settings"]
    assert settings["grid"] == {"lr": [1e-6, 1e-2], "weight_decay": [0.0, 1e-3], "reads": None}
    assert settings["chosen"]["reads"] == "features"
    assert settings["chosen"]["lr"] == 1e-2


@pytest.mark.parametrize("config", ["vitb16_linear.yaml", "vitb16_plp.yaml"])
def test_a_probe_reads_the_embedding_and_a_grid_both(config, flags, tmp_path):
    scores = "{msp: {class_path: MCM}, vim: {class_path: ViM, init_args: {reads: embedding, dimension: 6}}, kl: {class_path: KLMatching}}"
    run(["fit", "--config", config, *flags, "--model.reads", "embedding", "--model.scores", scores], tmp_path / "one")
    path = checkpoint_of(tmp_path / "one")
    state = torch.load(path, weights_only=True)["state_dict"]
    assert state["probe.spaces.embedding.heads.0.weight"].shape == (3, 16)
    run(["test", "--ckpt_path", str(path)], tmp_path / "test")
    results = json.loads((tmp_path / "test/results.json").read_text())
    assert results["provenance"]["settings"]["chosen"] == {"reads": "embedding"}
    assert {row["score"] for row in results["rows"]} == {"msp", "vim", "kl"}
    grid = ["--model.grid.reads", "[embedding, features]", "--model.grid.lr", "[1e-2]"]
    run(["fit", "--config", config, *flags, *grid], tmp_path / "both")
    both = torch.load(checkpoint_of(tmp_path / "both"), weights_only=True)["state_dict"]
    for name, tensor in state.items():
        if name != "probe.chosen":
            torch.testing.assert_close(both[name], tensor)
    run(["test", "--ckpt_path", str(checkpoint_of(tmp_path / "both"))], tmp_path / "again")
    settings = json.loads((tmp_path / "again/results.json").read_text())["provenance"]["settings"]
    assert settings["grid"]["reads"] == ["embedding", "features"]
    assert settings["chosen"]["reads"] == ["embedding", "features"][int(both["probe.chosen"])]


def test_what_a_probe_cannot_read_is_one_sentence(flags, tmp_path, capsys):
    image_only = build_encoder(EncoderSettings("timm:test_resnet.r160_in1k", "random", image_size=32))
    with pytest.raises(MmoodError, match=r"is an image-only encoder without one; set `model.reads` to features"):
        build_probe(image_only, 3, "embedding", GridSettings(), seed=0)
    with pytest.raises(MmoodError, match="name each output once"):
        GridSettings(reads=["features", "features"])
    scores = "{react: {class_path: ReAct}}"
    arguments = ["fit", "--config", "vitb16_linear.yaml", *flags, "--model.reads", "embedding"]
    assert main([*arguments, "--model.scores", scores, "--run_dir", str(tmp_path)]) == 2
    assert "module's head reads the embedding" in capsys.readouterr().err


def test_a_grid_needs_a_validation_set(flags, tmp_path, capsys):
    arguments = [
        "fit",
        "--config",
        "vitb16_linear.yaml",
        *flags,
        "--model.grid.lr",
        "[1e-3, 1e-2]",
        "--data.val",
        "{id: null}",
    ]
    assert main([*arguments, "--run_dir", str(tmp_path)]) == 2
    assert "`data.val.id` is not set" in capsys.readouterr().err


def test_scores_on_the_bank_and_image_only_encoders(flags, tmp_path):
    scores = "{knn: {class_path: KNN}, rmd: {class_path: RelativeMahalanobis}, vim: {class_path: ViM, init_args: {dimension: 8}}, msp: {class_path: MCM}}"
    encoder = "{name: timm:test_resnet.r160_in1k, pretrained: random, image_size: 32}"
    arguments = ["--config", "vitb16_linear.yaml", *flags, "--model.encoder", encoder, "--model.scores", scores]
    run(["fit", *arguments], tmp_path / "fit")
    run(["test", "--ckpt_path", str(checkpoint_of(tmp_path / "fit"))], tmp_path / "test")
    results = json.loads((tmp_path / "test/results.json").read_text())
    assert {row["score"] for row in results["rows"]} == {"knn", "rmd", "vim", "msp"}


@pytest.mark.ddp
def test_two_ranks_train_the_same_head_as_one(flags, tmp_path, forked):
    arguments = ["fit", "--config", "vitb16_plp.yaml", *flags]
    run(arguments, tmp_path / "alone")
    shutil.rmtree(tmp_path / "cache")
    finished = forked.ranks([*arguments, "--run_dir", str(tmp_path / "ddp")])
    assert finished.code == 0, finished.err
    same_state(checkpoint_of(tmp_path / "alone"), checkpoint_of(tmp_path / "ddp"), 1e-4)


@pytest.mark.long
def test_on_real_features_the_probe_is_as_accurate_as_logistic_regression(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "root"
    for name in ("id-train", "id-test"):
        (root / name).mkdir(parents=True)
        shard = min((real_data / "data" / name).glob("*.tar"))
        (root / name / shard.name).symlink_to(shard)
    assert main(["pack", "--index", *(str(root / name) for name in ("id-train", "id-test")), "--quiet"]) == 0
    flags = [
        *("--model.encoder.name", f"local-dir:{real_data}/models/miniclip", "--data.root", str(root)),
        *("--data.benchmark", "null", "--data.id", "id-test", "--data.ood", "{}", "--data.train", "id-train"),
        *(
            "--data.val",
            "{id: null}",
            "--data.class_names",
            str(real_data / "data/id-classes.txt"),
            "--data.loader.workers",
            "0",
        ),
        *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
        *(
            "--model.training.batch_size",
            "512",
            "--model.optimizer.weight_decay",
            "1e-2",
            "--model.optimizer.lr",
            "1e-2",
        ),
    ]
    run(["fit", "--config", "vitb16_linear.yaml", *flags], tmp_path / "fit")
    embedded = ["embed", "--config", "vitb16_linear.yaml", *flags, "--sets", "id-test", "--quiet"]
    assert main(embedded) == 0
    train, test = (
        open_store(next((tmp_path / "cache/features").glob(f"{name}.*"))) for name in ("id-train", "id-test")
    )
    scaler = StandardScaler().fit(train.features.numpy())
    regression = LogisticRegression(C=1 / (1e-2 * len(train.label)), max_iter=500)
    regression.fit(scaler.transform(train.features.numpy()), train.label.numpy())
    expected = regression.score(scaler.transform(test.features.numpy()), test.label.numpy())
    state = torch.load(checkpoint_of(tmp_path / "fit"), weights_only=True)["state_dict"]
    head = stored_probe({name.removeprefix("probe."): tensor for name, tensor in state.items()})
    with torch.no_grad():
        found = accuracy(head(EncodedImages(test.features, test.embedding)).numpy(), test.label.numpy())
    print(f"accuracy of the probe {found:.4f}, of logistic regression {expected:.4f}")
    assert found == pytest.approx(expected, abs=0.005)
