"""The order of the files of tests: by their time, and the tests of one file together."""

from types import SimpleNamespace

from longest_first import UNKNOWN, longest_first


def test_longest_files_first_and_tests_in_their_order():
    names = ["a.py::1", "a.py::2", "new.py::1", "b.py::2", "b.py::1", "c.py::1"]
    items = [SimpleNamespace(nodeid=name) for name in names]
    longest_first(items, {"a.py": UNKNOWN / 2, "b.py": UNKNOWN * 2, "c.py": UNKNOWN / 2})
    assert [item.nodeid for item in items] == ["b.py::2", "b.py::1", "new.py::1", "a.py::1", "a.py::2", "c.py::1"]
