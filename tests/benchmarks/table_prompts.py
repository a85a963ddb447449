"""What do learned prompts gain here, and under which score? A table on real images: shots x seeds x methods x scores.

Nothing is chosen on a test set: settings are those of the papers, or scaled by a rule that is named below. Image towers are
frozen, so images are encoded once: the test sets, and a few augmented views of every image that is drawn. Prompts are then
trained by `PromptLearning` itself, in several processes. A result that is there is not computed again, so the script can
be stopped, and its steps can run on different machines.

    MMOOD_REAL_DATA=... python tests/benchmarks/table_prompts.py --work DIR [--only prepare encode train page]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from prompts_page import write_page
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from mmood.encoders import EncoderSettings, build_encoder
from mmood.encoders.transforms import eval_transform, train_transform
from mmood.encoders.vision_language import with_texts
from mmood.features.loader import FeatureTrainLoader
from mmood.features.views import Crops, StoredViews
from mmood.loading.few_shot import few_shot
from mmood.loading.loader import Decoder, EvalLoader
from mmood.loading.settings import LoaderSettings
from mmood.loading.train import seeded
from mmood.metrics.functional import accuracy, ood_metrics
from mmood.modules import LinearProbe
from mmood.modules.probes.training import ProbeSettings, training_rows
from mmood.modules.prompt_learning import SCT, SUPREME, CoOp, LocalPrompt, LoCoOp, NegPrompt, PromptLearning
from mmood.modules.prompt_learning.context import ContextSettings
from mmood.modules.prompt_learning.module import FewShotSettings
from mmood.modules.reference import ModelReference
from mmood.prompts import save_prompts
from mmood.scores import GLMCM, GMP, MCM, MMP, TINS, COOkeD, LocalPromptScore, NegLabel, NegPromptScore
from mmood.scores.base import AbstractScore, Bank, Embedded, Reference
from mmood.scores.test_time.class_images import ClassImages
from mmood.shards.indexing import index_folder
from mmood.shards.shard_index import load_index
from mmood.words.corpus import CorpusSettings, load_corpus
from mmood.words.miner import INTERNEG, NegativeMiner

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


@dataclass(frozen=True)
class Learner:
    """A prompt learner with its paper's recipe.

    Attributes:
        method: makes the method, given the folder of CoOp's prompts.
        epochs: of training.
        batch_size: images per step.
        rate: of SGD.
        score: the score of its paper, if it is none of the shared ones.
    """

    method: object
    epochs: int = 50
    batch_size: int = 32
    rate: float = 0.002
    score: AbstractScore | None = None


LOCAL = ContextSettings(class_specific=True)
LEARNERS = {
    "CoOp": Learner(lambda first: CoOp()),
    "LoCoOp": Learner(lambda first: LoCoOp()),
    "SCT": Learner(lambda first: SCT(), epochs=25),
    # Of 25 or 4 patches the paper's 50 of 196 are a quarter; 300 negatives for 1,000 classes are 30 for 100.
    "Local-Prompt": Learner(
        lambda first: LocalPrompt(LOCAL, negatives=30, top_k=6), epochs=30, batch_size=256, score=LocalPromptScore()
    ),
    "NegPrompt": Learner(
        lambda first: NegPrompt(positive=str(first)), epochs=100, batch_size=64, rate=0.1, score=NegPromptScore()
    ),
    "SUPREME": Learner(lambda first: SUPREME(), score=GMP()),
}
TRAINING_FREE = ("ZeroShot", "MMP", "COOkeD", "TINS")


def main() -> None:
    """Run the steps that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for data, outputs and results")
    parser.add_argument("--only", nargs="*", default=["prepare", "encode", "train", "page"])
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="one epoch, one seed, few images: does it run?")
    options = parser.parse_args()
    table = Table(options.work.resolve(), options.tiny)
    start = time.perf_counter()
    if "prepare" in options.only:
        table.prepare(Path(os.environ["MMOOD_REAL_DATA"]))
    for model in options.models:
        if "encode" in options.only:
            table.encode(model)
        print(f"{model}: encoded after {time.perf_counter() - start:.0f} s", flush=True)
    if "train" in options.only:
        tasks = table.tasks(options.models)
        with multiprocessing.get_context("spawn").Pool(options.processes, maxtasksperchild=None) as pool:
            for number, name in enumerate(pool.imap_unordered(table.run, tasks), 1):
                print(f"{number}/{len(tasks)} {name} after {time.perf_counter() - start:.0f} s", flush=True)
    if "page" in options.only:
        write_page(options.work.resolve())


class Table:
    """The table below one folder.

    Args:
        work: where everything goes.
        tiny: whether only to try it out.
    """

    def __init__(self, work: Path, tiny: bool) -> None:
        self.work = work
        self.tiny = tiny
        self.shots = SHOTS[1:2] if tiny else SHOTS
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
        encoder = build_encoder(self._settings(model)).to(DEVICE).eval()
        plain = Crops(eval_transform(encoder.preprocessing), 1)
        for name in (*SETS.values(), "pool"):
            limit = 200 if self.tiny and name != "pool" else None
            self._encoded(model, name, encoder, name, plain, None, limit)
        for seed in self.seeds:
            keys = np.array(self._draw(seed, 4 if self.tiny else 16))
            views = Crops(train_transform(encoder.preprocessing, AREA, flip=True), self.views)
            self._encoded(model, f"views-{seed}", encoder, "pool", views, keys, None, seed)
            crops = Crops(train_transform(encoder.preprocessing, (0.08, 1.0), flip=True), LOCAL_CROPS)
            self._encoded(model, f"crops-{seed}", encoder, "pool", crops, keys, None, seed)
        # Mined here, so that no two processes do it.
        os.environ["MMOOD_CACHE"] = str(self.work / "cache")
        NegLabel(mining=self._mining()).fit(ModelReference(encoder, self._class_names(), ["a photo of a {}"]))

    def tasks(self, models: list[str]) -> list[tuple[str, str, int, int]]:
        """Return (model, method, shots, seed) of what is not there, the longest first."""
        wanted = [("CoOp", shots, seed) for shots in self.shots[::-1] for seed in self.seeds]
        wanted += [
            (name, shots, seed)
            for shots in self.shots[::-1]
            for name in (*LEARNERS, *TRAINING_FREE[1:])
            for seed in self.seeds
            if name not in ("CoOp", "NegPrompt")
        ]
        wanted.append(("ZeroShot", 0, 0))
        found = [(model, name, shots, seed) for name, shots, seed in wanted for model in models]
        return [task for task in found if not self._result(*task).exists()]

    def run(self, task: tuple[str, str, int, int]) -> str:
        """Compute the results of a task and write them; return its name."""
        torch.set_num_threads(1)
        model, name, shots, seed = task
        os.environ["MMOOD_CACHE"] = str(self.work / "cache")
        if name in LEARNERS:
            self._learn(model, name, shots, seed)
            if name == "CoOp":  # whose prompts are the first stage of NegPrompt
                self._learn(model, "NegPrompt", shots, seed)
        else:
            self._train_nothing(model, name, shots, seed)
        return "-".join(map(str, task))

    def _learn(self, model: str, name: str, shots: int, seed: int) -> None:
        learner, first = LEARNERS[name], self.work / "prompts" / f"{model}-{shots}-{seed}"
        module = PromptLearning(
            self._settings(model),
            self._class_names(),
            {"mcm": MCM()},
            learner.method(first),
            FewShotSettings(learner.batch_size, shots, seed),
            optimizer=lambda parameters: torch.optim.SGD(
                parameters, lr=learner.rate, momentum=0.9, weight_decay=0 if name == "SUPREME" else 5e-4
            ),
        )
        if module.method.reads_support:
            pool, keys = self._outputs(model, "pool"), self._draw(seed, shots)
            module.method.learn_support(pool["embedding"][keys].float(), pool["label"][keys])
            type(module.method).reads_support = False
        begun, rows = time.perf_counter(), self._rows(model, name, shots, seed, learner.batch_size)
        trainer = self._trainer(1 if self.tiny else learner.epochs)
        trainer.fit(module, FeatureTrainLoader(rows, seed))
        seconds = time.perf_counter() - begun
        module.to(DEVICE).eval()
        with torch.no_grad():
            reference = module.reference()
        if name == "CoOp":
            save_prompts(module.learned_prompts(), first)
        found = self._evaluate(model, reference, learner.score, name)
        self._write(model, name, shots, seed, {**found, "seconds": seconds, "steps": trainer.global_step})

    def _train_nothing(self, model: str, name: str, shots: int, seed: int) -> None:
        encoder = build_encoder(self._settings(model)).to(DEVICE).eval()
        scale = float(with_texts(encoder).logit_scale)
        provider = None if name == "ZeroShot" else Shots(self._outputs(model, "pool"), self._draw(seed, shots))
        heads = self._heads(model, shots, seed) if name == "COOkeD" else ()
        names = self._class_names()
        reference = ModelReference(encoder, names, ["a photo of a {}"], heads, provider)  # type: ignore[arg-type]
        images, temperature = ClassImages(shots=max(1, shots)), 1 / scale
        if name == "TINS":
            mining = replace(INTERNEG, corpus=self._corpus())
            tins = TINS(temperature=temperature, mining=mining, images=images, seed=0)
            self._write(model, name, shots, seed, {"scores": self._stream(model, tins.fit(reference), seed)})
            return
        own = {"ZeroShot": None, "MMP": MMP(1.0, images), "COOkeD": COOkeD(temperature)}[name]
        self._write(model, name, shots, seed, self._evaluate(model, reference, own, name))

    def _heads(self, model: str, shots: int, seed: int) -> tuple:
        """Return linear heads on embeddings and on features, trained as the probes of mmood are."""
        pool, keys = self._outputs(model, "pool"), torch.tensor(self._draw(seed, shots))
        heads = []
        for reads in ("embedding", "features"):
            probe = LinearProbe(self._settings(model), self._class_names(), {"mcm": MCM()}, reads=reads)
            outputs, settings = {reads: pool[reads].float()}, ProbeSettings(batch_size=256)
            rows = training_rows(probe.probe, outputs, keys, pool["label"][keys], settings, self._class_names())
            self._trainer(1 if self.tiny else 100).fit(probe, FeatureTrainLoader(rows, seed))
            heads += probe.to(DEVICE).reference().heads()
        return tuple(head.to(DEVICE) for head in heads)

    def _evaluate(self, model: str, reference: Reference, own: AbstractScore | None, name: str) -> dict:
        """Return AUROC and both FPR95 of every score on both sets, and the ID accuracy."""
        temperature = 1 / float(with_texts(reference.encoder).logit_scale)
        neglabel = {"groups": 5, "temperature": temperature, "seed": 0}
        scores = {"MCM": MCM(), "GL-MCM": GLMCM(), "NegLabel": NegLabel(**neglabel, mining=self._mining())}
        found = {kind: self._scored(model, score.fit(reference)) for kind, score in scores.items()}
        if own is not None:
            found[type(own).__name__] = self._scored(model, own.fit(reference))
        learned = reference.learned
        if learned is not None and "positive" in learned.families:
            reference.learned = replace(learned, for_words=True)
            words = NegLabel(**neglabel, mining=self._mining()).fit(reference)
            found["NegLabel, learned negatives"] = self._scored(model, words)
        images = self._outputs(model, SETS["id"])
        logits = images["embedding"].float().to(DEVICE) @ reference.prototypes.T
        return {"accuracy": accuracy(images["label"].numpy(), logits.argmax(1).cpu().numpy()), "scores": found}

    @torch.no_grad()
    def _scored(self, model: str, score: AbstractScore) -> dict:
        columns = {}
        for group, name in SETS.items():
            outputs = self._outputs(model, name)
            parts = (slice(first, first + 500) for first in range(0, len(outputs["label"]), 500))
            columns[group] = torch.cat([score(_embedded(outputs, part)).float().cpu() for part in parts]).numpy()
        return _metrics(columns)

    def _stream(self, model: str, score: TINS, seed: int) -> dict:
        """Return the metrics of a stream for each OoD set, mixed with the ID images in an order of the seed."""
        inside, found = self._outputs(model, SETS["id"]), {}
        for group in ("near", "far"):
            outside = self._outputs(model, SETS[group])
            embedding = normalize(torch.cat([inside["embedding"], outside["embedding"]]).float(), dim=1).to(DEVICE)
            order = torch.randperm(len(embedding), generator=torch.Generator().manual_seed(seed))
            score.reset(seed)
            rows = [_only(embedding[part.to(DEVICE)]) for part in torch.split(order, 256)]
            values = torch.empty(len(order)).scatter_(0, order, torch.cat([score.step(part).cpu() for part in rows]))
            count = len(inside["label"])
            found.update(_metrics({"id": values[:count].numpy(), group: values[count:].numpy()}))
        return {"TINS": found}

    def _rows(self, model: str, name: str, shots: int, seed: int, batch_size: int) -> StoredViews:
        stored = self._outputs(model, f"{'crops' if name == 'Local-Prompt' else 'views'}-{seed}")
        chosen = torch.isin(stored["key"], torch.tensor(self._draw(seed, shots))).nonzero().flatten()
        # Views of one crop each, or one view of many crops.
        axis = 1 if name == "Local-Prompt" else 2
        embedding, patches = (stored[kind][chosen].unsqueeze(axis).to(DEVICE) for kind in ("embedding", "patches"))
        keys, targets = stored["key"][chosen].to(DEVICE), stored["label"][chosen].to(DEVICE)
        reads = name in ("LoCoOp", "SCT", "Local-Prompt")
        return StoredViews(embedding, patches if reads else None, keys, targets, batch_size)

    @torch.no_grad()
    def _encoded(self, model, name, encoder, source, transform, keys, limit, seed=0) -> None:
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

    def _outputs(self, model: str, name: str) -> dict[str, Tensor]:
        return load_file(self.work / "outputs" / model / f"{name}.safetensors")

    def _draw(self, seed: int, shots: int) -> list[int]:
        return json.loads((self.work / "draws.json").read_text())[f"{seed}-{shots}"]

    def _settings(self, model: str) -> EncoderSettings:
        return EncoderSettings(f"local-dir:{self.work / 'models' / model}")

    def _class_names(self) -> list[str]:
        return (self.work / "data" / "id-classes.txt").read_text().splitlines()

    def _corpus(self) -> CorpusSettings:
        return CorpusSettings(nouns=(str(self.work / "nouns.txt"),), adjectives=(str(self.work / "adjectives.txt"),))

    def _mining(self) -> NegativeMiner:
        return NegativeMiner(corpus=self._corpus(), count=10_000)

    def _trainer(self, epochs: int) -> Trainer:
        quiet = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "num_sanity_val_steps": 0,
        }
        folder = self.work / "runs" / str(os.getpid())
        return Trainer(
            accelerator="gpu" if CUDA else "cpu", devices=1, max_epochs=epochs, enable_model_summary=False,
            use_distributed_sampler=False, default_root_dir=folder, **quiet,
        )  # fmt: skip

    def _result(self, model: str, name: str, shots: int, seed: int) -> Path:
        return self.work / "results" / f"{model}.{name}.{shots}.{seed}.json"

    def _write(self, model: str, name: str, shots: int, seed: int, found: dict) -> None:
        path = self._result(model, name, shots, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        head = {"model": model, "method": name, "shots": shots, "seed": seed}
        path.write_text(json.dumps({**head, **found}, indent=1))


class Shots:
    """The drawn images as the bank of a reference.

    Args:
        pool: outputs of all of them.
        keys: those of this draw.
    """

    def __init__(self, pool: dict[str, Tensor], keys: list[int]) -> None:
        self.pool, self.keys = pool, torch.tensor(keys)

    def bank(self, shots, transform, labels) -> Bank:
        """Return the images of the draw."""
        features, embedding = (self.pool[kind][self.keys].float() for kind in ("features", "embedding"))
        return Bank(features, self.pool["label"][self.keys], self.keys, normalize(embedding, dim=1), {"set": "pool"})


def _embedded(outputs: dict[str, Tensor], part: slice) -> Embedded:
    features, embedding, patches = (
        outputs[kind][part].to(DEVICE).float() for kind in ("features", "embedding", "patches")
    )
    return Embedded(features, features[:, :1], normalize(embedding, dim=-1), normalize(patches, dim=-1))


def _only(embedding: Tensor) -> Embedded:
    return Embedded(embedding, embedding[:, :1], embedding)


def _metrics(columns: dict[str, np.ndarray]) -> dict:
    found = {}
    for group in columns.keys() - {"id"}:
        metrics = ood_metrics(columns["id"], columns[group])
        found[group] = {"auroc": metrics.auroc, "id_pos": metrics.fpr95_id_pos, "ood_pos": metrics.fpr95_ood_pos}
    return found


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
    import io

    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


if __name__ == "__main__":
    main()
