"""The detector as a graph: the same decisions, and no torch."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from mmood.cli.main import main
from mmood.detector.building.export import TOLERANCES, Tolerance, export_detector
from mmood.detector.detector import Detector
from mmood.errors import MmoodError
from mmood.scores import GLMCM, NegLabel

pytest.importorskip("onnxruntime")

WITHOUT_TORCH = """
import sys
from mmood.detector.detector import Detector
decision = Detector.load(sys.argv[1])(sys.argv[2])
heavy = {"torch", "lightning", "open_clip", "torchvision", "timm", "scipy"} & set(sys.modules)
print(decision.accepted, decision.score, sorted(heavy))
"""


@pytest.fixture(scope="module")
def exported(detector, id_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    difference = export_detector(detector, folder, sorted(id_folder.rglob("*.png")), "float32", TOLERANCES["float32"])
    assert difference.images == 48
    assert difference.decisions == 0
    return folder


def test_decisions_are_those_of_torch_for_any_number_of_images(detector, exported, mixed):
    other = Detector.load(exported)
    for size in (1, 5, 32):
        for mine, theirs in zip(detector(mixed, size), other(mixed, size), strict=True):
            assert (mine.status, mine.accepted, mine.class_name) == (theirs.status, theirs.accepted, theirs.class_name)
            if mine.status == "ok":
                assert theirs.score == pytest.approx(mine.score, abs=1e-4)
                assert theirs.probability == pytest.approx(mine.probability, abs=1e-4)
    assert np.array_equal(other.embeddings.mean, detector.embeddings.mean)


def test_a_score_on_patches_has_a_graph(toy_model, id_folder, mixed, tmp_path):
    """The value path of a ViT: its last block twice, once with each token alone."""
    detector = Detector.from_names(["red square", "green square"], toy_model, GLMCM(local_weight=0.5), device="cpu")
    detector = detector.calibrated(id_folder, id_recall=0.8)
    difference = export_detector(detector, tmp_path / "onnx", mixed[:7], "float32", TOLERANCES["float32"])
    assert difference.images == 7
    exported = Detector.load(tmp_path / "onnx")
    assert exported(mixed[0]).score == pytest.approx(detector(mixed[0]).score, abs=1e-4)


def test_a_score_with_negative_labels_has_a_graph_that_names_the_nearest(toy_model, id_folder, mixed, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("\n".join(f"word {number}" for number in range(1000)) + "\n")  # few would be folded away
    score = NegLabel(negatives=str(words), groups=5)
    detector = Detector.from_names(["red square", "green square"], toy_model, score, device="cpu")
    detector.calibrated(id_folder, id_recall=0.8).save(tmp_path / "det")
    detector = Detector.load(tmp_path / "det", "cpu")
    export_detector(detector, tmp_path / "onnx", mixed[:7], "float32", TOLERANCES["float32"])
    exported = Detector.load(tmp_path / "onnx")
    for mine, theirs in zip(detector(mixed[:7]), exported(mixed[:7]), strict=True):
        assert theirs.score == pytest.approx(mine.score, abs=1e-3)
        assert theirs.negative_label == mine.negative_label
        assert mine.negative_label.startswith("word ")


def test_it_runs_without_torch(detector, exported, mixed):
    command = [sys.executable, "-c", WITHOUT_TORCH, str(exported), mixed[0]]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.split()
    assert said[0] == str(detector(mixed[0]).accepted)
    assert float(said[1]) == pytest.approx(detector(mixed[0]).score, abs=1e-4)
    assert said[2] == "[]"


def test_the_command_checks_on_the_calibration_set_or_other_images(saved, mixed, tmp_path, capsys):
    assert main(["export", str(saved), "--out", str(tmp_path / "a")]) == 2
    assert "give images with --images" in capsys.readouterr().err
    assert main(["export", str(saved), "--out", str(tmp_path / "a"), "--images", mixed[0], mixed[1]]) == 0
    assert "Over 2 images, scores differ by up to" in capsys.readouterr().out
    assert main(["detect", str(tmp_path / "a"), mixed[0], "--out", str(tmp_path / "d.csv")]) == 0


def test_quantised_weights_are_for_those_who_ask(detector, exported, mixed, tmp_path):
    difference = export_detector(detector, tmp_path / "int8", mixed[:7], "int8", Tolerance(10, 1))
    assert difference.score > 0
    sizes = [(folder / "model.onnx").stat().st_size for folder in (tmp_path / "int8", exported)]
    assert sizes[0] < sizes[1]
    with pytest.raises(MmoodError, match="not the same: over 7 images its scores differ"):
        export_detector(detector, tmp_path / "strict", mixed[:7], "int8", Tolerance(1e-6, 0))
    assert not list((tmp_path / "strict").iterdir())


def test_a_graph_that_is_none_is_refused(exported, tmp_path):
    import json
    import shutil

    from mmood.detector.manifest import FileRecord

    folder = tmp_path / "broken"
    shutil.copytree(exported, folder)
    (folder / "model.onnx").write_bytes(b"no graph")
    document = json.loads((folder / "detector.json").read_text())
    document["files"]["model.onnx"] = vars(FileRecord.of(folder / "model.onnx"))
    (folder / "detector.json").write_text(json.dumps(document))
    with pytest.raises(MmoodError, match="is not the graph of a detector"):
        Detector.load(folder)


def test_a_score_without_a_graph_is_named(toy_model, id_folder, tmp_path):
    from mmood.scores import MaxLogit

    class Odd(MaxLogit):
        """A score that looks at the values of its batch, as no graph can."""

        def forward(self, embedded):
            return super().forward(embedded) * (1.0 if float(embedded.logits.sum()) > 1e9 else 2.0)

    odd = Detector.from_names(["a", "b"], toy_model, Odd(), device="cpu").calibrated(id_folder)
    with pytest.raises(MmoodError, match=r"Odd over 'local-dir:.*' has no ONNX graph"):
        export_detector(odd, tmp_path / "odd", [], "float32", TOLERANCES["float32"])
    assert torch.is_grad_enabled()
