import pytest
from archive_world import World
from file_server import FileServer

from mmood.shards import http


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A server of archives, and what prepares them."""
    monkeypatch.setattr(http, "PAUSES", (0.01, 0.02, 0.04))
    (tmp_path / "www").mkdir()
    with FileServer(tmp_path / "www") as server:
        yield World(tmp_path, server)
