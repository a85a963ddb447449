"""A server of archives in the layouts in which sets are published, recipes for them, and a root to prepare them in."""

import hashlib
import io
import json
import tarfile
import zipfile

import numpy as np
from PIL import Image

from mmood.cli.main import main
from mmood.shards.shard_index import load_index

COUNT = 12
CLASSES = ("red", "green", "blue")


def image(number):
    pixels = np.random.default_rng(number).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = [image(number) for number in range(2 * COUNT)]


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def tarred(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def in_class_folders(prefix):
    return {f"{prefix}{CLASSES[n % 3]}/{n:04d}.png": IMAGES[n] for n in range(COUNT)}


def listed(prefix, labels=False):
    return "".join(f"{prefix}{CLASSES[n % 3]}/{n:04d}.png {n % 3 if labels else -1}\n" for n in range(COUNT)).encode()


class World:
    def __init__(self, folder, server):
        self.folder, self.server, self.root = folder, server, folder / "data"

    def serve(self, name, content):
        (self.folder / "www" / name).write_bytes(content)
        return f"{self.server.url}/{name}"

    def recipe(self, name="own", **keys):
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps({"name": name, **keys}))  # JSON is YAML
        return str(path)

    def prepare(self, *flags):
        return main(["prepare", "--root", str(self.root), "--quiet", *flags])

    def samples(self, name="own"):
        index = load_index(str(self.root), name)
        return index, list(index.read(index.keys(), skip=False))

    def left(self):
        folder = self.root / ".prepare"
        return sorted(path.name for path in folder.rglob("*"))


def pinned(content):
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


ZIP = zipped({"__MACOSX/x/._0001.png": b"no", "own/readme.txt": b"hello", **in_class_folders("own/")})
