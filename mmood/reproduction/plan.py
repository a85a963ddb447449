"""What it takes to run a published table again: sets, weights, and the commands in order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmood.data.benchmarks import BENCHMARKS
from mmood.encoders.cached import cached_weights
from mmood.errors import MmoodError
from mmood.prepare.plan import ready
from mmood.published.model import PublishedTable, Registry, RunPlan
from mmood.recipes.recipe import Recipe
from mmood.recipes.registry import find_recipe
from mmood.sets.finding import find_set
from mmood.shards.index import MissingSetError

STAGES = ("test", "fit", "validate", "embed")
_OF_STAGES = re.compile(r"--(model|data|trainer|evaluation|maps)[.=]|--(model|data|trainer|seed_everything|config)$")
_RUN = re.compile(r"\{run:([\w-]+)\}")
_BYTES_OF_A_WEIGHT = 4
_OF_CONFIGS = "ViT-B-16/openai"
"""The model of the configs that the runs name."""


@dataclass(frozen=True)
class Wishes:
    """What a user wants to be used.

    Attributes:
        root: folder of the sets.
        out: folder of the runs and the page.
        stand_in: published set -> the set below root that takes its place.
        flags: further ones of the stages and of other commands.
    """

    root: str
    out: Path
    stand_in: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    def given(self, flag: str) -> str | None:
        """Return the value of a further flag, None if it was not given."""
        for place, word in enumerate(self.flags):
            name, equals, value = word.partition("=")
            if name == flag:
                return value if equals else next(iter(self.flags[place + 1 : place + 2]), "")
        return None

    def as_dict(self) -> dict[str, object]:
        """Return the wishes as plain data."""
        return {"root": self.root, "stand_in": dict(self.stand_in), "flags": list(self.flags)}


@dataclass(frozen=True)
class Need:
    """Something that a table needs.

    Attributes:
        what: in words.
        here: whether it is there.
        detail: its size and where it is, or how to get it.
    """

    what: str
    here: bool
    detail: str


@dataclass(frozen=True)
class Step:
    """A command of a run.

    Attributes:
        run: name of the run's folder.
        part: what names the step in the run.
        arguments: behind `mmood`.
    """

    run: str
    part: str
    arguments: tuple[str, ...]

    @property
    def id(self) -> str:
        """What names the step in the record of what is done."""
        return f"{self.run}/{self.part}"

    @property
    def stage(self) -> str:
        """The command."""
        return self.arguments[0]

    @property
    def folder(self) -> Path | None:
        """The run folder of a stage; None of another command."""
        return Path(self.arguments[-1]) if self.stage in STAGES else None

    def line(self) -> str:
        """Return the command as a user would type it."""
        return shlex.join(["mmood", *self.arguments])


@dataclass(frozen=True)
class Plan:
    """What it takes to run a table again.

    Attributes:
        table: the published one.
        needs: sets, weights and flags.
        get: commands that get what is missing, as a user would type them.
        steps: the commands, in order.
        runs: name of a run of the registry -> the folders of its tests, one for each seed.
        memory: name of a run -> what it needs of a GPU, where that was measured.
    """

    table: PublishedTable
    needs: tuple[Need, ...]
    get: tuple[str, ...]
    steps: tuple[Step, ...]
    runs: Mapping[str, tuple[Path, ...]]
    memory: Mapping[str, str]

    @property
    def is_ready(self) -> bool:
        """Whether everything is there."""
        return all(need.here for need in self.needs)


def make_plan(table: PublishedTable, registry: Registry, wishes: Wishes) -> Plan:
    """Return the plan of a table.

    Raises:
        MmoodError: mmood computes no row of it, a stand-in is for a set that it does not need or is not there, or a set
            is there with another number of images.
    """
    wanted = _runs(table, registry)
    if not wanted:
        raise MmoodError(f"mmood has no run for a row of {table.id}; its rows can only be looked at.")
    needed = _needed_sets(table, wanted)
    if odd := sorted(wishes.stand_in.keys() - set(needed)):
        raise MmoodError(f"--stand_in names '{odd[0]}', but {table.id} needs {', '.join(needed) or 'no known set'}.")
    sets = [_set(name, table, wishes) for name in needed]
    flags = [_flag(flag, why, wishes) for run in wanted for flag, why in run.needs.items()]
    weights = _weights(table, registry, wishes)
    missing = [name for name, need in zip(needed, sets, strict=True) if not need.here]
    folders = {run.name: _folders(run, table) for run in wanted}
    steps = [step for run in wanted for step in _steps(run, table, wishes, folders)]
    fetch = [] if weights.here else [_fetch(steps, table, wishes)]
    return Plan(
        table,
        needs=(*sets, weights, *flags),
        get=(*_prepare(table, missing, wishes), *fetch),
        steps=tuple(steps),
        runs={
            run.name: tuple(wishes.out / folder / _test_folder(table) for folder in folders[run.name]) for run in wanted
        },
        memory={run.name: run.memory for run in wanted if run.memory},
    )


def _runs(table: PublishedTable, registry: Registry) -> list[RunPlan]:
    """Return the runs of a table in order, each behind those that it is made of."""
    found: dict[str, RunPlan] = {}

    def add(name: str) -> None:
        run = registry.runs[name]
        for command in run.commands:
            for other in _RUN.findall(command):
                add(other)
        found.setdefault(name, run)

    for protocol in table.protocols().values():
        add(protocol.run)
    return list(found.values())


def _needed_sets(table: PublishedTable, runs: Sequence[RunPlan]) -> list[str]:
    benchmark = BENCHMARKS.get(table.benchmark or "")
    own = [] if benchmark is None else [benchmark.id, *_ood_sets(table)]
    return list(dict.fromkeys([*own, *(name for run in runs for name in run.sets)]))


def _ood_sets(table: PublishedTable) -> list[str]:
    benchmark = BENCHMARKS.get(table.benchmark or "")
    return [] if benchmark is None else [name for names in benchmark.ood.values() for name in names]


def _set(name: str, table: PublishedTable, wishes: Wishes) -> Need:
    if name in wishes.stand_in:
        try:
            own = find_set(wishes.root, wishes.stand_in[name])
        except MissingSetError as error:
            raise MmoodError(f"--stand_in {name}={wishes.stand_in[name]}: {error}") from error
        return Need(f"set {name}", True, f"STAND-IN: {own.name}, {own.count:,} images")
    if wishes.stand_in and name in _ood_sets(table):
        return Need(f"set {name}", True, "left out, since others have stand-ins and it has none")
    recipe = find_recipe(name)
    index = ready(Path(wishes.root), recipe)
    if index is not None:
        return Need(f"set {name}", True, f"{index.count:,} images in {wishes.root}")
    return Need(f"set {name}", False, f"{_size(recipe)}. Licence: {recipe.licence}")


def _size(recipe: Recipe) -> str:
    count = "?" if recipe.count is None else f"{recipe.count:,}"
    sizes = [need.best.expected_bytes for need in recipe.images]
    known = [size for size in sizes if size is not None]
    fetched = f", {sum(known) / 1e9:,.1f} GB to download" if known and len(known) == len(sizes) else ""
    by_hand = ", one archive by hand" if recipe.is_manual else ""
    return f"{count} images{fetched}{by_hand}"


def _weights(table: PublishedTable, registry: Registry, wishes: Wishes) -> Need:
    own = wishes.given("--model.encoder.name")
    name = own or table.model
    path = cached_weights(name)
    if own is not None and own not in registry.same_weights(table.model):
        return Need(f"weights {name}", path is not None, f"STAND-IN for {table.model}")
    known = registry.models.get(table.model)
    size = "" if known is None else f"{_BYTES_OF_A_WEIGHT * known.parameters / 1e9:.1f} GB in float32"
    return Need(f"weights {name}", path is not None, size if path is None else f"{size}, at {path}")


def _flag(flag: str, why: str, wishes: Wishes) -> Need:
    value = wishes.given(flag)
    return Need(f"flag {flag}", value is not None, why if value is None else f"{value}")


def _prepare(table: PublishedTable, missing: Sequence[str], wishes: Wishes) -> list[str]:
    if not missing:
        return []
    own = set(_needed_sets(table, ()))
    of_benchmark = [table.benchmark] if table.benchmark and own & set(missing) else []
    names = [*of_benchmark, *(name for name in missing if name not in own)]
    return [shlex.join(["mmood", "prepare", *names, "--root", wishes.root])]


def _fetch(steps: Sequence[Step], table: PublishedTable, wishes: Wishes) -> str:
    """Return the command that loads the weights, once the sets are there."""
    words = next(step.arguments for step in steps if step.stage in STAGES)
    config = words[words.index("--config") : words.index("--config") + 2] if "--config" in words else words[1:-2]
    return shlex.join(["mmood", "doctor", *config, "--data.root", wishes.root, *_encoder(table, wishes)])


def _folders(run: RunPlan, table: PublishedTable) -> tuple[str, ...]:
    model = "" if table.model == _OF_CONFIGS else f"@{re.sub(r'[^A-Za-z0-9.-]', '-', table.model)}"
    return tuple(f"{run.name}{model}-{seed}" for seed in run.seeds) or (f"{run.name}{model}",)


def _test_folder(table: PublishedTable) -> str:
    return table.benchmark or "test"


def _steps(run: RunPlan, table: PublishedTable, wishes: Wishes, folders: Mapping[str, tuple[str, ...]]) -> list[Step]:
    found = []
    for place, folder in enumerate(folders[run.name]):
        out = wishes.out / folder
        for number, command in enumerate(run.commands):
            filled = _RUN.sub(lambda match: str(wishes.out / folders[match[1]][0]), command)
            words = shlex.split(filled.replace("{out}", str(out)))
            if words[0] in STAGES:
                seed = ["--seed_everything", str(run.seeds[place])] if run.seeds and words[0] == "fit" else []
                target = out / _test_folder(table) if words[0] == "test" else out
                own = [*seed, *_places(words[0], table, run, wishes), *_encoder(table, wishes), *_stage_flags(wishes)]
                words += [*own, "--run_dir", str(target)]
            else:
                words += _other_flags(wishes)
            found.append(
                Step(folder, f"{number}-{_test_folder(table)}" if words[0] == "test" else str(number), tuple(words))
            )
    return found


def _encoder(table: PublishedTable, wishes: Wishes) -> list[str]:
    """Return the flag of the table's model, where it is not that of the configs and the user has named no other."""
    if table.model == _OF_CONFIGS or wishes.given("--model.encoder.name") is not None:
        return []
    return ["--model.encoder.name", table.model]


def _places(stage: str, table: PublishedTable, run: RunPlan, wishes: Wishes) -> list[str]:
    """Return the flags that say where the sets are."""
    places = ["--data.root", wishes.root]
    benchmark = BENCHMARKS.get(table.benchmark or "")
    if benchmark is not None and not wishes.stand_in:
        # A training is the same for every benchmark.
        places += ["--data.benchmark", benchmark.name] if stage == "test" else []
    elif benchmark is not None:
        named = {name: wishes.stand_in.get(name, "") for names in (benchmark.ood.values()) for name in names}
        groups = {
            group: ", ".join(named[name] for name in names if named[name]) for group, names in benchmark.ood.items()
        }
        ood = ", ".join(f"{group}: [{names}]" for group, names in groups.items() if names)
        places += ["--data.benchmark", "null", "--data.id", wishes.stand_in.get(benchmark.id, benchmark.id)]
        places += ["--data.ood", f"{{{ood}}}"]
    return places + [word for name in run.sets for word in ("--data.train", wishes.stand_in.get(name, name))]


def _stage_flags(wishes: Wishes) -> list[str]:
    return [word for flag in _split(wishes.flags) if _OF_STAGES.match(flag[0]) for word in flag]


def _other_flags(wishes: Wishes) -> list[str]:
    return [word for flag in _split(wishes.flags) if not _OF_STAGES.match(flag[0]) for word in flag]


def _split(flags: Sequence[str]) -> list[list[str]]:
    """Return each flag with its values."""
    found: list[list[str]] = []
    for word in flags:
        if word.startswith("--") or not found:
            found.append([word])
        else:
            found[-1].append(word)
    return found
