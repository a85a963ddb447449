import functools
import http.server
import json
import threading

import pytest
from data_world import eval_loader, write_set

from mmood.data.catalog import Catalog
from mmood.errors import MmoodError
from mmood.loading.settings import LoaderSettings
from mmood.shards.index import MissingSetError
from mmood.shards.shard_index import load_index


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path):
    write_set(tmp_path, "id", [6, 5])
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def keys(index, workers=0, world=1):
    settings = LoaderSettings(workers=workers)
    loaders = [eval_loader(index, rank=rank, world=world, settings=settings) for rank in range(world)]
    return [key for loader in loaders for batch in loader for key in batch["key"].tolist()]


def test_http(served):
    _, url = served
    index = load_index(url, "id")
    assert keys(index) == list(range(11))
    assert sorted(keys(index, workers=2, world=2)) == list(range(11))


def test_http_errors_are_sentences(served):
    folder, url = served
    with pytest.raises(MissingSetError, match=f"There is no set 'sun': {url}/sun/index.json does not exist"):
        load_index(url, "sun")
    index = load_index(url, "id")
    (folder / "id/id-1.tar").unlink()
    with pytest.raises(MmoodError, match=f"The shard {url}/id/id-1.tar cannot be read"):
        keys(index)
    with pytest.raises(MmoodError, match="cannot be read"):
        load_index("http://127.0.0.1:9", "id")


def test_an_index_over_http_never_names_a_command(served):
    folder, url = served
    name_a_command(folder, "pipe:true")
    with pytest.raises(MmoodError, match="wants to run a command"):
        Catalog(url, pipes=True).index("id")


def name_a_command(folder, command):
    path = folder / "id/index.json"
    document = json.loads(path.read_text())
    document["shards"][1]["url"] = command
    path.write_text(json.dumps(document))


def test_commands_in_a_local_index_need_consent(tmp_path):
    write_set(tmp_path, "id", [6, 5])
    name_a_command(tmp_path, f"pipe:cat {tmp_path}/id/id-1.tar")
    with pytest.raises(MmoodError, match=r"data\.loader\.pipes"):
        Catalog(str(tmp_path), pipes=False).index("id")
    index = Catalog(str(tmp_path), pipes=True).index("id")
    assert keys(index, world=3) == list(range(11))


@pytest.mark.parametrize("template", ["pipe:cat {root}/", "pipe:cat {root}/{{}} | cat"])
def test_a_command_as_root(tmp_path, template):
    write_set(tmp_path, "id", [6, 5])
    index = load_index(template.format(root=tmp_path), "id")
    assert keys(index, world=3) == list(range(11))


def test_a_command_that_fails_names_the_shard(tmp_path):
    write_set(tmp_path, "id", [6, 5])
    name_a_command(tmp_path, f"pipe:cat {tmp_path}/id/id-1.tar; exit 3")
    index = Catalog(str(tmp_path), pipes=True).index("id")
    with pytest.raises(MmoodError, match=r"id-1\.tar; exit 3 cannot be read .*: exit 3"):
        keys(index)
