"""Writing shards: the same input gives the same bytes, and a killed run can be resumed.

While a set is being written, a journal beside the shards keeps each finished shard's hash and rows; `index.json` comes
last, so a set with an index is complete.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmood.errors import ImageError, MmoodError
from mmood.files import parse_json, write_atomically
from mmood.images.formats import READ
from mmood.images.rgb import check_decodable, open_image
from mmood.runs.locks import lock_or_refuse
from mmood.runs.signals import leaves, uninterrupted
from mmood.settings import check_count
from mmood.shards.hashes import digest, image_hash
from mmood.shards.inputs import InputSample, PackInput
from mmood.shards.reading import MASK
from mmood.shards.shard_index import INDEX_FILE, ShardEntry, ShardIndex, save_image_hashes, save_index, sha256_of
from mmood.shards.table import TABLE_FILE, SampleRow, dump_rows

JOURNAL_FILE = ".pack-journal.jsonl"

Progress = Callable[[int], None]


@dataclass(frozen=True)
class PackSettings:
    """How a set is cut.

    Attributes:
        shard_size: samples per shard.
        source: where the images come from, in words; kept in the index and with each sample.
        shuffle: seed of a fixed random order, which a training set needs; None keeps the input's order.
        check: decode every image to its end; else only its header is read.
    """

    shard_size: int = 5000
    source: str = ""
    shuffle: int | None = None
    check: bool = True


@dataclass(frozen=True)
class _Done:
    entry: ShardEntry
    rows: list[SampleRow]
    images: list[int]


def pack(samples: PackInput, folder: Path, settings: PackSettings, progress: Progress) -> ShardIndex:
    """Write a set into a folder and return its index.

    Args:
        samples: the input.
        folder: ROOT/NAME; new, or left by a killed run of the same input, whose finished shards are kept if their
            hashes still hold.
        settings: how the set is cut.
        progress: called with 0 once nothing speaks against the set, then with the number of samples written (or kept)
            each time.

    Raises:
        MmoodError: the set is already there, the folder holds something else, another process packs into it, or an
            image cannot be used.
    """
    check_count("`--shard-size`", settings.shard_size)
    lock, advice = folder.with_name(f".{folder.name}.lock"), "wait for it, or choose another `--out`"
    with lock_or_refuse(lock, f"is packing into {folder}", advice):
        return _pack(samples, folder, settings, progress)


def _pack(samples: PackInput, folder: Path, settings: PackSettings, progress: Progress) -> ShardIndex:
    order = _order(len(samples), settings.shuffle)
    begin = {"input": samples.fingerprint, **asdict(settings)}
    kept = _resume(folder, begin)
    progress(0)
    leaves("pack", "Finished shards are kept; run the same command again to resume.")
    done: list[_Done] = []
    for number, start in enumerate(range(0, len(order), settings.shard_size)):
        part = order[start : start + settings.shard_size]
        if number < len(kept):
            done.append(kept[number])
            progress(len(part))
            continue
        shard = _write_shard(samples, part, start, folder, number, settings, progress)
        _append(folder / JOURNAL_FILE, _journal_line(shard))
        done.append(shard)
    return _finish(samples, folder, settings, done)


def _journal_line(shard: _Done) -> dict[str, object]:
    return {"shard": asdict(shard.entry), "rows": [asdict(row) for row in shard.rows], "images": shard.images}


def shard_name(set_name: str, number: int) -> str:
    """Return the file name of a shard."""
    return f"{set_name}-{number:06d}.tar"


def _finish(samples: PackInput, folder: Path, settings: PackSettings, done: list[_Done]) -> ShardIndex:
    rows = [row for shard in done for row in shard.rows]
    labels = [row.label for row in rows if row.label is not None]
    index = ShardIndex(
        folder.name,
        tuple(shard.entry for shard in done),
        classes=(len(samples.class_names) or max(labels) + 1) if labels else None,
        class_names=tuple(samples.class_names) if labels else (),
        class_folders=tuple(samples.class_folders) if labels else (),
        source=settings.source,
        root=str(folder.parent),
    )
    with uninterrupted():
        write_atomically(folder / TABLE_FILE, dump_rows(rows))
        hashes = save_image_hashes([image for shard in done for image in shard.images], folder)
        index = replace(index, image_hashes=hashes)
        save_index(index, folder)
        (folder / JOURNAL_FILE).unlink()
        leaves("pack", "The set is complete.")
    return index


def _order(count: int, seed: int | None) -> list[int]:
    positions = list(range(count))
    return positions if seed is None else sorted(positions, key=lambda position: (digest(seed, position), position))


def _write_shard(
    samples: PackInput,
    part: list[int],
    first_key: int,
    folder: Path,
    number: int,
    settings: PackSettings,
    progress: Progress,
) -> _Done:
    path = folder / shard_name(folder.name, number)
    temporary = path.with_name(f".{path.name}.part")
    rows: list[SampleRow] = []
    images: list[int] = []
    try:
        with _said(path), temporary.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for key, position in enumerate(part, first_key):
                    sample = samples[position]
                    extension = _extension(sample, position, settings.check)
                    rows.append(SampleRow(key, f"{key:09d}", sample.label, sample.name, settings.source, sample.file))
                    images.append(image_hash(sample.image))
                    _add_sample(tar, rows[-1], sample, extension)
                    progress(1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # of a shard that was given up
    return _Done(ShardEntry(path.name, len(part), sha256_of(path)), rows, images)


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that cannot be written into a sentence."""
    try:
        yield
    except OSError as error:
        raise MmoodError(
            f"{path} cannot be written: {error.strerror or error}. The set is unfinished; run the same command again "
            "to resume."
        ) from error


def _add_sample(tar: tarfile.TarFile, row: SampleRow, sample: InputSample, extension: str) -> None:
    facts = {name: text for name in ("file", "name", "source") if (text := getattr(row, name))}
    _add(tar, f"{row.sample}.{extension}", sample.image)
    if sample.mask is not None:
        _add(tar, f"{row.sample}.{MASK}", sample.mask)
    _add(tar, f"{row.sample}.json", json.dumps(facts, ensure_ascii=False, sort_keys=True).encode())
    if row.label is not None:
        _add(tar, f"{row.sample}.cls", str(row.label).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # A fresh TarInfo has time, owner and group 0, so nothing of this machine or hour gets into the bytes.
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _extension(sample: InputSample, position: int, check: bool) -> str:
    """Return the extension of the image's format: what its file is called may be something else."""
    try:
        return check_decodable(sample.image) if check else READ[open_image(sample.image).format or ""]
    except ImageError as error:
        what = sample.file or f"image {position}"
        raise MmoodError(
            f"{what} was not packed: {error}. The set is unfinished; repair or remove this input."
        ) from error


def _resume(folder: Path, begin: dict[str, object]) -> list[_Done]:
    """Return the shards that an earlier run finished; start a journal if there was none."""
    journal = folder / JOURNAL_FILE
    if (folder / INDEX_FILE).exists():
        raise MmoodError(f"The set {folder} is already complete; remove it or choose another `--out`.")
    if not journal.exists():
        if folder.exists() and any(folder.iterdir()):
            raise MmoodError(
                f"{folder} is not empty and was not created by `mmood pack`; choose another `--out`, or index "
                f"existing shards with `mmood pack --index {folder}`."
            )
        with _said(folder):
            folder.mkdir(parents=True, exist_ok=True)
        _append(journal, begin)
        return []
    lines = _whole_lines(journal)
    if lines[:1] != [begin]:
        raise MmoodError(
            f"{folder} was started with a different input or different settings; remove it or choose another `--out`."
        )
    return _still_valid(folder, lines[1:])


def _still_valid(folder: Path, lines: list[Any]) -> list[_Done]:
    kept: list[_Done] = []
    for line in lines:
        try:
            done = _Done(
                ShardEntry(**line["shard"]), [SampleRow(**row) for row in line["rows"]], list(map(int, line["images"]))
            )
            path = folder / done.entry.url
            if not path.exists() or sha256_of(path) != done.entry.sha256 or len(done.images) != len(done.rows):
                break
        except (KeyError, TypeError, ValueError, AttributeError, OSError):
            # What the journal does not say plainly is packed again.
            break
        kept.append(done)
    return kept


def _whole_lines(journal: Path) -> list[Any]:
    """Return the journal's lines; one that a kill cut off is dropped from the file too."""
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomically(journal, whole)
    return [parse_json(line, f"Line {number} of {journal}") for number, line in enumerate(whole.splitlines(), 1)]


def _append(journal: Path, line: dict[str, object]) -> None:
    with _said(journal), journal.open("ab") as file:
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
