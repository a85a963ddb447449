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
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from prompts_images import CUDA, DEVICE, MODELS, SETS, SHOTS, Images
from prompts_page import write_page
from torch import Tensor
from torch.nn.functional import normalize

from mmood.encoders import build_encoder
from mmood.encoders.vision_language import with_texts
from mmood.features.loader import FeatureTrainLoader
from mmood.features.views import StoredViews
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
from mmood.words.miner import INTERNEG


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
    parser.add_argument("--methods", nargs="*", default=["ZeroShot", *LEARNERS, *TRAINING_FREE[1:]])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="one epoch, one seed, few images: does it run?")
    options = parser.parse_args()
    table = Table(options.work.resolve(), options.tiny)
    start = time.perf_counter()
    if "prepare" in options.only:
        table.images.prepare(Path(os.environ["MMOOD_REAL_DATA"]))
    for model in options.models:
        if "encode" in options.only:
            table.images.encode(model)
        print(f"{model}: encoded after {time.perf_counter() - start:.0f} s", flush=True)
    if "train" in options.only:
        tasks = [task for task in table.tasks(options.models) if task[1] in options.methods]
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
        self.images = Images(work, tiny)
        self.shots = SHOTS[1:2] if tiny else SHOTS

    def tasks(self, models: list[str]) -> list[tuple[str, str, int, int]]:
        """Return (model, method, shots, seed) of what is not there; after CoOp, few shots first."""
        wanted = [("CoOp", shots, seed) for shots in self.shots[::-1] for seed in self.images.seeds]
        wanted += [
            (name, shots, seed)
            for shots in self.shots
            for name in (*LEARNERS, *TRAINING_FREE[1:])
            for seed in self.images.seeds
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
            self.images.settings(model),
            self.images.class_names(),
            {"mcm": MCM()},
            learner.method(first),
            FewShotSettings(learner.batch_size, shots, seed),
            optimizer=lambda parameters: torch.optim.SGD(
                parameters, lr=learner.rate, momentum=0.9, weight_decay=0 if name == "SUPREME" else 5e-4
            ),
        )
        if module.method.reads_support:
            pool, keys = self.images.outputs(model, "pool"), self.images.draw(seed, shots)
            module.method.learn_support(pool["embedding"][keys].float(), pool["label"][keys])
            module.method.reads_support = False  # of this one: `fit` has no data to read it from
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
        encoder = build_encoder(self.images.settings(model)).to(DEVICE).eval()
        scale = float(with_texts(encoder).logit_scale)
        provider = (
            None if name == "ZeroShot" else Shots(self.images.outputs(model, "pool"), self.images.draw(seed, shots))
        )
        heads = self._heads(model, shots, seed) if name == "COOkeD" else ()
        names = self.images.class_names()
        reference = ModelReference(encoder, names, ["a photo of a {}"], heads, provider)  # type: ignore[arg-type]
        images, temperature = ClassImages(shots=max(1, shots)), 1 / scale
        if name == "TINS":
            mining = replace(INTERNEG, corpus=self.images.corpus())
            tins = TINS(temperature=temperature, mining=mining, images=images, seed=0)
            self._write(model, name, shots, seed, {"scores": self._stream(model, tins.fit(reference), seed)})
            return
        own = {"ZeroShot": None, "MMP": MMP(1.0, images), "COOkeD": COOkeD(temperature)}[name]
        self._write(model, name, shots, seed, self._evaluate(model, reference, own, name))

    def _heads(self, model: str, shots: int, seed: int) -> tuple:
        """Return linear heads on embeddings and on features, trained as the probes of mmood are."""
        pool, keys = self.images.outputs(model, "pool"), torch.tensor(self.images.draw(seed, shots))
        heads = []
        for reads in ("embedding", "features"):
            probe = LinearProbe(self.images.settings(model), self.images.class_names(), {"mcm": MCM()}, reads=reads)
            outputs, settings = {reads: pool[reads].float()}, ProbeSettings(batch_size=256)
            rows = training_rows(probe.probe, outputs, keys, pool["label"][keys], settings, self.images.class_names())
            self._trainer(1 if self.tiny else 100).fit(probe, FeatureTrainLoader(rows, seed))
            heads += probe.to(DEVICE).reference().heads()
        return tuple(head.to(DEVICE) for head in heads)

    def _evaluate(self, model: str, reference: Reference, own: AbstractScore | None, name: str) -> dict:
        """Return AUROC and both FPR95 of every score on both sets, and the ID accuracy."""
        temperature = 1 / float(with_texts(reference.encoder).logit_scale)
        neglabel = {"groups": 5, "temperature": temperature, "seed": 0}
        scores = {"MCM": MCM(), "GL-MCM": GLMCM(), "NegLabel": NegLabel(**neglabel, mining=self.images.mining())}
        found = {
            kind: self._scored(model, score.fit(reference), reference.prototypes) for kind, score in scores.items()
        }
        if own is not None:
            found[type(own).__name__] = self._scored(model, own.fit(reference), reference.prototypes)
        learned = reference.learned
        if learned is not None and "positive" in learned.families:
            reference.learned = replace(learned, for_words=True)
            words = NegLabel(**neglabel, mining=self.images.mining()).fit(reference)
            found["NegLabel, learned negatives"] = self._scored(model, words, reference.prototypes)
        images = self.images.outputs(model, SETS["id"])
        logits = images["embedding"].float().to(DEVICE) @ reference.prototypes.T
        return {"accuracy": accuracy(images["label"].numpy(), logits.argmax(1).cpu().numpy()), "scores": found}

    @torch.no_grad()
    def _scored(self, model: str, score: AbstractScore, prototypes: Tensor) -> dict:
        columns = {}
        for group, name in SETS.items():
            outputs = self.images.outputs(model, name)
            parts = (slice(first, first + 500) for first in range(0, len(outputs["label"]), 500))
            columns[group] = torch.cat(
                [score(_embedded(outputs, part, prototypes)).float().cpu() for part in parts]
            ).numpy()
        return _metrics(columns)

    def _stream(self, model: str, score: TINS, seed: int) -> dict:
        """Return the metrics of a stream for each OoD set, mixed with the ID images in an order of the seed."""
        inside, found = self.images.outputs(model, SETS["id"]), {}
        for group in ("near", "far"):
            outside = self.images.outputs(model, SETS[group])
            embedding = normalize(torch.cat([inside["embedding"], outside["embedding"]]).float(), dim=1).to(DEVICE)
            order = torch.randperm(len(embedding), generator=torch.Generator().manual_seed(seed))
            score.reset(seed)
            rows = [_only(embedding[part.to(DEVICE)]) for part in torch.split(order, 256)]
            values = torch.empty(len(order)).scatter_(0, order, torch.cat([score.step(part).cpu() for part in rows]))
            count = len(inside["label"])
            found.update(_metrics({"id": values[:count].numpy(), group: values[count:].numpy()}))
        return {"TINS": found}

    def _rows(self, model: str, name: str, shots: int, seed: int, batch_size: int) -> StoredViews:
        stored = self.images.outputs(model, f"{'crops' if name == 'Local-Prompt' else 'views'}-{seed}")
        chosen = torch.isin(stored["key"], torch.tensor(self.images.draw(seed, shots))).nonzero().flatten()
        # Views of one crop each, or one view of many crops.
        axis = 1 if name == "Local-Prompt" else 2
        embedding, patches = (stored[kind][chosen].unsqueeze(axis).to(DEVICE) for kind in ("embedding", "patches"))
        keys, targets = stored["key"][chosen].to(DEVICE), stored["label"][chosen].to(DEVICE)
        reads = name in ("LoCoOp", "SCT", "Local-Prompt")
        return StoredViews(embedding, patches if reads else None, keys, targets, batch_size)

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

    def bank(self, shots, transform, labels, descriptors) -> Bank:
        """Return the images of the draw."""
        features, embedding = (self.pool[kind][self.keys].float() for kind in ("features", "embedding"))
        return Bank(features, self.pool["label"][self.keys], self.keys, normalize(embedding, dim=1), {"set": "pool"})


def _embedded(outputs: dict[str, Tensor], part: slice, prototypes: Tensor) -> Embedded:
    features, embedding, patches = (
        outputs[kind][part].to(DEVICE).float() for kind in ("features", "embedding", "patches")
    )
    embedding = normalize(embedding, dim=-1)
    return Embedded(features, embedding @ prototypes.T, embedding, normalize(patches, dim=-1))


def _only(embedding: Tensor) -> Embedded:
    return Embedded(embedding, embedding[:, :1], embedding)


def _metrics(columns: dict[str, np.ndarray]) -> dict:
    found = {}
    assert all(np.ptp(column) > 0 for column in columns.values()), "a score that is the same for every image"
    for group in columns.keys() - {"id"}:
        metrics = ood_metrics(columns["id"], columns[group])
        found[group] = {"auroc": metrics.auroc, "id_pos": metrics.fpr95_id_pos, "ood_pos": metrics.fpr95_ood_pos}
    return found


if __name__ == "__main__":
    main()
