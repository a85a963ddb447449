"""The service: the detector's decisions, and a status for whatever a client may do wrong."""

import contextlib
import io
import json
import re
import signal
import socket
import struct
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
from forked import free_port, mmood
from starlette.testclient import TestClient

from mmood.cli.main import main
from mmood.detector.detector import Detector
from mmood.detector.serving import Batching, Limits, build_app
from mmood.detector.serving.app import Answer

LIMITS = Limits(bytes=100_000, pixels=60 * 60, images=3, seconds=20, requests=8)
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def client(detector):
    with TestClient(build_app(detector, LIMITS, Batching(4, 0.002, 2))) as client:
        yield client


def post(client, content, **headers):
    return client.post("/v1/detect", content=content, headers={**PNG, **headers})


def test_an_image_is_decided_as_by_the_detector(client, detector, mixed):
    answer = post(client, Path(mixed[0]).read_bytes())
    assert answer.status_code == 200
    Answer.model_validate(answer.json())  # as /openapi.json promises
    (found,), decision = answer.json()["results"], detector(mixed[0])
    assert {name: found[name] for name in ("accepted", "class", "p_value")} == {
        "accepted": decision.accepted, "class": decision.class_name, "p_value": decision.p_value,
    }  # fmt: skip
    assert found["score"] == pytest.approx(decision.score, abs=1e-5)


def test_several_images_come_back_in_order_with_the_broken_among_them(client, detector, mixed):
    paths = [mixed[0], mixed[7], mixed[1]]
    files = [("image", (Path(path).name, Path(path).read_bytes())) for path in paths]
    answer = client.post("/v1/detect", files=files).json()
    Answer.model_validate(answer)
    results = answer["results"]
    assert [result["file"] for result in results] == [Path(path).name for path in paths]
    assert [result["status"] for result in results] == ["ok", "broken", "ok"]
    assert results[1]["reason"]
    assert results[2]["score"] == pytest.approx(detector(mixed[1]).score, abs=1e-5)


def test_many_clients_at_once_get_their_own_answers(client, detector, mixed):
    whole = [path for path in mixed if detector(path).status == "ok"]
    contents = [Path(path).read_bytes() for path in whole]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda content: post(client, content), contents * 3))
    expected = [decision.score for decision in detector(whole)] * 3
    assert [answer.json()["results"][0]["score"] for answer in answers] == pytest.approx(expected, abs=1e-5)


def picture(width, height):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "headers", "status", "said"),
    [
        (b"x" * 100_001, {}, 413, "more than 100000"),
        (iter([b"x" * 60_000] * 3), {}, 413, "more than 100000 bytes"),
        (picture(61, 60), {}, 413, "61 x 60 pixels"),
        (b"{}", {"Content-Type": "application/json"}, 415, "'application/json'"),
        (b"", {}, 422, "contains no image"),
        (b"no image", {}, 422, "cannot be decoded"),
        (b"--x--", {"Content-Type": "multipart/form-data"}, 422, "Missing boundary"),
        (b"junk", {"Content-Type": "multipart/form-data; boundary=x"}, 422, ""),
    ],
)
def test_what_is_too_much_or_no_image_has_its_status(client, content, headers, status, said):
    answer = post(client, content, **headers)
    assert answer.status_code == status
    assert said in answer.json()["detail"]


def test_too_many_images_of_a_request(client, mixed):
    files = [("image", ("a.png", Path(mixed[0]).read_bytes()))] * 4
    answer = client.post("/v1/detect", files=files)
    assert (answer.status_code, answer.json()["detail"]) == (413, "The request has more than 3 images.")


class Slow:
    """A scorer that takes its time."""

    on_cpu = False

    def __init__(self, scorer, seconds):
        self.scorer, self.seconds = scorer, seconds

    def prepare(self, image):
        return self.scorer.prepare(image)

    def score(self, pixels):
        time.sleep(self.seconds)
        return self.scorer.score(pixels)


def slow(detector, seconds):
    return Detector(detector.manifest, Slow(detector.scorer, seconds), detector.embeddings)


def test_more_requests_than_fit_are_told_to_come_again(detector, mixed):
    content = Path(mixed[0]).read_bytes()
    app = build_app(slow(detector, 0.3), replace(LIMITS, requests=2), Batching(1, 0, 1))
    with TestClient(app) as client, ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(client, content), range(6)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        assert {answer.status_code for answer in answers} == {200, 429}
        assert post(client, content).status_code == 200  # places are given back


def test_an_answer_that_takes_too_long_is_503(detector, mixed):
    app = build_app(slow(detector, 0.5), replace(LIMITS, seconds=0.1), Batching(1, 0, 1))
    with TestClient(app) as client:
        answer = post(client, Path(mixed[0]).read_bytes())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_a_token_is_asked_for(detector, mixed):
    with TestClient(build_app(detector, LIMITS, Batching(), token="a secret of some length")) as client:
        content = Path(mixed[0]).read_bytes()
        assert post(client, content).status_code == 401
        assert post(client, content, Authorization="Bearer wrong").status_code == 401
        assert post(client, content, Authorization="Bearer a secret of some length").status_code == 200
        assert client.get("/metrics").status_code == client.get("/v1/detector").status_code == 401
        assert client.get("/healthz").status_code == client.get("/").status_code == 200


def test_health_metrics_and_description(client, detector, mixed):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}

    def count(name):
        return float(re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.M)[1])

    before = count('mmood_requests_total{status="200"}')
    post(client, Path(mixed[0]).read_bytes())
    assert count('mmood_requests_total{status="200"}') == before + 1
    assert count("mmood_requests_in_flight") == 0
    described = client.get("/v1/detector").json()
    assert described["threshold"] == pytest.approx(detector.calibration.threshold)
    assert described["ties"] is None
    assert sum(described["histogram_counts"]) == len(detector.calibration.scores)
    paths = client.get("/openapi.json").json()["paths"]
    assert {"413", "415", "422", "429"} <= set(paths["/v1/detect"]["post"]["responses"])
    assert json.dumps(paths).count("multipart/form-data") == 2


def test_the_page_needs_nothing_from_elsewhere(client):
    page = client.get("/")
    assert "http" not in page.text.replace("http://www.w3.org/2000/svg", "")
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "lets other machines in, so it needs --token_file"),
        (["--token_file", "{short}"], "at least 16 printable"),
        (["--max_bytes", "0"], "--max_bytes is 0"),
        (["--max_batch", "0"], "--max_batch is 0"),
    ],
)
def test_what_cannot_be_served_is_said(saved, tmp_path, capsys, arguments, said):
    (tmp_path / "short").write_text("abc\n")
    given = [argument.format(short=tmp_path / "short") for argument in arguments]
    assert main(["serve", str(saved), *given]) == 2
    assert said in capsys.readouterr().err


def test_scores_do_not_depend_on_who_shares_the_batch(client, detector, mixed):
    alone = post(client, Path(mixed[2]).read_bytes()).json()["results"][0]["score"]
    assert np.float32(alone) == pytest.approx(detector([mixed[2]] * 4)[3].score, abs=1e-5)


@pytest.fixture
def running(saved, forked):
    """The service in a process of its own, and its port."""
    port = free_port()
    process = forked.start(mmood, ["serve", str(saved), "--port", str(port), "--device", "cpu"])
    for _ in range(600):
        with contextlib.suppress(OSError):
            assert json.loads(fetched(port, "/readyz")) == {"status": "ready"}
            break
        time.sleep(0.1)
    return process, port


def fetched(port, path, content=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", content, PNG)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


def test_clients_that_are_killed_leave_nothing_behind(running, mixed):
    _, port = running
    content = Path(mixed[0]).read_bytes()
    head = f"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(content)}\r\n\r\n"
    for number in range(140):  # more than may be in flight; every second one is killed before it has sent all
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head.encode() + content[: len(content) // (1 + number % 2)])
            # What the system does for a process that is killed: the connection is reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for _ in range(100):
        metrics = fetched(port, "/metrics")
        if "mmood_requests_in_flight 0.0" in metrics:
            break
        time.sleep(0.05)
    else:
        raise AssertionError(metrics)
    assert 'mmood_requests_total{status="499"}' in metrics
    assert 'status="500"' not in metrics
    assert json.loads(fetched(port, "/v1/detect", content))["results"][0]["status"] == "ok"


def test_a_signal_ends_the_service_with_code_0(running):
    process, _ = running
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert process.err == ""
