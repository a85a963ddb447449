"""Time and memory of a call on a device."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import torch

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if CUDA else torch.device("cpu")

Call = Callable[[], object]

KINDS = {
    "attention": ("flash", "fmha", "attention"),
    "matrix products": ("gemm", "nvjet", "cutlass", "xmma", "cublas", "matmul"),
    "optimiser": ("multi_tensor", "adam", "foreach"),
}
"""What a kernel does, by what its name holds, in this order; the rest is `everything between`."""


def wait() -> None:
    """Wait until the device has done what it was given."""
    if CUDA:
        torch.cuda.synchronize()


def once(call: Call) -> float:
    """Return how many seconds a call takes, its work on the device included."""
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def seconds(call: Call, repeats: int = 5) -> float:
    """Return the median of several calls, after one that warms up."""
    once(call)
    return statistics.median(once(call) for _ in range(repeats))


def in_turn(calls: dict[str, Call], repeats: int = 5) -> dict[str, float]:
    """Return the median of each call; they take turns, so that what else goes on falls on all alike."""
    for call in calls.values():
        once(call)
        once(call)
    rounds = [{name: once(call) for name, call in calls.items()} for _ in range(repeats)]
    return {name: statistics.median(taken[name] for taken in rounds) for name in calls}


def peak_gib(call: Call) -> float:
    """Return how much device memory a call takes at most, beyond what is taken already; 0 without a GPU."""
    if not CUDA:
        call()
        return 0.0
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    wait()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def shares(call: Call) -> dict[str, float]:
    """Return which share of its time the device spends on what in a call; `idle` is what is left."""
    if not CUDA:
        return {}
    elapsed = once(call)
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CPU, activity.CUDA]) as profile:
        call()
        wait()
    spent = dict.fromkeys([*KINDS, "everything between"], 0.0)
    for event in profile.key_averages():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            name = event.key.lower()
            kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), None)
            spent[kind or "everything between"] += event.self_device_time_total / 1e6
    found = {kind: taken / elapsed for kind, taken in spent.items()}
    return {**found, "idle": max(0.0, 1 - sum(found.values()))}
