"""Shards behind URLs without an index: counted once, then read like any set."""

import functools
import http.server
import json
import shutil
import threading

import pytest
from data_world import eval_loader, png, tar_bytes

from mmood.errors import MmoodError
from mmood.sets.finding import Classing, find_set
from mmood.sets.places import place_of
from mmood.sets.remote import expanded


class Counting(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "web"
    folder.mkdir()
    for shard in range(3):
        members = []
        for number in range(4 * shard, 4 * shard + 4):
            name = ("cat", "dog")[number % 2]
            members += [(f"{number:03}.png", png(number)), (f"{number:03}.json", json.dumps({"label": name}).encode())]
        (folder / f"pets-{shard:04}.tar").write_bytes(tar_bytes(members))
    handler = functools.partial(Counting, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", server.asked, folder
        server.shutdown()
        thread.join()


def labels(index):
    batches = eval_loader(index, classes=index.classes)
    return {int(key): int(label) for batch in batches for key, label in zip(batch["key"], batch["label"], strict=True)}


def test_shards_in_braces_are_indexed_once_and_read(served, tmp_path, monkeypatch):
    url, asked, folder = served
    setting = f"{url}/pets-{{0000..0002}}.tar"
    index = find_set("data", setting)
    assert (index.name, index.count, index.classes, index.known_names) == ("pets", 12, 2, ("cat", "dog"))
    assert asked == [f"/pets-{shard:04}.tar" for shard in range(3)]
    assert labels(index) == {key: key % 2 for key in range(12)}
    asked.clear()
    again = find_set("data", f"other=shards:{setting}")
    assert (again.name, again.hash) == ("other", index.hash)
    asked.clear()
    assert find_set("data", setting) == index
    assert not asked
    by_names = find_set("data", setting, classing=Classing(("dog", "cat"), needed=True))
    assert labels(by_names) == {key: 1 - key % 2 for key in range(12)}
    hub = folder / "datasets" / "a" / "b" / "resolve" / "main"
    hub.mkdir(parents=True)
    shutil.copy(folder / "pets-0001.tar", hub / "x-1.tar")
    monkeypatch.setenv("HF_ENDPOINT", url)
    assert find_set("data", "hf://datasets/a/b/x-{1,1}.tar").count == 8


def test_lists_of_shards_that_are_none_are_refused(served):
    url, _, _ = served
    assert place_of("shards:https://host/train-{0..3}.tar.gz").name == "train"
    for setting, sentence in {
        f"{url}/pets-{{0000..0002.tar": "braces that do not pair",
        "shards:/data/x-{0..3}.tar": "not http",
        f"{url}/none-{{0..1}}.tar": "none-0.tar cannot be read",
        f"x={url}/{{0..9999999}}": "are more than",
        "hf://models/a/b/c.tar": "must be hf://datasets/OWNER/NAME/FILE",
    }.items():
        with pytest.raises(MmoodError, match=sentence):
            find_set("data", setting)
    assert expanded("http://host/a.tar") == ["http://host/a.tar"]
