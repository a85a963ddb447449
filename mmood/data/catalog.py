"""The sets below a root, found by name, and what is demanded of them before any image is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmood.classes.matching import Classes, compare
from mmood.classes.names import load_class_names
from mmood.data.benchmarks import how_to_get
from mmood.errors import MmoodError
from mmood.loading.plan import held_out
from mmood.sets.finding import Classing, find_set
from mmood.sets.places import set_name
from mmood.shards.index import Keys, MissingSetError, SetIndex

ID_GROUP = "id"
CSID_GROUP = "csid"
"""The group of covariate-shifted ID sets: the ID classes, in images of another kind."""
ID_GROUPS = (ID_GROUP, CSID_GROUP)


@dataclass(frozen=True)
class Member:
    """A set that a stage is to evaluate, before its index is read.

    Attributes:
        name: the key of its loader.
        group: `id`, `csid`, or the name of the OoD group.
        set: what the settings call the set; see `place_of`.
        held_out: fraction of the set that is meant, None for all of it.
    """

    name: str
    group: str
    set: str
    held_out: float | None = None


@dataclass(frozen=True)
class EvaluationSet:
    """A set under evaluation.

    Attributes:
        name: the key of its loader.
        group: `id`, `csid`, or the name of the OoD group.
        index: the index of the set.
        count: number of samples that all ranks together yield.
        keys: their keys, ascending.
    """

    name: str
    group: str
    index: SetIndex
    count: int
    keys: Keys


def members(
    id: str | float | None, ood: dict[str, list[str]], train: str | None, csid: Sequence[str] = ()
) -> list[Member]:
    """Return the sets that a stage evaluates, ID and csid sets first; a fraction as `id` is a share of `train`."""
    found = []
    if isinstance(id, str):
        found.append(Member(set_name(id), ID_GROUP, id))
    elif id is not None:
        if train is None:
            raise MmoodError(f"`data.val.id` is {id}, a fraction of `data.train`, but `data.train` is not set.")
        found.append(Member(f"{set_name(train)}_held_out", ID_GROUP, train, id))
    groups = {CSID_GROUP: csid, **ood}
    return found + [Member(set_name(name), group, name) for group, names in groups.items() for name in names]


class Catalog:
    """The indices of sets, each found once.

    Args:
        root: folder, http(s) prefix or command that holds the sets.
        pipes: whether an index may name commands.
        id_sets: what the settings call the ID sets, whose images need labels.
        class_names: what the settings say of the ID classes, by which their folders are labelled; None for the folders'
            own names.
    """

    def __init__(
        self,
        root: str,
        pipes: bool,
        id_sets: Iterable[str] = (),
        class_names: str | Sequence[str] | None = None,
    ) -> None:
        self.root = root
        self.pipes = pipes
        self.id_sets = frozenset(id_sets)
        self._class_names = class_names
        self._indices: dict[str, SetIndex] = {}

    def index(self, name: str) -> SetIndex:
        """Return the index of a set."""
        return self.indices([name])[name]

    def indices(self, names: Iterable[str]) -> dict[str, SetIndex]:
        """Return the indices of sets by name; MmoodError names all that are missing, and where to get known ones."""
        missing: dict[str, MissingSetError] = {}
        wanted = dict.fromkeys(names)
        for name in wanted:
            if name not in self._indices:
                try:
                    self._indices[name] = find_set(self.root, name, self.pipes, self._classing(name))
                except MissingSetError as error:
                    missing[name] = error
        if missing:
            raise MissingSetError(_missing_sentence(self.root, missing))
        return {name: self._indices[name] for name in wanted}

    def _classing(self, name: str) -> Classing:
        if name not in self.id_sets:
            return Classing()
        return Classing(() if self._class_names is None else load_class_names(self._class_names), needed=True)

    def known(self) -> list[SetIndex]:
        """Return the indices that were read so far."""
        return list(self._indices.values())

    def evaluation_sets(self, wanted: Iterable[Member]) -> dict[str, EvaluationSet]:
        """Return the sets of a stage by the names of their loaders, in order."""
        entries = list(wanted)
        indices = self.indices(member.set for member in entries)
        found = {}
        for member in entries:
            index = indices[member.set]
            keys = index.keys() if member.held_out is None else held_out(index.keys(), member.held_out)
            found[member.name] = EvaluationSet(member.name, member.group, index, len(keys), keys)
        return found


def has_labels(group: str, index: SetIndex) -> bool:
    """Return whether the labels of a set in this group are read: those of ID sets, and of csid sets that have some."""
    return group == ID_GROUP or (group == CSID_GROUP and index.classes is not None)


def check_classes(index: SetIndex, class_names: Sequence[str] | None) -> str:
    """Return what there is to say of the classes of an ID set beside the class names, as a sentence; "" if nothing.

    Raises:
        MmoodError: it has no labels, another number of classes, or the same names in another order.
    """
    if index.classes is None:
        raise MmoodError(
            f"The set '{index.name}' is used as ID, but it has no labels (`cls`, or a subfolder for each class)."
        )
    if class_names is None:
        return ""
    # Without names in the index its number of classes is the highest label seen + 1: a lower bound.
    fits = index.classes == len(class_names) if index.class_names else index.classes <= len(class_names)
    if not fits:
        raise MmoodError(
            f"The set '{index.name}' has {index.classes} classes, but `data.class_names` has {len(class_names)} names."
        )
    return _compared(index, class_names)


def check_not_empty(index: SetIndex) -> None:
    """Raise MmoodError if a set has no sample: nothing could be said of it."""
    if index.count == 0:
        raise MmoodError(
            f"The set '{index.name}' has no samples; its shards are empty, or were empty when they were indexed."
        )


def joined_classes(index: SetIndex, class_names: Sequence[str] | None) -> Classes | None:
    """Return folders and names of the classes of an ID set as a run would use them; None if the set knows neither."""
    known = index.known_names
    folders = index.class_folders or known
    if not folders:
        return None
    names = tuple(class_names or index.class_names or folders)[: len(folders)]
    return Classes(folders, names, compare(known, names).odd if known else ())


def _compared(index: SetIndex, class_names: Sequence[str]) -> str:
    known = index.known_names
    if not known:
        return (
            f"The set '{index.name}' has no class names in its index, so the order of `data.class_names` could not be "
            "checked against its labels."
        )
    comparison = compare(known, class_names)
    if comparison.moved is not None:
        label, other = comparison.moved
        raise MmoodError(
            f"The set '{index.name}' and `data.class_names` have the same names in different orders: label {label} is "
            f"'{known[label]}' in the set and '{class_names[label]}' in `data.class_names`, where "
            f"'{class_names[other]}' is label {other}; give the names in the order of the set's labels, or pack the "
            "set again with `mmood pack --classes` and these names."
        )
    if not comparison.odd:
        return ""
    first = comparison.odd[0]
    return (
        f"The set '{index.name}' and `data.class_names` call {len(comparison.odd)} of {len(known)} classes "
        f"differently, such as '{known[first]}' and '{class_names[first]}' at label {first}; check that they mean the "
        "same classes."
    )


def _missing_sentence(root: str, missing: dict[str, MissingSetError]) -> str:
    advice = how_to_get(list(missing), root)
    if len(missing) == 1:
        return " ".join([str(error) for error in missing.values()] + ([advice] if advice else []))
    names = ", ".join(f"'{name}'" for name in missing)
    unindexed = [str(error) for error in missing.values() if "mmood pack --index" in str(error)]
    there = f"There are no sets {names} below {root}; set `data.root` to the folder that contains them."
    return " ".join([there, *unindexed, *([advice] if advice else [])])
