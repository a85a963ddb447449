"""The commands of a plan, run one after another; what is done is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from mmood.errors import MmoodError
from mmood.files import parse_json, read_limited, write_atomically
from mmood.reproduction.plan import Step, Wishes

RECORD = "reproduce.json"
_SCHEMA = 1


class Record:
    """What is done in a folder, and with which flags; kept in `reproduce.json`.

    Args:
        wishes: of the user.

    Raises:
        MmoodError: the folder was begun with other flags, which would mix numbers of two set-ups.
    """

    def __init__(self, wishes: Wishes) -> None:
        self.path = wishes.out / RECORD
        self.wishes = wishes.as_dict()
        self.done: dict[str, list[str]] = {}
        if self.path.is_file():
            what = f"The record {self.path}"
            stored = parse_json(read_limited(self.path, what), what)
            known = stored if isinstance(stored, dict) else {}
            if known.get("schema") != _SCHEMA or not isinstance(known.get("done"), dict):
                raise MmoodError(f"{what} is not of this version of mmood; choose another --out.")
            if known.get("wishes") != self.wishes:
                raise MmoodError(f"{what} was begun with other flags; give the same ones, or choose another --out.")
            self.done = known["done"]

    def has(self, step: Step) -> bool:
        """Return whether a step is done, by the same command, and its results are still there."""
        tested = step.stage != "test" or step.folder is None or (step.folder / "results.json").is_file()
        return self.done.get(step.id) == list(step.arguments) and tested

    def add(self, step: Step) -> None:
        """Keep that a step is done."""
        self.done[step.id] = list(step.arguments)
        content = {"schema": _SCHEMA, "wishes": self.wishes, "done": self.done}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, (json.dumps(content, indent=1) + "\n").encode())


def run_steps(
    steps: Sequence[Step], record: Record, command: Callable[[list[str]], int], say: Callable[[str], None]
) -> str | None:
    """Run the steps that are not done; return why it stopped, None if all are done.

    Args:
        steps: of a plan.
        record: of what is done.
        command: runs `mmood` with these arguments and returns its exit code.
        say: takes what is shown.
    """
    for number, step in enumerate(steps, 1):
        if record.has(step):
            say(f"[{number}/{len(steps)}] {step.run}: done before: mmood {step.stage}")
            continue
        say(f"[{number}/{len(steps)}] {step.run}: {step.line()}")
        if code := command([*step.arguments, *_resumed(step)]):
            return f"The command ended with code {code}: {step.line()}. Started again, it goes on there."
        record.add(step)
    return None


def _resumed(step: Step) -> list[str]:
    """Return the flags with which a step that was stopped goes on: a training at its last checkpoint, a test anew."""
    if step.folder is None:
        return []
    checkpoint = step.folder / "checkpoints" / "last.ckpt"
    if step.stage == "fit" and checkpoint.exists():
        return ["--ckpt_path", str(checkpoint)]
    return ["--overwrite", "true"] if step.stage == "test" and (step.folder / "results.json").exists() else []
