"""A run of attacks: images are attacked block by block, stored as sets, checked, and scored where they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import rmtree
from typing import final

import torch
from lightning.pytorch import Trainer

from mmood.attacks.attacked_sets import check_budget, packed_set, stored_set
from mmood.attacks.crafting import MOST, CleanSet, Crafting, Targets, Task, chosen_keys, craft_all, share
from mmood.attacks.findings import CLEAN_POINT, Measured, Point
from mmood.attacks.picture import picture
from mmood.attacks.scoring import attacked_scores_of, clean_scores
from mmood.attacks.settings import AttackSettings
from mmood.attacks.tables import to_markdown
from mmood.attacks.victim import Victim, pixel_transform
from mmood.attacks.without_images import without_targets
from mmood.classes.names import class_names_hash
from mmood.data.datamodule import EvaluationSet, OoDDataModule
from mmood.errors import MmoodError
from mmood.evaluation.predictions import write_scores
from mmood.evaluation.provenance import of_set, of_the_program
from mmood.evaluation.store import SetScores
from mmood.features.encoding import Ranks
from mmood.files import parse_json, read_text, write_atomically
from mmood.modules.base import AbstractDetector
from mmood.output.console import Bar, progress_bar
from mmood.results.attack import AttackResults
from mmood.results.model import build_results
from mmood.results.serialisation import write_results
from mmood.runs.identity import new_run_id
from mmood.runs.run_files import run_line
from mmood.runs.signals import leaves, uninterrupted
from mmood.scores.base import Reference
from mmood.shards.index import SetIndex

ATTACKED = "attacked"
"""Folder in a run folder for the attacked sets."""
_BLOCKS, _MADE_BY = ".blocks", "made_by.json"


@dataclass(frozen=True)
class Other:
    """A detector that attacked images are transferred to: what results call it, module and data."""

    name: str
    module: AbstractDetector
    data: OoDDataModule


@final
@dataclass
class AttackRun:
    """A run of attacks on one detector.

    Attributes:
        module: the detector, with its weights.
        data: its sets.
        settings: the attack.
        scores: names of the scores to attack; none for a manipulation, which moves features.
        folder: of the run.
        config: the resolved settings, as text.
        others: detectors to transfer to.
        quiet: show no progress.
        results: what the run has measured, once it is done.
    """

    module: AbstractDetector
    data: OoDDataModule
    settings: AttackSettings
    scores: Sequence[str]
    folder: Path
    config: str
    others: Sequence[Other] = ()
    quiet: bool = False
    results: AttackResults | None = field(default=None, init=False)

    def work(self, trainer: Trainer) -> None:
        """Attack, store, check, score and write; every rank must call this."""
        ranks = Ranks.of(trainer)
        run = new_run_id(trainer)
        reference = self._prepared(self.module, self.data, ranks)
        sets = self.chosen_sets()
        victim = Victim(self.module, ranks.autocast)
        clean = self._clean_sets(sets)
        tasks = self._tasks(clean)
        if ranks.rank == 0:
            self._begin(sets)
        targets = self._targets(reference)
        indices = self._made(Crafting(victim, self.settings, targets), tasks, ranks)
        if targets is not None:
            keys = [key for task in tasks for key in task.clean.entry.keys.tolist()]
            removed = targets.key[torch.unique(targets.rows(keys))]
            self.module.scores.update(without_targets(dict(self.module.static_scores()), reference, removed))
        measured = [self._measured(None, victim, clean, tasks, indices, ranks)]
        for other in self.others:
            self._prepared(other.module, other.data, ranks)
            view = Victim(other.module, ranks.autocast, other.module.image_transform(False))
            measured.append(self._measured(other.name, view, clean, tasks, indices, ranks))
        if ranks.rank == 0:
            self._write(run, measured, sets, trainer)
        ranks.barrier()

    def chosen_sets(self) -> dict[str, EvaluationSet]:
        """Return the sets of the test by name, each with the images that are used, the ID set first.

        Raises:
            MmoodError: the config names several benchmarks, or no OoD set.
        """
        protocols = self.data.protocols("test")
        if len(protocols) > 1:
            names = ", ".join(str(each.name) for each in protocols)
            raise MmoodError(f"`data.benchmark` is {names}; attack the sets of one benchmark at a time.")
        found = {}
        for name, entry in protocols[0].sets.items():
            # Only what is attacked is dear; clean images make the threshold, and each of them counts.
            limit = self.settings.limit if self.settings.attacks(entry.group == "id") else None
            keys = chosen_keys(entry.keys, limit)
            found[name] = replace(entry, keys=keys, count=len(keys))
        if all(entry.group == "id" for entry in found.values()):
            raise MmoodError("No OoD set is named in the data; set `data.ood` or a `data.benchmark`.")
        return found

    def _prepared(self, module: AbstractDetector, data: OoDDataModule, ranks: Ranks) -> Reference:
        """Join a detector with its data, fit its static scores and return what they were fitted on."""
        for name, _ in module.stream_scores():
            del module.scores[name]
        module.requires_grad_(False)
        module.join(data, ranks, self.folder, self.quiet)
        module.fit_scores()
        assert module.reference_ is not None
        return module.reference_

    def _clean_sets(self, sets: Mapping[str, EvaluationSet]) -> dict[str, CleanSet]:
        size, transform = min(self.data.batch_size, MOST), pixel_transform(self.module)
        classes, exif = len(self.module.class_names), self.data.exif or "ignore"
        return {name: CleanSet.of(entry, size, transform, classes, exif) for name, entry in sets.items()}

    def _tasks(self, clean: Mapping[str, CleanSet]) -> dict[Task, Point]:
        """Return the sets to attack, each under every budget and for every score."""
        points = [Point(score, eps) for score in self.scores for eps in self.settings.budgets()]
        blocks = self.folder / ATTACKED / _BLOCKS
        return {
            Task(blocks / self.place(point) / name, of_set, point.attacked, point.eps): point
            for point in points or [Point(manipulated=True)]
            for name, of_set in clean.items()
            if self.settings.attacks(of_set.entry.group == "id") and of_set.entry.count
        }

    def place(self, point: Point) -> Path:
        """Return where the sets of a point are, below the folder of attacked sets."""
        if point.manipulated:
            return Path("manipulation")
        return Path(str(point.attacked)) / f"{self.settings.norm}-{str(point.eps).replace('/', 'of')}"

    def _targets(self, reference: Reference) -> Targets | None:
        if self.settings.method != "manipulation":
            return None
        bank = reference.bank()
        return Targets(bank.features, bank.keys, self.settings.seed)

    def _begin(self, sets: Mapping[str, EvaluationSet]) -> None:
        """Refuse to go on with what was begun in another way.

        Raises:
            MmoodError: the folder holds attacked images of other settings, weights or sets.
        """
        path = self.folder / ATTACKED / _MADE_BY
        made_by = json.dumps(self._identity(sets), indent=1, sort_keys=True)
        if path.exists() and parse_json(read_text(path, str(path)).encode(), str(path)) != json.loads(made_by):
            raise MmoodError(
                f"{path.parent} holds images that were attacked with other settings, weights or sets; name another "
                "folder with --run_dir, or set --overwrite true."
            )
        write_atomically(path, made_by.encode())
        leaves("attack", "Attacked images are kept; run the same command with the same --run_dir again to resume.")

    def _identity(self, sets: Mapping[str, EvaluationSet]) -> dict[str, object]:
        """Return what the attacked images depend on, as plain data."""
        known = dict(self.module.named_scores())
        return {
            "attack": self.settings.record(),
            "encoder": self.module.encoder.identity(),
            "detector": {"class": type(self.module).__name__, **self.module.own_record()},
            "checkpoint": self.module.trained_with,
            "class_names": class_names_hash(self.module.class_names),
            "scores": {name: known[name].record() for name in self.scores},
            "sets": {name: {**of_set(entry), "n": entry.count} for name, entry in sets.items()},
            "banks": [] if self.module.provider is None else list(self.module.provider.banks.values()),
            "batch_size": min(self.data.batch_size, MOST),
            "exif": self.data.exif or "ignore",
        }

    def _made(self, crafting: Crafting, tasks: Mapping[Task, Point], ranks: Ranks) -> dict[Task, SetIndex]:
        """Make the images of all tasks, and return the sets that hold them; every rank must call this."""
        folders = {task: self.folder / ATTACKED / self.place(tasks[task]) / task.clean.entry.name for task in tasks}
        ranks.barrier()
        missing = [task for task, folder in folders.items() if not (folder / "index.json").exists()]
        own = share(missing, ranks.rank, ranks.world)
        with self._progress(
            "attacking", sum(len(task.clean.keys(number)) for task in own for number in own[task]), ranks
        ) as bar:
            craft_all(crafting, own, bar.advance)
        ranks.barrier()
        if ranks.rank == 0:
            self._pack(folders)
        ranks.barrier()
        return {task: stored_set(folder) for task, folder in folders.items()}

    def _pack(self, folders: Mapping[Task, Path]) -> None:
        names, budgets = tuple(self.module.class_names), self.settings.budgets()
        total = sum(task.clean.entry.count for task in folders)
        with progress_bar("storing and checking", total, self.quiet, transient=True) as bar:
            for task, folder in folders.items():
                what = f"{task.clean.entry.name}, {self.settings.method}"
                what += "" if task.eps is None else f" on {task.score}, {self.settings.norm} {task.eps}"
                index = packed_set(task, folder, names, what)
                if task.eps is None:
                    bar.advance(task.clean.entry.count)
                else:
                    check_budget(index, task, budgets[task.eps], bar.advance)
        rmtree(self.folder / ATTACKED / _BLOCKS, ignore_errors=True)

    def _measured(
        self,
        name: str | None,
        victim: Victim,
        clean: Mapping[str, CleanSet],
        tasks: Mapping[Task, Point],
        indices: Mapping[Task, SetIndex],
        ranks: Ranks,
    ) -> Measured:
        counts = [each.entry.count for each in clean.values()] + [task.clean.entry.count for task in tasks]
        found: dict[tuple[Point, str], SetScores] = {}
        said = "scoring" if name is None else f"scoring by {name}"
        with self._progress(said, sum(counts) // ranks.world, ranks) as bar:
            for of, each in clean.items():
                found[CLEAN_POINT, of] = clean_scores(victim, each, ranks, bar.advance)
            for task, point in tasks.items():
                index = indices[task]
                found[point, task.clean.entry.name] = attacked_scores_of(victim, task, index, ranks, bar.advance)
        return Measured(name, {of: each.entry for of, each in clean.items()}, found)

    def _progress(self, what: str, images: int, ranks: Ranks) -> AbstractContextManager[Bar]:
        return progress_bar(what, images, self.quiet or ranks.rank > 0, transient=True)

    def _write(
        self, run: str, measured: Sequence[Measured], sets: Mapping[str, EvaluationSet], trainer: Trainer
    ) -> None:
        own = measured[0]
        results = build_results(
            run=run,
            stage="attack",
            provenance=self._provenance(sets, trainer),
            id_rows=own.id_rows(self.settings),
            rows=own.result_rows(self.settings),
        )
        rows = tuple(row for each in measured for row in each.rows())
        self.results = attack = AttackResults(run, self.settings.record(), rows)
        files = {"attack.md": to_markdown(attack), "attack.csv": attack.to_csv()}
        if self.settings.eps:
            files["attack.svg"] = picture(attack)
        with uninterrupted():
            write_atomically(self.folder / "config.attack.yaml", f"{run_line(run)}\n{self.config}".encode())
            for scores in own.arrays(self.settings):
                write_scores(self.folder, run, scores)
            for name, text in files.items():
                write_atomically(self.folder / name, text.encode())
            write_results(self.folder, results)
            # Last: with it the run is complete.
            write_atomically(self.folder / "attack.json", attack.to_json().encode())
            leaves("attack", f"The results were written to {self.folder}.")

    def _provenance(self, sets: Mapping[str, EvaluationSet], trainer: Trainer) -> dict[str, object]:
        return {
            **of_the_program(),
            "module": type(self.module).__name__,
            "encoder": self.module.encoder.identity(),
            "settings": self.module.own_record(),
            "checkpoint": self.module.trained_with,
            "class_names": {
                "count": len(self.module.class_names),
                "sha256": class_names_hash(self.module.class_names),
            },
            "scores": {name: score.record() for name, score in self.module.static_scores()},
            "sets": {name: of_set(entry) for name, entry in sets.items()},
            "banks": [] if self.module.provider is None else list(self.module.provider.banks.values()),
            "precision": str(trainer.precision),
            "world_size": trainer.world_size,
            "batch_size": min(self.data.batch_size, MOST),
            "exif": self.data.exif or "ignore",
            "attack": {**self.settings.record(), "scores": list(self.scores)},
        }
