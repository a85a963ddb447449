"""Few open files: a sentence before the work, in place of torch's hang; room is made where the system allows it."""

import errno
import resource

import pytest

from mmood.runs.open_files import needed_by_workers, no_room

CONFIG = ("--config", "vitb16_zeroshot.yaml", "--data.features", "off")


def limited(soft, hard, arguments):
    from mmood.cli.main import main

    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    code = main(arguments)
    print("soft limit", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return code


@pytest.mark.parametrize("limit", [24, 32, 40])
def test_workers_need_files(limit, toy_flags, tmp_path, forked):
    arguments = ["test", *CONFIG, *toy_flags, "--data.loader.workers", "2", "--run_dir", str(tmp_path / "run")]
    finished = forked.call(limited, limit, limit, arguments)
    assert finished.code == 2
    assert f"A process may open only {limit} files here" in finished.err
    assert "(`ulimit -n 1024`)" in finished.err
    assert "Traceback" not in finished.err


def test_a_soft_limit_is_raised_as_far_as_needed(toy_flags, tmp_path, forked):
    arguments = ["test", *CONFIG, *toy_flags, "--data.loader.workers", "2", "--run_dir", str(tmp_path / "run")]
    finished = forked.call(limited, 40, 200, arguments)
    assert finished.code == 0, finished.err
    assert 40 < int(finished.out.split()[-1]) < 200


def test_without_workers_a_low_limit_is_enough_or_is_named(toy_flags, tmp_path, forked):
    finished = forked.call(limited, 11, 11, ["test", *CONFIG, *toy_flags, "--run_dir", str(tmp_path / "run")])
    assert finished.code == 2
    assert "The limit of open files (11) is reached: raise it (`ulimit -n 1024`)" in finished.err
    assert "Traceback" not in finished.err


def test_what_workers_need_grows_with_what_they_prepare():
    # Counted in /proc while a set was read, beyond the 7 to 12 of the process: main process and workers.
    for workers, prefetch, counted in ((1, 2, 23), (2, 2, 26), (4, 2, 38), (2, 8, 49), (8, 2, 74)):
        assert counted <= needed_by_workers(workers, prefetch) < 2 * counted


def test_which_errors_say_it():
    assert no_room(OSError(errno.EMFILE, "Too many open files"))
    assert no_room(
        RuntimeError("unable to open shared memory object </torch_1> in read-write mode: Too many open files")
    )
    assert not no_room(OSError(errno.ENOENT, "No such file or directory"))
    assert not no_room(RuntimeError("CUDA out of memory"))
