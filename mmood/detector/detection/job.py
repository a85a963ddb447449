"""`mmood detect` as a job: blocks of rows, each a whole file, joined when all are there.

A block is a fixed run of images, cut into batches in the same way whoever makes it. So a killed job goes on with the
blocks that are missing, on any number of ranks, and the joined file is the same to the byte.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from mmood.detector.calibration import benjamini_hochberg, check_rate
from mmood.detector.decisions import Decision
from mmood.detector.detection.blocks import read_block, read_block_embeddings, write_block
from mmood.detector.detection.memory import JobMemory
from mmood.detector.detection.sources import Input, Sequenced
from mmood.detector.detection.tables import Table
from mmood.detector.face import AbstractDecider
from mmood.detector.scorer import Prepared, batched
from mmood.errors import ImageError, MmoodError
from mmood.files import parse_json, read_limited, whole_file, write_atomically

SCHEMA = 1
BATCHES = 16
"""Batches of a block: what a killed job loses at most, on each rank."""

_JOB_FILE = "job.json"
_LIMIT = 2**30


@dataclass(frozen=True)
class Ranks:
    """Which share of the blocks is ours.

    Attributes:
        rank: our number, from 0.
        world: how many ranks there are.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Ranks:
        """Return what torchrun or SLURM say; one rank without them."""
        for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
            if environment.get(rank, "").isdecimal() and environment.get(world, "").isdecimal():
                return cls(int(environment[rank]), int(environment[world]))
        return cls()

    def share(self, blocks: int) -> range:
        """Return our run of the blocks; those of all ranks stand in order and differ by one at most."""
        return range(blocks * self.rank // self.world, blocks * (self.rank + 1) // self.world)


@dataclass(frozen=True)
class Job:
    """What is decided, and where to.

    Attributes:
        detector: the detector.
        detector_sha256: of its manifest.
        images: the images.
        table: the file of all rows.
        batch_size: images that pass the tower together.
        threads: that read and decode images.
        fdr: false-discovery rate of the column `fdr_ood`; None for no such column.
        embeddings: keep the embeddings beside the rows, for `mmood monitor`.
        memory: of a detector that learns from the images; None for any other.
    """

    detector: AbstractDecider
    detector_sha256: str
    images: Sequenced
    table: Table
    batch_size: int
    threads: int
    fdr: float | None = None
    embeddings: bool = False
    memory: JobMemory | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.threads < 1:
            raise MmoodError(f"batch_size is {self.batch_size} and threads {self.threads}; each is at least 1.")
        if self.fdr is not None:
            check_rate(self.fdr)
            if self.memory is not None:
                raise MmoodError(
                    "A test-time score has another calibration before each batch, and the rate of --fdr is promised "
                    "for p-values of one calibration; leave --fdr out."
                )

    @property
    def folder(self) -> Path:
        """Where the blocks are kept until all are there."""
        return parts_folder(self.table)

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return -(-len(self.images) // self.block_size)

    @property
    def block_size(self) -> int:
        """Images of a block."""
        return BATCHES * self.batch_size

    def positions(self, number: int) -> range:
        """Return which images a block holds."""
        start = number * self.block_size
        return range(start, min(start + self.block_size, len(self.images)))

    def block(self, number: int) -> Path:
        """Return the file of a block."""
        return self.folder / f"{number:08d}.jsonl"

    def identity(self) -> dict[str, object]:
        """Return what must be the same where a killed job goes on."""
        return {
            "schema": SCHEMA,
            "detector": self.detector_sha256,
            "images": len(self.images),
            "inputs": self.images.sha256,
            "batch_size": self.batch_size,
            "embeddings": self.embeddings,
            **({} if self.memory is None else {"memory": self.memory.sha256}),
        }


def parts_folder(table: Table) -> Path:
    """Return where the blocks of a table are kept until all are there."""
    return table.path.with_name(f"{table.path.name}.parts")


def run_job(job: Job, ranks: Ranks) -> Path | None:
    """Make our blocks, and join all when the last one is there; return the file if it was joined here.

    Raises:
        MmoodError: another job was begun here and not ended, or a file cannot be written.
    """
    share = ranks.share(job.blocks)
    if job.memory is not None and ranks.world > 1:
        raise MmoodError(
            "A test-time score decides on the images in their order, so one process has to; start `mmood detect` "
            "without torchrun, on one task."
        )
    if not share:
        return None  # the others need not wait for us, nor we for them
    _begin(job)
    missing = [number for number in share if not job.block(number).is_file()]
    if job.memory is not None and missing:
        job.memory.resume(missing[0])
        missing = list(range(missing[0], share.stop))  # the memory has to pass through each, made before or not
    with ThreadPoolExecutor(job.threads) as pool:
        for number in missing:
            _make(job, number, pool)
    return _join(job)


def _begin(job: Job) -> None:
    path, identity = job.folder / _JOB_FILE, job.identity()
    if not path.is_file():
        write_atomically(path, json.dumps(identity, indent=1).encode())
        return
    found = parse_json(read_limited(path, str(path)), str(path))
    if found != identity:
        differ = [name for name in identity if not isinstance(found, dict) or found.get(name) != identity[name]]
        raise MmoodError(
            f"{job.folder} contains an unfinished job with other settings ({', '.join(differ)}); use the same "
            "settings to finish it, delete that folder, or choose another --out."
        )


def _make(job: Job, number: int, pool: ThreadPoolExecutor) -> None:
    """Decide on the images of a block and write it."""
    positions = job.positions(number)
    rows: list[tuple[str, Decision]] = []
    embeddings = [np.empty((0, job.detector.embedding_width), np.float16)]
    for batch in _prepared(job, job.images.read(positions.start, positions.stop), pool):
        decisions, embedding = job.detector.decide([pixels for _, pixels in batch])
        rows += [(name, decision) for (name, _), decision in zip(batch, decisions, strict=True)]
        if embedding is not None:
            embeddings.append(embedding.astype(np.float16))
    if job.memory is not None:
        job.memory.keep(number)
    write_block(job.block(number), rows, np.concatenate(embeddings) if job.embeddings else None)
    if job.memory is not None:
        job.memory.forget(number - 1)


def _prepared(job: Job, images: Iterator[Input], pool: ThreadPoolExecutor) -> Iterator[list[tuple[str, Prepared]]]:
    """Yield batches of names and pixels that threads prepare, on a GPU those of the next batch meanwhile."""

    def prepare(image: Input) -> tuple[str, Prepared]:
        if image.content is None:
            return image.name, ImageError(image.reason)
        return image.name, job.detector.prepared(image.content)

    at_once = 1 if job.detector.scorer.on_cpu else 2
    waiting: deque[list[Future[tuple[str, Prepared]]]] = deque()
    for batch in batched(images, job.batch_size):
        waiting.append([pool.submit(prepare, image) for image in batch])
        if len(waiting) == at_once:
            yield [image.result() for image in waiting.popleft()]
    for rest in waiting:
        yield [image.result() for image in rest]


def _join(job: Job) -> Path | None:
    """Write the file of all rows if all blocks are there, and delete these; None if others are still at work."""
    with FileLock(f"{job.folder}.lock"):
        if not job.folder.is_dir() or not all(job.block(number).is_file() for number in range(job.blocks)):
            return None
        flagged = None if job.fdr is None else _discoveries(job, job.fdr)
        if job.embeddings:
            _join_embeddings(job)
        else:
            # `mmood monitor` would take those of an older file of this name for those of these rows.
            job.table.embeddings.unlink(missing_ok=True)
        job.table.write(_rows(job), flagged)
        if job.memory is not None:
            job.memory.finish(job.blocks)
        shutil.rmtree(job.folder)
    Path(f"{job.folder}.lock").unlink(missing_ok=True)
    return job.table.path


def _rows(job: Job) -> Iterator[dict[str, Any]]:
    for number in range(job.blocks):
        yield from read_block(job.block(number), len(job.positions(number)))


def _discoveries(job: Job, rate: float) -> frozenset[int]:
    """Return the numbers of the rows that are OoD by Benjamini-Hochberg; broken ones take no part."""
    found = [(number, row["p_value"]) for number, row in enumerate(_rows(job)) if row["p_value"] is not None]
    numbers = np.array([number for number, _ in found], dtype=np.int64)
    p_values = np.array([value for _, value in found], dtype=np.float64)
    return frozenset(numbers[benjamini_hochberg(p_values, rate)].tolist())


def _join_embeddings(job: Job) -> None:
    """Write the embeddings of all rows that are not broken, in their order, a block in memory at a time."""
    numbers, width = range(job.blocks), job.detector.embedding_width
    blocks = (read_block(job.block(number), len(job.positions(number))) for number in numbers)
    counts = [sum(row["status"] == "ok" for row in block) for block in blocks]
    with whole_file(job.table.embeddings) as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (sum(counts), width)}
        np.lib.format.write_array_header_1_0(file, header)
        for number in numbers:
            file.write(read_block_embeddings(job.block(number), counts[number], width).tobytes())
