"""What an object was built with is recorded as plain data, all of it, or refused."""

import copy
import functools
import json
import pickle
from abc import ABC
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmood.errors import MmoodError
from mmood.settings import Recorded, plain


class Colour(Enum):
    RED = 1


@dataclass(frozen=True)
class Inner:
    weights: tuple[float, ...] = (0.1,)
    names: dict[str, list[int]] = field(default_factory=lambda: {"a": [1]})


class Abstract(Recorded, nn.Module, ABC):
    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = 2 * k


class Everything(Abstract):
    def __init__(
        self,
        k: int = 3,
        layers: tuple[int, ...] = (1, 2),
        inner: Inner = Inner(),
        colour: Colour = Colour.RED,
        folder: Path | None = None,
        make: object = functools.partial(torch.optim.SGD, lr=0.5),
    ) -> None:
        super().__init__(k)


class Plain(Abstract):
    """Takes the constructor as it is."""


class Outer(Recorded):
    def __init__(self, scores: dict[str, Abstract], more: object = None) -> None:
        self.scores = scores


ALL = {
    "k": 3,
    "layers": [1, 2],
    "inner": {"weights": [0.1], "names": {"a": [1]}},
    "colour": "RED",
    "folder": None,
    "make": {"class_path": "torch.optim.sgd.SGD", "init_args": {"lr": 0.5}},
}


def test_all_arguments_are_recorded_defaults_too():
    assert Everything().settings() == ALL
    given = Everything(4, (5,), folder=Path("/x"), inner=Inner(weights=(1, 2))).settings()
    assert given == {**ALL, "k": 4, "layers": [5], "folder": "/x", "inner": {"weights": [1, 2], "names": {"a": [1]}}}
    assert json.loads(json.dumps(given)) == given


def test_what_was_given_counts_not_what_the_object_made_of_it():
    assert Plain(3).settings() == {"k": 3}
    assert Plain(k=3).k == 6


def test_recorded_objects_inside_others_bring_their_class():
    found = Outer({"one": Plain(1)}).settings()["scores"]
    assert found == {"one": {"class_path": f"{__name__}.Plain", "init_args": {"k": 1}}}


def test_a_record_is_no_way_to_change_an_object():
    score = Everything()
    score.settings()["layers"].append(3)
    assert score.settings() == ALL


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_keep_the_record(copied):
    assert copied(Plain(7)).settings() == {"k": 7}


def test_wrong_arguments_are_still_type_errors():
    with pytest.raises(TypeError, match="nonsense"):
        Plain(1, nonsense=2)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        Plain()


@pytest.mark.parametrize("value", [object(), torch.zeros(2), b"bytes", iter([1]), functools.partial(print, 1)])
def test_what_cannot_be_written_is_refused_when_it_is_built(value):
    with pytest.raises(MmoodError, match=r"^Outer\.more is a .* cannot be written as plain data"):
        Outer({}, value)
    with pytest.raises(MmoodError, match=r"^Outer\.more\.x\[1\] is a "):
        Outer({}, {"x": [1, value]})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("nan")])
def test_numbers_are_finite(value):
    with pytest.raises(MmoodError, match=r"Outer\.more is (nan|inf); it must be a finite number"):
        Outer({}, value)


@pytest.mark.parametrize("rest", ["*args", "**kwargs"])
def test_a_constructor_names_its_arguments(rest):
    with pytest.raises(MmoodError, match=f"The constructor of Wrong takes '{rest.strip('*')}'"):
        exec(f"class Wrong(Recorded):\n    def __init__(self, {rest}): pass", {"Recorded": Recorded})


def test_kinds():
    assert plain(np.int64(3), "x") == 3
    assert plain({2: frozenset({"b", "a"})}, "x") == {"2": ["a", "b"]}
    assert plain(torch.optim.Adam, "x") == "torch.optim.adam.Adam"
    assert plain(test_kinds, "x") == f"{__name__}.test_kinds"
