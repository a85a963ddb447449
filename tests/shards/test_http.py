"""Http(s) as it is: servers that are busy, silent, or break off."""

import hashlib
import http.server

import pytest
from data_world import eval_loader, write_set
from file_server import FileServer

from mmood.errors import MmoodError
from mmood.loading.settings import LoaderSettings
from mmood.shards import http as own
from mmood.shards.http import HttpStream
from mmood.shards.locations import open_stream, read_bytes
from mmood.shards.shard_index import load_index

CONTENT = bytes(range(256)) * 20_000  # 5 MB: more than a socket takes at once


@pytest.fixture
def server(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(CONTENT)
    monkeypatch.setattr(own, "PAUSES", (0.01, 0.02, 0.04))
    with FileServer(tmp_path) as server:
        yield server


def keys(index):
    return [key for batch in eval_loader(index, settings=LoaderSettings(workers=0)) for key in batch["key"].tolist()]


def test_a_busy_server_is_asked_again_after_growing_pauses(server, monkeypatch):
    slept = []
    monkeypatch.setattr(own.time, "sleep", slept.append)
    server.faults = [503, 503]
    assert read_bytes(f"{server.url}/file") == CONTENT
    assert slept == [0.01, 0.02]
    assert len(server.seen) == 3


def test_a_server_that_stays_busy_is_given_up(server):
    server.faults = [503] * 9
    with pytest.raises(OSError, match="the server answered 503 Service Unavailable, tried 4 times"):
        read_bytes(f"{server.url}/file")
    assert len(server.seen) == 4


def test_what_will_not_pass_is_not_tried_again(server):
    server.faults = [403]
    with pytest.raises(OSError, match=r"the server answered 403 Forbidden$"):
        read_bytes(f"{server.url}/file")
    assert len(server.seen) == 1


def test_a_server_that_never_answers_is_named(server, tmp_path, monkeypatch):
    write_set(tmp_path, "id", [6])
    monkeypatch.setattr(own, "TIMEOUT", 0.1)
    server.faults = ["silent"] * 9
    with pytest.raises(MmoodError, match=f"index {server.url}/id/index.json .* no answer within 0.1 s, tried 4 times"):
        load_index(server.url, "id")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_that_breaks_off_goes_on(server, ranges):
    server.ranges = ranges
    server.faults = ["break", "break"] if ranges else ["break"]
    with open_stream(f"{server.url}/file") as stream:
        content = stream.read()
    assert hashlib.sha256(content).digest() == hashlib.sha256(CONTENT).digest()
    assert "Range" not in server.seen[0]
    assert server.seen[1]["Range"] == f"bytes={len(CONTENT) // 2}-"
    assert server.seen[1]["If-Range"] == '"1"'


def test_two_versions_of_a_file_are_not_joined(server):
    server.faults = ["break"]
    stream = open_stream(f"{server.url}/file")
    stream.read(10)
    server.tag = '"2"'
    with pytest.raises(OSError, match="changed while it was read"):
        stream.read()


def test_progress_counts_the_tries_anew(server, monkeypatch):
    monkeypatch.setattr(own, "PROGRESS", 1000)
    server.faults = ["break"] * 10
    with open_stream(f"{server.url}/file") as stream:
        assert stream.read() == CONTENT
    assert len(server.seen) == 11


def test_a_shard_that_breaks_off_is_read_whole(server, tmp_path):
    write_set(tmp_path, "id", [6, 5])
    index = load_index(server.url, "id")
    server.faults = [503, "break", "break", None, 500, "break"]
    assert keys(index) == list(range(11))


def test_a_shard_that_goes_on_breaking_off_is_named(server, tmp_path):
    write_set(tmp_path, "id", [6, 5])
    index = load_index(server.url, "id")
    server.faults = ["break"] * 40
    with pytest.raises(MmoodError, match=r"id-0\.tar cannot be read after . of 6 samples: the connection was lost"):
        keys(index)


def test_a_redirection_leads_to_no_file(server, tmp_path):
    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", (tmp_path / "file").as_uri())
            self.end_headers()

    server.RequestHandlerClass = Elsewhere
    with pytest.raises(OSError, match="302"):
        read_bytes(f"{server.url}/x")


def test_odd_urls_are_errors_of_reading(monkeypatch):
    monkeypatch.setattr(own, "PAUSES", (0.01,))
    for url in ("http://[::1", "http://", "http://127.0.0.1:x/", "http://127.0.0.1:9/\N{SNOWMAN} x"):
        with pytest.raises(OSError, match=r"\w"):
            HttpStream(url)


def test_a_small_file_has_a_limit(server):
    with pytest.raises(OSError, match="more than 1000 bytes"):
        read_bytes(f"{server.url}/file", limit=1000)
    assert read_bytes(f"{server.url}/file", limit=len(CONTENT)) == CONTENT
