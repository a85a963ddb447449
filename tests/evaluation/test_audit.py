"""OoD images that look like ID images: found, counted, listed beside what they resemble."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from mmood.cli.main import main
from mmood.evaluation.audit import AuditSide, IdSide, audit, nearest
from mmood.results.serialisation import read_results

NAMES = ("cat", "dog", "ship")


def side(name, embedding, label=None):
    rows = normalize(torch.as_tensor(embedding, dtype=torch.float32), dim=-1)
    label = torch.full((len(rows),), -1) if label is None else torch.as_tensor(label)
    return AuditSide(name, f"hash of {name}", torch.arange(len(rows)) + 100, rows, label)


def random_sides(seed=0, prototypes=True, train=True):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(3, 8))
    labels = np.arange(60) % 3
    test, bank = (centres[labels] + 0.7 * generator.normal(size=(60, 8)) for _ in range(2))
    known = IdSide(
        side("test", test, labels),
        side("train", bank, labels) if train else None,
        normalize(torch.as_tensor(centres, dtype=torch.float32), dim=-1) if prototypes else None,
        NAMES,
    )
    ood = np.concatenate([generator.normal(size=(30, 8)), test[:4], centres[:2]])
    return known, side("ood", ood)


def by_hand(known, ood, cosine):
    """The counts from their definition, one image at a time, in float64."""
    test, train, label = known.test.embedding.double().numpy(), known.train.embedding.double().numpy(), known.test.label
    prototypes = known.prototypes.double().numpy()
    medians = lambda values: {c: np.sort(values[label == c])[(int((label == c).sum()) - 1) // 2] for c in range(3)}  # noqa: E731
    by_name = medians(np.array([row @ prototypes[c] for row, c in zip(test, label, strict=True)]))
    own = [
        max(row @ other for other, d in zip(train, known.train.label, strict=True) if d == c)
        for row, c in zip(test, label, strict=True)
    ]
    by_image = medians(np.array(own))
    counts = {"near_copies": 0, "class_name": 0, "training_image": 0}
    for row in ood.embedding.double().numpy():
        counts["near_copies"] += max((test @ row).max(), (train @ row).max()) >= cosine
        counts["class_name"] += (prototypes @ row).max() >= by_name[int((prototypes @ row).argmax())]
        place = int((train @ row).argmax())
        counts["training_image"] += (train @ row)[place] >= by_image[int(known.train.label[place])]
    return counts


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_the_definition(seed):
    known, ood = random_sides(seed)
    found = audit([ood], known, cosine=0.9)
    (counts,) = found.sets
    assert {name: getattr(counts, name) for name in ("near_copies", "class_name", "training_image")} == by_hand(
        known, ood, 0.9
    )
    assert counts.n == 36


def test_copies_are_listed_first_beside_their_originals():
    known, ood = random_sides()
    found = audit([ood], known)
    first = found.images[:4]
    assert {(image.key, image.id_set, image.id_key) for image in first} == {
        (130 + i, "test", 100 + i) for i in range(4)
    }
    assert all(image.cosine == pytest.approx(1, abs=1e-5) and "near_copy" in image.reasons for image in first)
    assert list(found.images) == sorted(found.images, key=lambda image: -image.cosine)
    assert found.index_sha256 == {name: f"hash of {name}" for name in ("ood", "test", "train")}


def test_one_comparison_alone_lists_nothing():
    known, ood = random_sides()
    for image in audit([ood], known).images:
        assert "near_copy" in image.reasons or {"class_name", "training_image"} <= set(image.reasons)


@pytest.mark.parametrize(("prototypes", "train"), [(False, True), (True, False), (False, False)])
def test_what_is_not_there_is_not_compared(prototypes, train):
    known, ood = random_sides(prototypes=prototypes, train=train)
    (counts,) = audit([ood], known).sets
    assert (counts.class_name is None, counts.training_image is None) == (not prototypes, not train)


def test_nearest_is_the_largest_cosine_in_any_cut(monkeypatch):
    monkeypatch.setattr("mmood.evaluation.audit._ROWS", 4)
    monkeypatch.setattr("mmood.evaluation.audit._BANK_ROWS", 5)
    generator = torch.Generator().manual_seed(0)
    queries, bank = (normalize(torch.randn(n, 6, generator=generator), dim=-1) for n in (11, 13))
    values, rows = nearest(queries, bank)
    expected = (queries @ bank.T).max(dim=1)
    torch.testing.assert_close(values, expected.values)
    assert rows.tolist() == expected.indices.tolist()
    assert nearest(queries[:0], bank)[0].shape == (0,)


@pytest.fixture
def audited(toy_root, toy_flags, tmp_path):
    """The run folder of a test of an OoD set with two re-encoded ID images, without stores."""
    root = shutil.copytree(toy_root, tmp_path / "shards")
    images = toy_root.parent / "images"
    folder = shutil.copytree(images / "toy-far", tmp_path / "near-copies")
    for number, path in enumerate(sorted((images / "toy-test").rglob("*.png"))[:2]):
        Image.open(path).save(folder / f"copy-{number}.bmp")  # other bytes, the same picture
    assert main(["pack", "--out", str(root / "near-copies"), "--folder", str(folder), "--quiet"]) == 0
    flags = [str(root) if flag == str(toy_root) else flag for flag in toy_flags]
    flags += ["--data.ood", "{far: [near-copies]}", "--data.train", "toy-train", "--data.features", "off"]
    run = tmp_path / "run"
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", *flags, "--run_dir", str(run)]
    assert main([*arguments, "--evaluation.audit", "true"]) == 0
    return run


def test_the_audit_of_a_test_is_in_results_and_report(audited):
    results = json.loads((audited / "results.json").read_text())
    assert [one["copies"] for one in results["overlap"]] == [0, 0]  # no file is the same
    (counts,) = results["audit"]["sets"]
    assert counts["near_copies"] >= 2
    exact = [image for image in results["audit"]["images"] if image["cosine"] > 0.999999]
    assert {(image["id_set"], image["id_key"]) for image in exact} >= {("toy-test", 0), ("toy-test", 1)}
    assert read_results(audited).audit.as_dict()["images"][0]["set"] == "near-copies"
    assert not (audited / "features").exists()
    assert main(["report", str(audited), "--resamples", "0"]) == 0
    page = (audited / "report.html").read_text()
    assert 'id="audit"' in page
    assert page.count("data:image/jpeg") >= 4
