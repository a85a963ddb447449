"""The runs behind docs/claims.md that no other script makes: scores on frozen towers of two small CLIPs, and probes.

Each runs through `mmood` in this process; one that is there is not made again, so it can be stopped and started again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import yaml
from table_alignment import copy_samples

from mmood.cli.main import main as command

SEEDS = (0, 1, 2)
SETS = {"near": "near-ood", "far": "far-textures"}
EVERY = {"miniclip": 1, "liteclip": 5}
"""Every how manieth image of the ID and the near set: the larger tower takes 40 ms an image."""
PER_CLASS = {"miniclip": 200, "liteclip": 20}
"""Training images of each class for the probes."""
STATIC = {"mcm": {"class_path": "MCM"}, "neglabel": {"class_path": "NegLabel"}}
STREAMS = {name.lower(): {"class_path": name} for name in ("AdaNeg", "TANL", "CoEvo")}
PROBES = {"plp": "PseudoLabelProbe", "linear": "LinearProbe"}


class Runs:
    """The runs below one folder.

    Args:
        work: where sets and runs go.
        real: the folder that holds the real images and the small CLIPs.
        model: which of them.
    """

    def __init__(self, work: Path, real: Path, model: str) -> None:
        self.work = work
        self.real = real
        self.model = model
        self.root = work / "data" / f"every-{EVERY[model]}-{PER_CLASS[model]}"
        self.runs = work / "runs" / model
        os.environ.setdefault("MMOOD_CACHE", str(work / "cache"))

    def make(self, only: list[str]) -> None:
        """Make what is not there of: static, probes, streams, csp."""
        self._prepare()
        self._embed()
        if "static" in only:
            self._test("static", self._zero_shot("a photo of a {}", STATIC))
            self._test("imagenet", self._zero_shot("a photo of a {}", STATIC), self._imagenet())
        if "probes" in only:
            self._test("plp-prompts", self._zero_shot("plp", {"mcm": {"class_path": "MCM"}}))
            for name in PROBES:
                for seed in SEEDS:
                    self._probe(name, seed)
        if "streams" in only:
            for name, score in STREAMS.items():
                self._test(name, self._zero_shot("a photo of a {}", {name: score}))
        if "csp" in only:
            self._test("csp", self._zero_shot("a photo of a {}", {"csp": {"class_path": "CSP"}}))

    def _prepare(self) -> None:
        if (self.root / "done").exists():
            return
        every, per_class = EVERY[self.model], PER_CLASS[self.model]
        data = self.real / "data"
        copy_samples(data / "id-train", self.root / "id-train", lambda number: number < per_class)
        for name in ("id-test", "near-ood"):
            copy_samples(data / name, self.root / name, lambda number: number % every == 0)
        for name in ("far-textures", "imagenet-sample"):
            shutil.copytree(data / name, self.root / name, dirs_exist_ok=True)
        shutil.copy(data / "id-classes.txt", self.root / "classes.txt")
        names = ("id-train", "id-test", "near-ood", "far-textures", "imagenet-sample")
        assert command(["pack", "--index", *(str(self.root / name) for name in names)]) == 0
        (self.root / "done").touch()

    def _embed(self) -> None:
        if (self.root / f"embedded-{self.model}").exists():
            return
        for data in (self._data(), self._imagenet()):
            config = self._config("embed", self._zero_shot("a photo of a {}", STATIC), data)
            assert command(["embed", "--config", str(config), "--quiet"]) == 0
        (self.root / f"embedded-{self.model}").touch()

    def _probe(self, name: str, seed: int) -> None:
        folder = self.runs / f"{name}-{seed}"
        if (folder / "results.json").exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        own = {"prompts": "plp"} if name == "plp" else {}
        model = {"class_path": PROBES[name], "init_args": {**self._encoder(), **own, "scores": self._head_scores()}}
        config = self._config(f"{name}-{seed}", model, self._data(), seed)
        assert command(["fit", "--config", str(config), "--run_dir", str(folder)]) == 0
        checkpoint = folder / "checkpoints" / "last.ckpt"
        assert command(["test", "--ckpt_path", str(checkpoint), "--run_dir", str(folder), *self._quiet()]) == 0

    def _test(self, name: str, model: dict, data: dict | None = None) -> None:
        folder = self.runs / name
        if (folder / "results.json").exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        config = self._config(name, model, data or self._data())
        assert command(["test", "--config", str(config), "--run_dir", str(folder), *self._quiet()]) == 0

    def _quiet(self) -> list[str]:
        return ["--evaluation.overlap", "false", "--trainer.enable_progress_bar", "false"]

    def _head_scores(self) -> dict:
        return {"msp": {"class_path": "MCM"}, "energy": {"class_path": "Energy"}}

    def _encoder(self) -> dict:
        return {"encoder": {"name": f"local-dir:{self.real / 'models' / self.model}"}}

    def _zero_shot(self, prompts: str, scores: dict) -> dict:
        return {"class_path": "ZeroShot", "init_args": {**self._encoder(), "prompts": prompts, "scores": scores}}

    def _data(self) -> dict:
        sets = {"train": "id-train", "id": "id-test", "ood": {group: [name] for group, name in SETS.items()}}
        return {"root": str(self.root), "class_names": str(self.root / "classes.txt"), **sets}

    def _imagenet(self) -> dict:
        sets = {"id": "imagenet-sample", "ood": {"far": ["far-textures"]}}
        return {"root": str(self.root), "class_names": "imagenet-openai", **sets}

    def _config(self, name: str, model: dict, data: dict, seed: int = 0) -> Path:
        trainer = {"accelerator": "cpu", "devices": 1, "max_epochs": 100, "check_val_every_n_epoch": 100}
        config = {
            "seed_everything": seed,
            "model": model,
            "data": {**data, "batch_size": 256, "loader": {"workers": 0}},
            "evaluation": {"stream": {"seeds": list(SEEDS)}},
            "trainer": trainer,
        }
        path = self.work / "configs" / self.model / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path
