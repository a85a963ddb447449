"""Collectives over all devices there are: what the contrastive batch and the gradients need."""

from __future__ import annotations

import multiprocessing
import socket
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from gpu.clock import CUDA, once
from mmood.modules.gather import gathered


@dataclass(frozen=True)
class Size:
    """Rows and width of the embeddings of a device, and the number of gradients."""

    rows: int = 512
    width: int = 512
    gradients: int = 150_000_000


TINY = Size(4, 8, 1_000)


def measure(size: Size) -> dict[str, object]:
    """Return the number of devices, whether all got the right rows and gradients, and the seconds of each collective."""
    world = torch.cuda.device_count() if CUDA else 1
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    others = [context.Process(target=_rank, args=(rank, world, port, size, answers)) for rank in range(1, world)]
    for process in others:
        process.start()
    _rank(0, world, port, size, answers)
    found = [answers.get() for _ in range(world)]
    for process in others:
        process.join()
    slowest = {name: max(answer[name] for answer in found) for name in ("gather", "reduce")}
    return {
        "world": world,
        "backend": "nccl" if CUDA else "gloo",
        "right": all(answer["right"] for answer in found),
        "rows": size.rows,
        "width": size.width,
        "gradients": size.gradients,
        **slowest,
    }


def _rank(rank: int, world: int, port: int, size: Size, answers: multiprocessing.SimpleQueue) -> None:
    device = torch.device("cuda", rank) if CUDA else torch.device("cpu")
    if CUDA:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if CUDA else "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world
    )
    own = torch.full((size.rows, size.width), float(rank), device=device, requires_grad=True)
    gradients = torch.full((size.gradients,), float(rank + 1), device=device)

    def gather() -> Tensor:
        # `gathered` asks nobody where it is alone; here the collective itself is what is timed.
        rows = [torch.empty_like(own) for _ in range(world)]
        distributed.all_gather(rows, own.detach())
        return torch.cat(rows)

    def reduce() -> None:
        distributed.all_reduce(gradients)

    reduce()
    expected = torch.arange(world, dtype=torch.float32, device=device).repeat_interleave(size.rows)
    right = bool(torch.equal(gathered(own)[:, 0], expected) and torch.equal(gather()[:, 0], expected))
    right = right and bool((gradients == sum(range(1, world + 1))).all())
    taken = {name: min(once(call) for _ in range(5)) for name, call in (("gather", gather), ("reduce", reduce))}
    answers.put({"right": right, **taken})
    distributed.destroy_process_group()


def lines(found: dict) -> list[str]:
    """Return the section."""
    title = ["## Collectives", ""]
    right = "gave the right rows and sums" if found["right"] else "gave WRONG rows or sums"
    sent = (
        "There was one device: world size 1, so nothing crossed a wire, and this shows only that NCCL starts, runs and "
        "ends here. "
        if found["world"] == 1
        else f"On {found['world']} devices. "
    )
    return [
        *title,
        f"{sent}{found['backend']} {right}: all-gather of {found['rows']} x {found['width']} embeddings from each device in "
        f"{1e6 * found['gather']:,.0f} µs, all-reduce of {found['gradients'] / 1e6:,.0f} million float32 gradients in "
        f"{1e3 * found['reduce']:,.2f} ms.",
    ]
