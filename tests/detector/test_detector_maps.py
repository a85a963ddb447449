"""Where in a picture the score comes from: the patches of the score itself, in Python, as a graph and over HTTP."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmood.detector.backends.from_module import from_module
from mmood.detector.building.export import TOLERANCES, export_detector
from mmood.detector.detector import Detector
from mmood.encoders import EncoderSettings
from mmood.errors import ImageError, MmoodError
from mmood.modules.zero_shot import ZeroShot
from mmood.scores import GLMCM, LMCM

NAMES = ["red square", "green square", "blue square"]


@pytest.fixture(scope="module")
def local(toy_model, id_folder):
    return Detector.from_names(NAMES, toy_model, LMCM(0.01), device="cpu").calibrated(id_folder, id_recall=0.8)


def test_the_score_is_that_of_the_best_patch(local, mixed):
    scored = local.scorer.score(np.stack([local.prepared(path) for path in mixed[:3]]))
    assert scored.patches.shape == (3, 4, 4)
    assert scored.patches.max(axis=(1, 2)) == pytest.approx(scored.scores, abs=1e-5)


def test_a_map_lies_on_the_picture(local, mixed):
    with Image.open(mixed[0]) as picture:
        size = picture.size
    assert local.has_map
    assert local.patch_map(mixed[0]).size == size
    assert local.patch_map(Image.new("RGB", (3000, 1500))).size == (1024, 512)
    with pytest.raises(ImageError):
        local.patch_map(mixed[7])


def test_saved_and_exported_it_has_the_same_map(local, id_folder, mixed, tmp_path):
    pytest.importorskip("onnxruntime")
    local.save(tmp_path / "torch")
    export_detector(local, tmp_path / "onnx", sorted(id_folder.rglob("*.png"))[:4], "float32", TOLERANCES["float32"])
    expected = np.asarray(local.patch_map(mixed[0])).astype(int)
    for folder in ("torch", "onnx"):
        found = Detector.load(tmp_path / folder, "cpu")
        assert found.manifest.patch_range == local.manifest.patch_range
        assert np.abs(np.asarray(found.patch_map(mixed[0])).astype(int) - expected).max() <= 1


def test_the_kind_of_patches_is_kept(toy_model, id_folder, mixed, tmp_path):
    module = ZeroShot(EncoderSettings(toy_model, patches="tokens"), NAMES, {"gl_mcm": GLMCM(0.01)}).eval()
    module.fit_scores()
    detector = Detector(*from_module(module, "gl_mcm")).calibrated(id_folder, id_recall=0.8)
    detector.save(tmp_path / "det")
    loaded = Detector.load(tmp_path / "det", "cpu")
    assert loaded.manifest.encoder.patches == "tokens"
    assert loaded(mixed[0]).score == pytest.approx(detector(mixed[0]).score, abs=1e-5)
    document = json.loads((tmp_path / "det/detector.json").read_text())
    (tmp_path / "det/detector.json").write_text(json.dumps({**document, "patch_range": [1, 0]}))
    with pytest.raises(MmoodError, match=r"has patch_range \[1.0, 0.0\]"):
        Detector.load(tmp_path / "det")


def test_the_service_draws_it(local, detector, mixed):
    pytest.importorskip("fastapi")
    from starlette.testclient import TestClient

    from mmood.detector.serving import Batching, Limits, build_app

    content, headers = Path(mixed[0]).read_bytes(), {"Content-Type": "image/png"}
    with TestClient(build_app(local, Limits(pixels=60 * 60), Batching())) as client:
        assert client.get("/v1/detector").json()["has_map"]
        answer = client.post("/v1/map", content=content, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        with Image.open(io.BytesIO(answer.content)) as drawn:
            assert np.array_equal(np.asarray(drawn), np.asarray(local.patch_map(content)))
        assert client.post("/v1/map", content=b"none", headers=headers).status_code == 422
        large = io.BytesIO()
        Image.new("RGB", (61, 60)).save(large, "PNG")
        assert client.post("/v1/map", content=large.getvalue(), headers=headers).status_code == 413
    with TestClient(build_app(detector, Limits(), Batching())) as client:
        answer = client.post("/v1/map", content=content, headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (404, "The score 'mcm' of this detector has no map.")


def test_a_score_without_a_map_says_so(detector, mixed):
    assert not detector.has_map
    with pytest.raises(MmoodError, match="has no map; GLMCM, LMCM and scores of pixels have one"):
        detector.patch_map(mixed[0])
