"""Files of tests in the order of the time that they take, so that no worker is left with a long one at the end.

`pytest --record-seconds` (`make seconds`) writes `tests/seconds.json` anew. It need not be exact: only the order counts.
"""

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

RECORD = Path(__file__).parents[1] / "seconds.json"
UNKNOWN = 10.0
"""Seconds that a file is expected to take which is not in the record."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-seconds", action="store_true", help="write the time of each file to tests/seconds.json")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-seconds") and "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(Recorder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    longest_first(items, json.loads(RECORD.read_text()))


def longest_first(items: list[pytest.Item], seconds: dict[str, float]) -> None:
    """Sort tests by what their files take; those of one file stay together and in their order."""

    def key(item: pytest.Item) -> tuple[float, str]:
        name = file_of(item.nodeid)
        return -seconds.get(name, UNKNOWN), name

    items.sort(key=key)


def file_of(nodeid: str) -> str:
    """Return the file of a test."""
    return nodeid.partition("::")[0]


class Recorder:
    """Adds up what the tests of each file take, in whichever worker."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[file_of(report.nodeid)] += report.duration

    def pytest_sessionfinish(self) -> None:
        largest = sorted(self.seconds.items(), key=lambda entry: -entry[1])
        RECORD.write_text(json.dumps({name: round(spent, 1) for name, spent in largest}, indent=1) + "\n")
