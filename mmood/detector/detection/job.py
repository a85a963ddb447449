"""`mmood detect` as a job: blocks of rows, each a whole file, joined when all are there.

A block is a fixed run of images, cut into batches in the same way whoever makes it. So a killed job goes on with the
blocks that are missing, on any number of ranks, and the joined file is the same to the byte.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from filelock import FileLock
from jaxtyping import Float16

from mmood.detector.calibration import benjamini_hochberg, check_rate
from mmood.detector.decisions import Decision
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
            f"{job.folder} holds a job that was not ended, of other settings ({', '.join(differ)}); give it the same "
            "ones to go on, delete that folder, or name another --out."
        )


def _make(job: Job, number: int, pool: ThreadPoolExecutor) -> None:
    """Decide on the images of a block and write it."""
    start = number * job.block_size
    images = job.images.read(start, min(start + job.block_size, len(job.images)))
    lines: list[bytes] = []
    rows: list[Float16[np.ndarray, "images dim"]] = []
    for batch in batched(_prepared(job, images, pool), job.batch_size):
        decisions, embedding = job.detector.decide([pixels for _, pixels in batch])
        for (name, _), decision in zip(batch, decisions, strict=True):
            lines.append(_line(name, decision))
        if embedding is not None:
            rows.append(embedding.astype(np.float16))
    if job.embeddings:
        with whole_file(_embeddings(job.block(number))) as file:
            width = job.detector.embedding_width
            np.save(file, np.concatenate(rows) if rows else np.empty((0, width), np.float16), allow_pickle=False)
    if job.memory is not None:
        job.memory.keep(number)
    write_atomically(job.block(number), b"".join(lines))
    if job.memory is not None:
        job.memory.forget(number - 1)


def _prepared(job: Job, images: Iterator[Input], pool: ThreadPoolExecutor) -> Iterator[tuple[str, Prepared]]:
    """Yield name and pixels of each image in order; threads work up to two batches ahead."""

    def prepare(image: Input) -> tuple[str, Prepared]:
        if image.content is None:
            return image.name, ImageError(image.reason)
        return image.name, job.detector.prepared(image.content)

    ahead = [pool.submit(prepare, image) for image in islice(images, 2 * job.batch_size)]
    while ahead:
        yield ahead.pop(0).result()
        ahead += [pool.submit(prepare, image) for image in islice(images, 1)]


def _line(name: str, decision: Decision) -> bytes:
    return json.dumps({"input": name, **decision.as_dict()}, ensure_ascii=False).encode() + b"\n"


def _embeddings(block: Path) -> Path:
    return block.with_suffix(".npy")


def _join(job: Job) -> Path | None:
    """Write the file of all rows if all blocks are there, and delete these; None if others are still at work."""
    with FileLock(f"{job.folder}.lock"):
        if not job.folder.is_dir() or not all(job.block(number).is_file() for number in range(job.blocks)):
            return None
        flagged = None if job.fdr is None else _discoveries(job, job.fdr)
        if job.embeddings:
            _join_embeddings(job)
        job.table.write(_rows(job), flagged)
        if job.memory is not None:
            job.memory.finish(job.blocks)
        shutil.rmtree(job.folder)
    Path(f"{job.folder}.lock").unlink(missing_ok=True)
    return job.table.path


def _rows(job: Job) -> Iterator[dict[str, object]]:
    for number in range(job.blocks):
        with job.block(number).open("rb") as file:
            for line in file:
                yield json.loads(line)


def _discoveries(job: Job, rate: float) -> frozenset[int]:
    """Return the numbers of the rows that are OoD by Benjamini-Hochberg; broken ones take no part."""
    found = [(number, row["p_value"]) for number, row in enumerate(_rows(job)) if row["p_value"] is not None]
    numbers = np.array([number for number, _ in found], dtype=np.int64)
    p_values = np.array([value for _, value in found], dtype=np.float64)
    return frozenset(numbers[benjamini_hochberg(p_values, rate)].tolist())


def _join_embeddings(job: Job) -> None:
    """Write the embeddings of all rows that are not broken, in their order, a block in memory at a time."""
    count = sum(row["status"] == "ok" for row in _rows(job))
    width = job.detector.embedding_width
    with whole_file(job.table.embeddings) as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (count, width)}
        np.lib.format.write_array_header_1_0(file, header)
        for number in range(job.blocks):
            file.write(np.load(_embeddings(job.block(number)), allow_pickle=False).tobytes())
