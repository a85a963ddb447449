"""The images of table_prompts.py: the drawn ones as a set of their own, and everything under the frozen image towers."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmood.encoders import AbstractEncoder, EncoderSettings, build_encoder
from mmood.encoders.transforms import eval_transform, train_transform
from mmood.features.views import Crops
from mmood.loading.few_shot import few_shot
from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.settings import LoaderSettings
from mmood.loading.train import seeded
from mmood.modules.reference import ModelReference
from mmood.scores import NegLabel
from mmood.shards.indexing import index_folder
from mmood.shards.shard_index import load_index
from mmood.words.corpus import CorpusSettings, load_corpus
from mmood.words.miner import NegativeMiner

MODELS = ("liteclip", "miniclip")
SETS = {"id": "id-test", "near": "near-ood", "far": "far-textures"}
SHOTS = (1, 4, 16)
SEEDS = (0, 1, 2)
VIEWS = 8
"""Augmentations of each image; an epoch trains on one of them."""
AREA = (0.5, 1.0)
"""Share of an image in a crop: the papers' 0.08 leaves 18 of 64 pixels. Local-Prompt's crops keep it."""
LOCAL_CROPS = 16
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")


class Images:
    """The images below one folder.

    Args:
        work: where everything goes.
        tiny: whether only to try it out.
    """

    def __init__(self, work: Path, tiny: bool) -> None:
        self.work = work
        self.tiny = tiny
        self.seeds = SEEDS[:1] if tiny else SEEDS
        self.views = 2 if tiny else VIEWS

    def prepare(self, real: Path) -> None:
        """Copy models and test sets, take the drawn images of the training set, write the words of WordNet."""
        data = self.work / "data"
        if not (self.work / "draws.json").exists():
            for model in MODELS:
                shutil.copytree(real / "models" / model, self.work / "models" / model, dirs_exist_ok=True)
            for name in SETS.values():
                shutil.copytree(real / "data" / name, data / name, dirs_exist_ok=True)
                if not (data / name / "index.json").exists():
                    index_folder(data / name, (), "", lambda read: None)
            shutil.copy(real / "data" / "id-classes.txt", data / "id-classes.txt")
            self._pool(real / "data" / "id-train", data / "pool")
            corpus = load_corpus(CorpusSettings())
            for kind, words in (("nouns", corpus.nouns), ("adjectives", corpus.adjectives)):
                (self.work / f"{kind}.txt").write_text("\n".join(words) + "\n")

    def _pool(self, train: Path, pool: Path) -> None:
        """Write the images that some seed draws as a set of their own, and for each draw its keys there."""
        samples = list(_samples(train))
        labels = torch.tensor([label for _, label in samples])
        drawn = {(seed, shots): few_shot(labels, shots, seed).tolist() for seed in SEEDS for shots in SHOTS}
        kept = sorted({key for keys in drawn.values() for key in keys})
        place = {key: number for number, key in enumerate(kept)}
        pool.mkdir(parents=True, exist_ok=True)
        with tarfile.open(pool / "pool-0.tar", "w") as tar:
            for number, key in enumerate(kept):
                picture, label = samples[key]
                for suffix, content in (("jpg", picture), ("cls", str(label).encode())):
                    _add(tar, f"{number:06}.{suffix}", content)
        index_folder(pool, (), "", lambda read: None)
        draws = {f"{seed}-{shots}": [place[key] for key in keys] for (seed, shots), keys in drawn.items()}
        (self.work / "draws.json").write_text(json.dumps(draws))

    def encode(self, model: str) -> None:
        """Encode the test sets, the pool, and the views of each draw, unless they are there."""
        encoder = build_encoder(self.settings(model)).to(DEVICE).eval()
        plain = Crops(eval_transform(encoder.preprocessing), 1)
        for name in (*SETS.values(), "pool"):
            limit = 200 if self.tiny and name != "pool" else None
            self._encoded(model, name, encoder, name, plain, None, limit)
        for seed in self.seeds:
            keys = np.array(self.draw(seed, 4 if self.tiny else 16))
            views = Crops(train_transform(encoder.preprocessing, AREA, flip=True), self.views)
            self._encoded(model, f"views-{seed}", encoder, "pool", views, keys, None, seed)
            crops = Crops(train_transform(encoder.preprocessing, (0.08, 1.0), flip=True), LOCAL_CROPS)
            self._encoded(model, f"crops-{seed}", encoder, "pool", crops, keys, None, seed)
        # Mined here, so that no two processes do it.
        os.environ["MMOOD_CACHE"] = str(self.work / "cache")
        NegLabel(mining=self.mining()).fit(ModelReference(encoder, self.class_names(), ["a photo of a {}"]))

    @torch.no_grad()
    def _encoded(
        self, model: str, name: str, encoder: AbstractEncoder, source: str, transform: Crops, keys: np.ndarray | None,
        limit: int | None, seed: int = 0,
    ) -> None:  # fmt: skip
        path = self.work / "outputs" / model / f"{name}.safetensors"
        if path.exists():
            return
        index = load_index(str(self.work / "data"), source)
        wanted = np.sort(index.keys() if keys is None else keys)[:limit]
        workers = 0 if self.tiny else min(14, os.cpu_count() or 1)
        with seeded(seed):
            loader = EvalLoader(
                index, wanted, Decoder(transform, index.classes), 64, LoaderSettings(workers, seed=seed)
            )
            found: dict[str, list[Tensor]] = {}
            for batch in loader:
                images = batch["image"]
                encoded = encoder.encode_image(images.flatten(0, 1).to(DEVICE), patches=True)
                kept = {"features": encoded.features, "embedding": encoded.embedding, "patches": encoded.patches}
                for kind, tensor in kept.items():
                    shaped = tensor.half().cpu().reshape(*images.shape[:2], *tensor.shape[1:])
                    found.setdefault(kind, []).append(shaped[:, 0] if transform.count == 1 else shaped)
                found.setdefault("label", []).append(batch["label"].clone())
                found.setdefault("key", []).append(batch["key"].clone())
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({kind: torch.cat(parts) for kind, parts in found.items()}, path)

    def outputs(self, model: str, name: str) -> dict[str, Tensor]:
        """Return features, embeddings, patches, labels and keys of a set, or of the views of a draw."""
        found = load_file(self.work / "outputs" / model / f"{name}.safetensors")
        # The workers of a loader take turns, so the rows of a file are in no order of their keys.
        order = found["key"].argsort()
        return {kind: tensor[order] for kind, tensor in found.items()}

    def draw(self, seed: int, shots: int) -> list[int]:
        """Return the keys of a draw in the pool."""
        return json.loads((self.work / "draws.json").read_text())[f"{seed}-{shots}"]

    def settings(self, model: str) -> EncoderSettings:
        """Return what names a model."""
        return EncoderSettings(f"local-dir:{self.work / 'models' / model}")

    def class_names(self) -> list[str]:
        """Return the ID classes."""
        return (self.work / "data" / "id-classes.txt").read_text().splitlines()

    def corpus(self) -> CorpusSettings:
        """Return the words of WordNet, as `prepare` wrote them."""
        return CorpusSettings(nouns=(str(self.work / "nouns.txt"),), adjectives=(str(self.work / "adjectives.txt"),))

    def mining(self) -> NegativeMiner:
        """Return how negative labels are mined."""
        return NegativeMiner(corpus=self.corpus(), count=10_000)


def _samples(folder: Path) -> Iterator[tuple[bytes, int]]:
    """Yield image and class of the samples of a set, in the order of its keys."""
    picture, label = b"", -1
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                content = tar.extractfile(member).read()
                if member.name.endswith(".jpg"):
                    picture = content
                elif member.name.endswith(".cls"):
                    label = int(content)
                    yield picture, label


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
