"""An audit of OoD sets by embedding: near copies of ID images, and images that look like an ID class.

The only threshold is that of near copies: whether an image looks like a class is decided by comparison with the ID test
images of that class, half of which must be no nearer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from mmood.data.catalog import ID_GROUP, ID_GROUPS, EvaluationSet
from mmood.errors import MmoodError
from mmood.evaluation.overlap import IdImages
from mmood.features.store import StoredFeatures
from mmood.modules.base import AbstractDetector
from mmood.results.audit import Audit, AuditedImage, AuditedSet

COSINE = 0.95
"""From this cosine on, two images are near copies: re-encoded, resized or lightly cropped ones stay above it."""
LISTED = 48
"""Images of a set that are listed, at most."""
_ROWS = 1024
_BANK_ROWS = 2**16


@dataclass(frozen=True)
class AuditSide:
    """The images of a set.

    Attributes:
        name: of the set.
        index_sha256: hash of its index.
        keys: (N,) of the images.
        embedding: (N, D) of unit norm.
        label: (N,) ID class of each; of an OoD set anything.
    """

    name: str
    index_sha256: str
    keys: Int[Tensor, " images"]
    embedding: Float[Tensor, "images dim"]
    label: Int[Tensor, " images"]

    @classmethod
    def of(cls, name: str, index_sha256: str, keys: Int[Tensor, " images"], store: StoredFeatures) -> AuditSide:
        """Return the images with these keys; by their features where the encoder has no embedding."""
        rows = (store.features if store.embedding is None else store.embedding)[keys]
        return cls(name, index_sha256, keys, normalize(rows.float(), dim=-1), store.label[keys])


@dataclass(frozen=True)
class IdSide:
    """The ID images and classes that OoD images are compared with.

    Attributes:
        test: the ID test images.
        train: the ID training images, None without.
        prototypes: (C, D) of the class names, None without a text encoder.
        class_names: the C ID classes.
    """

    test: AuditSide
    train: AuditSide | None
    prototypes: Float[Tensor, "classes dim"] | None
    class_names: Sequence[str]

    def sides(self) -> list[AuditSide]:
        """Return the sets of ID images."""
        return [self.test] if self.train is None else [self.test, self.train]


def audit_sets(module: AbstractDetector, sets: Mapping[str, EvaluationSet], train: IdImages | None) -> Audit | None:
    """Return what an audit finds in the OoD sets of a test, None without ID test images; every rank must call this.

    Args:
        module: whose encoder and class names are asked.
        sets: the ID set and the OoD sets.
        train: the ID training images, None if there are none.
    """
    entries = {name: (entry.index, entry.keys) for name, entry in sets.items() if entry.count}
    if train is not None:
        entries[train.index.name] = train.index, train.keys
    provider = module.id_features()
    with torch.inference_mode(False), torch.no_grad():
        stores = provider.on_disk({name: index for name, (index, _) in entries.items()})
    sides = {
        name: AuditSide.of(name, index.hash, torch.from_numpy(keys), stores[name])
        for name, (index, keys) in entries.items()
    }
    if not module.stream_scores():  # which read the same features, and discard them when they are done
        provider.discard()
    test = next((sides[name] for name, entry in sets.items() if entry.group == ID_GROUP and name in sides), None)
    if test is None:
        return None
    trained = None if train is None else sides[train.index.name]
    known = IdSide(test, trained, _prototypes(module), module.class_names)
    return audit([sides[name] for name, entry in sets.items() if entry.group not in ID_GROUPS and name in sides], known)


def _prototypes(module: AbstractDetector) -> Float[Tensor, "classes dim"] | None:
    try:
        return module.reference().prototypes.float().cpu()
    except MmoodError:  # an encoder without texts
        return None


def audit(ood: Sequence[AuditSide], known: IdSide, cosine: float = COSINE) -> Audit:
    """Return the OoD images that look like ID images.

    Args:
        ood: the OoD sets.
        known: the ID side.
        cosine: from which on two images are near copies.
    """
    ways = {} if known.prototypes is None else {"class_name": _by_name(known.test, known.prototypes)}
    if known.train is not None:
        ways["training_image"] = _by_image(known.test, known.train)
    found = [_Looks.of(side, known, ways, cosine) for side in ood]
    return Audit(
        cosine=cosine,
        index_sha256={side.name: side.index_sha256 for side in (*ood, *known.sides())},
        sets=tuple(looks.counts() for looks in found),
        images=tuple(image for looks in found for image in looks.images()),
    )


def nearest(
    queries: Float[Tensor, "queries dim"], bank: Float[Tensor, "bank dim"]
) -> tuple[Float[Tensor, " queries"], Int[Tensor, " queries"]]:
    """Return the largest cosine of each query with a row of the bank, and the first row that has it.

    Args:
        queries: of unit norm.
        bank: of unit norm, at least one row.
    """
    values, rows = [], []
    for part in torch.split(queries, _ROWS):
        best, row = torch.full((len(part),), -torch.inf), torch.zeros(len(part), dtype=torch.int64)
        for start in range(0, len(bank), _BANK_ROWS):
            value, place = (part @ bank[start : start + _BANK_ROWS].T).max(dim=1)
            better = value > best
            best, row = torch.where(better, value, best), torch.where(better, place + start, row)
        values.append(best)
        rows.append(row)
    return torch.cat([*values, torch.empty(0)]), torch.cat([*rows, torch.empty(0, dtype=torch.int64)])


@dataclass(frozen=True)
class _Typical:
    """What is near, and how near the ID test images of each class are to it.

    Attributes:
        bank: (N, D) prototypes or training images.
        label: (N,) class of each.
        median: (C,) median over the ID test images of a class; infinite for a class without any.
    """

    bank: Float[Tensor, "bank dim"]
    label: Int[Tensor, " bank"]
    median: Float[Tensor, " classes"]

    def looks_like(self, side: AuditSide) -> tuple[Tensor, Int[Tensor, " images"]]:
        """Return which images are as near to a class as half of its own, and the class of each."""
        cosine, row = nearest(side.embedding, self.bank)
        label = self.label[row]
        return cosine >= self.median[label], label


def _by_name(test: AuditSide, prototypes: Float[Tensor, "classes dim"]) -> _Typical:
    own = (test.embedding * prototypes[test.label]).sum(dim=1)
    return _Typical(prototypes, torch.arange(len(prototypes)), _medians(own, test.label, len(prototypes)))


def _by_image(test: AuditSide, train: AuditSide) -> _Typical:
    classes = int(max(test.label.max(), train.label.max())) + 1
    own = torch.zeros(len(test.label))
    for label in torch.unique(test.label).tolist():
        of_class = train.embedding[train.label == label]
        inside = test.label == label
        # A class without training images is nobody's nearest.
        own[inside] = nearest(test.embedding[inside], of_class)[0] if len(of_class) else torch.inf
    return _Typical(train.embedding, train.label, _medians(own, test.label, classes))


def _medians(values: Float[Tensor, " n"], label: Int[Tensor, " n"], classes: int) -> Float[Tensor, " classes"]:
    medians = torch.full((classes,), torch.inf)
    for own in torch.unique(label).tolist():
        medians[own] = values[label == own].median()
    return medians


@dataclass(frozen=True)
class _Looks:
    """What the images of an OoD set look like.

    Attributes:
        side: the set.
        known: the ID side.
        flags: reason -> (N,) which images it holds for.
        labels: reason -> (N,) class of each image by it.
        cosine: (N,) with the nearest ID image.
        of_side: (N,) which of the sets of ID images that is in.
        place: (N,) its position there.
    """

    side: AuditSide
    known: IdSide
    flags: dict[str, Tensor]
    labels: dict[str, Tensor]
    cosine: Float[Tensor, " images"]
    of_side: Int[Tensor, " images"]
    place: Int[Tensor, " images"]

    @classmethod
    def of(cls, side: AuditSide, known: IdSide, ways: Mapping[str, _Typical], cosine: float) -> _Looks:
        found = [nearest(side.embedding, other.embedding) for other in known.sides()]
        best, of_side = torch.stack([values for values, _ in found]).max(dim=0)
        place = torch.stack([rows for _, rows in found]).gather(0, of_side[None])[0]
        looks = {reason: typical.looks_like(side) for reason, typical in ways.items()}
        flags = {"near_copy": best >= cosine, **{reason: flag for reason, (flag, _) in looks.items()}}
        return cls(side, known, flags, {reason: label for reason, (_, label) in looks.items()}, best, of_side, place)

    def counts(self) -> AuditedSet:
        """Return the number of images by reason."""
        counts = {reason: int(flag.sum()) for reason, flag in self.flags.items()}
        return AuditedSet(
            set=self.side.name,
            n=len(self.side.keys),
            near_copies=counts["near_copy"],
            class_name=counts.get("class_name"),
            training_image=counts.get("training_image"),
        )

    def images(self) -> list[AuditedImage]:
        """Return the near copies, and what looks like an ID class in every way that there is: one alone says little."""
        listed = self.flags["near_copy"]
        if self.labels:
            listed = listed | torch.stack([self.flags[reason] for reason in self.labels]).all(dim=0)
        rows = listed.nonzero().flatten()
        order = rows[self.cosine[rows].argsort(descending=True, stable=True)][:LISTED]
        return [self._image(row) for row in order.tolist()]

    def _image(self, row: int) -> AuditedImage:
        other, place = self.known.sides()[int(self.of_side[row])], int(self.place[row])
        by_class = (int(label[row]) for reason, label in self.labels.items() if self.flags[reason][row])
        return AuditedImage(
            set=self.side.name,
            key=int(self.side.keys[row]),
            reasons=tuple(reason for reason, flag in self.flags.items() if flag[row]),
            cosine=round(float(self.cosine[row]), 6),
            id_set=other.name,
            id_key=int(other.keys[place]),
            id_class=self.known.class_names[next(by_class, int(other.label[place]))],
        )
