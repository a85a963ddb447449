"""Damaged files in every reader: the answer is a correct result or one clear sentence, soon and in bounded memory.

`MMOOD_FUZZ=N` gives each reader about N inputs, 20 without it. They are the same every time, in `make test-all` too, unless
`MMOOD_FUZZ_ANEW` is set (`make fuzz`, 60,000 in all).
"""

import os
import resource
import shutil
import signal
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import READERS, build_world, check_sentence

from mmood.errors import MmoodError

INPUTS = int(os.environ.get("MMOOD_FUZZ", "20"))
ANEW = "MMOOD_FUZZ_ANEW" in os.environ
SECONDS = 20
"""An answer takes milliseconds; a machine under load may take longer, a hang never ends."""
MEMORY = 2**20
"""KiB that a reader may add to the process at its highest: two images of the most pixels, and room."""


class Hang(BaseException):
    """No answer in time; no reader may catch it."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    build_world(folder / "valid")
    return folder


@pytest.fixture(scope="module")
def tried():
    counts: dict[str, list[int]] = {}
    yield counts
    total = sum(sum(count) for count in counts.values())
    print(f"\n{'reader':20} {'read':>7} {'refused':>7}")
    for name, (read, refused) in counts.items():
        print(f"{name:20} {read:7} {refused:7}")
    print(f"{total} damaged files in {len(counts)} readers, each read or refused in a sentence.")


def _hang(*_):
    raise Hang


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused(name, world, tried):
    reader, folder = READERS[name], world / name
    shutil.copytree(world / "valid", folder)
    file = folder / reader.file
    valid = file.read_bytes()
    reader.read(folder)  # the valid file itself is read
    counts = tried.setdefault(name, [0, 0])
    before, handler = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, signal.signal(signal.SIGALRM, _hang)

    @settings(
        max_examples=max(1, round(INPUTS * reader.share)),
        deadline=None,
        database=None,
        derandomize=not ANEW,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def damage(rng: Random) -> None:
        file.write_bytes(reader.damage(valid, rng))
        signal.alarm(SECONDS)
        try:
            reader.read(folder)
            counts[0] += 1
        except MmoodError as error:
            counts[1] += 1
            check_sentence(error)
        finally:
            signal.alarm(0)

    try:
        damage()
    finally:
        signal.signal(signal.SIGALRM, handler)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY
