"""Several benchmarks in one pass: the rows of separate runs, and every image through the tower once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mmood.cli.main import main
from mmood.data import benchmarks
from mmood.data.benchmarks import Benchmark
from mmood.data.catalog import ID_GROUP, EvaluationSet
from mmood.data.datamodule import OoDDataModule
from mmood.data.protocols import ProtocolSets, View, find_views
from mmood.data.settings import resolve
from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.errors import MmoodError
from mmood.evaluation.protocols import scores_in, skipped_in, stores_in
from mmood.evaluation.store import SetScores
from mmood.features.store import StoredFeatures
from mmood.recipes import registry
from mmood.runs.earlier import put_aside, refuse_earlier
from mmood.shards.hashes import image_hashes
from mmood.shards.reading import Skipped
from mmood.shards.shard_index import load_index

NAMES = ("wide", "narrow")


@pytest.fixture
def root(toy_root, tmp_path, monkeypatch):
    """The toy sets with two protocols: `narrow` has parts of the ID set and of an OoD set, and another OoD set."""
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    root = shutil.copytree(toy_root, tmp_path / "shards")
    images = toy_root.parent / "images"
    for name, part in (("toy-test", "id-part"), ("toy-near", "near-part")):
        folder = tmp_path / part
        for number, path in enumerate(sorted((images / name).rglob("*.png"))):
            if number % 3:
                target = folder / path.relative_to(images / name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        shutil.rmtree(root / part, ignore_errors=True)
        classes = ["--classes", str(root / "classes.txt")] if part == "id-part" else []
        assert main(["pack", "--out", str(root / part), "--folder", str(folder), *classes, "--quiet"]) == 0
    known = {
        "wide": Benchmark("wide", "toy-test", {"near": ("toy-near",), "far": ("toy-far",)}, None, ""),
        "narrow": Benchmark("narrow", "id-part", {"hard": ("near-part", "toy-val-ood"), "far": ("toy-far",)}, None, ""),
    }
    monkeypatch.setattr(benchmarks, "BENCHMARKS", known)
    variants = {"id-part": "toy-test", "near-part": "toy-near", "toy-test": "id-part", "toy-near": "near-part"}
    _with_variants(monkeypatch, variants)
    return root


def _with_variants(monkeypatch, variants):
    class Known:
        count = None

        def __init__(self, variant):
            self.variant = variant

    def find(name):
        return Known(variants[name]) if name in variants else None

    for module in (registry, benchmarks):
        monkeypatch.setattr(module, "known_recipe", find)
    monkeypatch.setattr("mmood.data.protocols.known_recipe", find)


@pytest.fixture
def flags(root, toy_root, toy_model):
    return [
        *("--config", "vitb16_zeroshot.yaml", "--model.encoder.name", toy_model, "--data.root", str(root)),
        *("--data.class_names", str(root / "classes.txt"), "--data.loader.workers", "0", "--data.batch_size", "8"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.enable_progress_bar", "false"),
    ]


@pytest.fixture
def encoded(monkeypatch):
    """How many images went through the tower."""
    counts = []
    encode = VisionLanguageEncoder.encode_image

    def counted(self, images, *rest, **more):
        counts.append(len(images))
        return encode(self, images, *rest, **more)

    monkeypatch.setattr(VisionLanguageEncoder, "encode_image", counted)
    return counts


def results_in(folder):
    return json.loads((folder / "results.json").read_text())


def test_rows_are_those_of_separate_runs_and_images_are_encoded_once(flags, tmp_path, encoded, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "streams"))
    flags += ["--model.scores.running", "running_mean.RunningMean", "--evaluation.stream.batch_size", "8"]
    both = tmp_path / "both"
    assert main(["test", *flags, "--data.benchmark", "[wide, narrow]", "--run_dir", str(both)]) == 0
    assert sum(encoded) == 37 + 21 + 2 + 9
    assert not (both / "results.json").exists()
    for name in NAMES:
        alone, own = tmp_path / name, both / "benchmarks" / name
        assert main(["test", *flags, "--data.benchmark", name, "--run_dir", str(alone)]) == 0
        ours, theirs = results_in(own), results_in(alone)
        for part in ("id", "rows", "means", "overlap"):
            assert len(ours[part]) == len(theirs[part])
            for one, other in zip(ours[part], theirs[part], strict=True):
                assert one == pytest.approx(other, abs=1e-6), part
        for path in sorted((alone / "scores").glob("*.npz")):
            with np.load(path) as expected, np.load(own / "scores" / path.name) as found:
                assert set(found) == set(expected)
                for array in expected:
                    assert np.allclose(found[array], expected[array], rtol=1e-4, atol=1e-5), (path.name, array)
    sets = results_in(both / "benchmarks" / "narrow")["provenance"]["sets"]
    assert {name: of.get("part_of") for name, of in sets.items()} == {
        "id-part": "toy-test", "near-part": "toy-near", "toy-val-ood": None, "toy-far": None
    }  # fmt: skip
    assert "benchmark: narrow" in (both / "benchmarks" / "narrow" / "config.test.yaml").read_text()


def test_results_of_several_benchmarks_are_not_replaced(root, tmp_path):
    folder = tmp_path / "run"
    (folder / "benchmarks" / "wide").mkdir(parents=True)
    (folder / "benchmarks" / "wide" / "results.json").write_text("{}")
    with pytest.raises(MmoodError, match=r"holds benchmarks/wide/results.json of an earlier run"):
        refuse_earlier(folder, "test", None)
    put_aside(folder, "test", None)
    assert (folder / "previous" / "benchmarks" / "wide" / "results.json").is_file()
    refuse_earlier(folder, "test", None)


def test_settings_that_say_two_things_are_refused(root):
    plan = resolve(["wide", "narrow"], None, None, ["a"])
    assert [protocol.name for protocol in plan.protocols] == ["wide", "narrow"]
    assert resolve(["narrow"], None, None, ["a"]) == resolve("narrow", None, None, ["a"])
    for benchmark, id, ood, sentence in [
        (["wide", "wide"], None, None, "name one benchmark, or several different ones"),
        ([], None, None, "name one benchmark, or several different ones"),
        (["wide", "other"], None, None, "unknown benchmark|no benchmark"),
        (["wide", "narrow"], "own", None, "leave `data.id` unset"),
        (["wide", "narrow"], None, {"far": ["own"]}, "leave `data.ood` unset"),
    ]:
        with pytest.raises(MmoodError, match=sentence):
            resolve(benchmark, id, ood, None)


def entry(root, name, group="far"):
    index = load_index(str(root), name)
    return EvaluationSet(name, group, index, index.count, index.keys())


def views_of(root, tmp_path, *entries):
    sets = {one.name: one for one in entries}
    return find_views(sets, lambda one: image_hashes(one.index, one.keys, tmp_path / "hashes", skip=False))


def test_a_set_is_a_part_of_another_by_its_images_and_labels(root, tmp_path):
    whole, part = entry(root, "toy-test", ID_GROUP), entry(root, "id-part", ID_GROUP)
    views, notes = views_of(root, tmp_path, whole, part)
    assert not notes
    assert views["id-part"].of == "toy-test"
    files, others = part.index.rows(), whole.index.rows()
    assert [row.file for row in files] == [others[key].file for key in views["id-part"].keys]
    table = root / "id-part" / "samples.jsonl"
    lines = table.read_text().splitlines()
    document = json.loads(lines[3])
    lines[3] = json.dumps({**document, "label": (document["label"] + 1) % 3})
    table.write_text("\n".join(lines) + "\n")
    views, (note,) = views_of(root, tmp_path, whole, part)
    assert not views
    assert note == ("Not every image of 'id-part' is in 'toy-test' with the same label, so both sets are encoded.")


def test_a_set_with_other_images_is_read_itself(root, tmp_path):
    shutil.rmtree(root / "near-part")
    shutil.copytree(root / "toy-val-ood", root / "near-part")
    views, notes = views_of(root, tmp_path, entry(root, "toy-near"), entry(root, "near-part"))
    assert not views
    assert len(notes) == 1


def test_of_several_id_sets_the_one_that_holds_the_others_is_taken(root, tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    tested = OoDDataModule(root=str(root), id="toy-test").tested
    whole, part = entry(root, "toy-test", ID_GROUP), entry(root, "id-part", ID_GROUP)
    assert tested.whole({"id-part": part, "toy-test": whole}) is whole
    assert tested.whole({"id-part": part}) is part
    other = entry(root, "toy-near", ID_GROUP)
    with pytest.raises(MmoodError, match=r"several ID sets \('toy-test', 'toy-near'\), and none holds the others"):
        tested.whole({"toy-test": whole, "toy-near": other})


def test_rows_of_a_part_are_those_of_its_images():
    keys = np.array([4, 0, 2, 2])
    scores = SetScores(
        "all", ("a",), np.array([0, 2, 3]), np.array([5, 6, 7]), np.array([1, 2, 3]),
        np.array([[0.0], [2.0], [3.0]], np.float32), np.array([1, 4]),
    )  # fmt: skip
    protocol = ProtocolSets("b", {"part": None}, {"part": View("all", keys)})
    found = scores_in(protocol, {"all": scores})["part"]
    assert (found.key.tolist(), found.label.tolist(), found.predicted.tolist()) == ([1, 2, 3], [5, 6, 6], [1, 2, 2])
    assert found.scores[:, 0].tolist() == [0, 2, 2]
    assert found.skipped.tolist() == [0]
    gone = [Skipped(key, "shard", "name", "broken") for key in (1, 4)]
    assert [(name, one.key) for name, one in skipped_in(protocol, [("all", one) for one in gone])] == [("part", 0)]
    store = StoredFeatures(torch.arange(10.0).view(5, 2), torch.arange(5.0)[:, None], torch.arange(5), None)
    own = stores_in(protocol, {"all": store})["part"]
    assert own.features[:, 0].tolist() == [8, 0, 4, 4]
    assert (own.embedding[:, 0].tolist(), own.label.tolist()) == ([4, 0, 2, 2], [4, 0, 2, 2])
