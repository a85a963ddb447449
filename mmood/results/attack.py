"""What an attack has done to a detector, as rows of `attack.json`: per score, budget, direction and set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from mmood.errors import MmoodError
from mmood.files import parse_json, read_limited
from mmood.files.fields import Fields
from mmood.output.escaping import csv_text
from mmood.runs.identity import RUN_ID

SCHEMA = 1
FILE = "attack.json"
Side = Literal["clean", "ood-as-id", "id-as-ood", "both"]


@dataclass(frozen=True, kw_only=True)
class AttackRow:
    """One score on the ID set and one OoD set, either or both of them attacked.

    Attributes:
        detector: that gives the scores: None for the one that was attacked, or the name of one that the images are
            transferred to.
        score: name of the score.
        attacked: the score that the images were made for; None for clean images and for a manipulation, which moves
            features.
        side: which images are attacked: OoD images `ood-as-id`, ID images `id-as-ood`, both, or none (`clean`).
        eps: the radius as it was written; None for clean images and for a manipulation, which has none.
        set: name of the OoD set.
        group: of the set.
        n_id: number of ID images.
        n_ood: number of OoD images.
        auroc: of these ID images against these OoD images.
        fpr95_id_pos: with a threshold that accepts 95 % of these ID images.
        ood_accepted: share of the OoD images that the clean threshold accepts: it accepts 95 % of the clean ID images.
        id_accepted: share of the ID images that it accepts.
        hidden: share of the OoD images rejected when clean that are accepted when attacked; None if none is attacked,
            or none was rejected.
        broken: share of the ID images accepted when clean that are rejected when attacked; None if none is attacked.
    """

    detector: str | None
    score: str
    attacked: str | None
    side: Side
    eps: str | None
    set: str
    group: str
    n_id: int
    n_ood: int
    auroc: float
    fpr95_id_pos: float
    ood_accepted: float
    id_accepted: float
    hidden: float | None
    broken: float | None


@dataclass(frozen=True)
class AttackResults:
    """Everything that a run of attacks measured.

    Attributes:
        run: id of the run.
        settings: of the attack, as plain data.
        rows: clean ones first.
    """

    run: str
    settings: Mapping[str, object]
    rows: tuple[AttackRow, ...]

    def to_json(self) -> str:
        """Return the text of `attack.json`; numbers are in [0, 1]."""
        rows = [asdict(row) for row in self.rows]
        document = {"schema": SCHEMA, "run": self.run, "attack": dict(self.settings), "rows": rows}
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Return every row with its numbers in full."""
        names = [field.name for field in fields(AttackRow)]
        return csv_text([[*names, "run"], *([*asdict(row).values(), self.run] for row in self.rows)])


def read_attack(path: Path) -> AttackResults:
    """Return what a run of `mmood attack` has measured; `path` is its folder or its `attack.json`.

    Raises:
        MmoodError: there is no such file, it is of another schema, or a field is missing or impossible.
    """
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise MmoodError(f"There are no results of an attack at {path}; `mmood attack` writes them.")
    top = Fields(parse_json(read_limited(path, str(path)), str(path)), str(path))
    if (schema := top.whole("schema")) != SCHEMA:
        raise MmoodError(f"{path} has schema {schema}; this version of mmood reads schema {SCHEMA}.")
    run = top.value("run", lambda v: isinstance(v, str) and bool(RUN_ID.fullmatch(v)), "16 hexadecimal digits")
    return AttackResults(str(run), top.mapping("attack"), tuple(_row(row) for row in top.children("rows")))


def _row(row: Fields) -> AttackRow:
    side: Side = row.value("side", lambda v: v in get_args(Side), f"one of {', '.join(get_args(Side))}")
    return AttackRow(
        detector=row.text_or_null("detector"),
        score=row.text("score"),
        attacked=row.text_or_null("attacked"),
        side=side,
        eps=row.text_or_null("eps"),
        set=row.text("set"),
        group=row.text("group"),
        n_id=row.count("n_id"),
        n_ood=row.count("n_ood"),
        auroc=row.share("auroc"),
        fpr95_id_pos=row.share("fpr95_id_pos"),
        ood_accepted=row.share("ood_accepted"),
        id_accepted=row.share("id_accepted"),
        hidden=row.share_or_null("hidden"),
        broken=row.share_or_null("broken"),
    )
