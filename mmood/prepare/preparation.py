"""Preparing sets: fetch, select, pack, verify, tidy up; what a run was cut off in is taken up by the next."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmood.errors import MmoodError
from mmood.files import write_atomically
from mmood.output.console import progress_bar
from mmood.output.printing import complain, say
from mmood.prepare.downloads import Downloads, Fetched
from mmood.prepare.inputs import ArchiveInput, SetsInput
from mmood.prepare.masks import with_masks
from mmood.prepare.plan import NeedPlan, Plan, SetPlan, bytes_on_disk, ready
from mmood.prepare.selection import choose
from mmood.prepare.transfer import NoRoomError, check_room
from mmood.recipes.recipe import Need, Recipe, SourceFile
from mmood.shards.archives import AbstractArchive, ArchiveError, is_archive, open_archive
from mmood.shards.index import SetIndex
from mmood.shards.lists import ListedImage, read_image_list
from mmood.shards.packing import PackSettings, pack
from mmood.shards.shard_index import load_index

ORIGIN_FILE = "prepared.json"
"""File beside an index that says from which files a set was prepared, with their hashes."""


@dataclass(frozen=True)
class Preparation:
    """What is prepared, and how.

    Attributes:
        plan: what is to do.
        downloads: the files fetched before, and those to come.
        keep: do not delete downloads that are no longer needed.
        quiet: show no progress.
    """

    plan: Plan
    downloads: Downloads
    keep: bool
    quiet: bool

    def run(self) -> None:
        """Make the sets that are to do.

        Raises:
            MmoodError: a set could not be made; those that do not depend on it are made all the same.
        """
        check_room(self.plan.root, bytes_on_disk(self.plan), "the preparation")
        failed: dict[str, str] = {}
        for entry in self.plan.to_do:
            name = entry.recipe.name
            try:
                blocked = [part for part in entry.recipe.sets if part in failed]
                if blocked:
                    raise MmoodError(f"It is made of '{blocked[0]}', which is missing.")
                if entry.missing:
                    raise MmoodError(sentence_of(entry.missing[0]))
                self._prepare(entry)
            except NoRoomError:
                raise
            except MmoodError as error:
                if len(self.plan.sets) == 1:
                    raise
                failed[name] = str(error)
                complain(f"'{name}' was not prepared: {error}")
                continue
            self._tidy(entry)
        if failed:
            raise MmoodError(
                f"{len(failed)} of {len(self.plan.sets)} sets were not prepared ({', '.join(failed)}), for the reasons "
                "above; the others are ready. The same command does what is missing."
            )

    def _prepare(self, entry: SetPlan) -> None:
        recipe = entry.recipe
        if recipe.sets:
            others = SetsInput(recipe, [load_index(str(self.plan.root), name) for name in recipe.sets])
            self._finish(recipe, self._packed(recipe, others), [])
            return
        fetched: list[Fetched] = []
        listed = self._listed(entry, fetched) if recipe.lists else None
        with contextlib.ExitStack() as opened:
            samples = self._from_places(entry, listed, fetched, opened)
            if samples is None:
                samples = self._from_files(entry, listed, fetched, opened)
            self._finish(recipe, self._packed(recipe, samples), fetched)

    def _listed(self, entry: SetPlan, fetched: list[Fetched]) -> list[ListedImage]:
        """Return the images of a set's lists, joined."""
        found: list[ListedImage] = []
        for part in entry.lists:
            got = self._get(part)
            fetched.append(got)
            try:
                found += _read_list(got.path, [file.member for file in part.need.files if file.member], self.downloads)
            except MmoodError:
                if got.own:
                    self.downloads.drop(got.path)
                raise
        return found

    def _get(self, part: NeedPlan) -> Fetched:
        if part.state == "given":
            assert part.path is not None
            named = next((f for f in part.need.files if f.name.lower() == part.path.name.lower()), None)
            file = named or part.need.best
            hashed = self.downloads.check(file, part.path) if named is not None else self.downloads.sha256(part.path)
            return Fetched(file, part.path, hashed, own=False)
        return self.downloads.fetch(part.need)

    def _from_places(
        self,
        entry: SetPlan,
        listed: Sequence[ListedImage] | None,
        fetched: list[Fetched],
        opened: contextlib.ExitStack,
    ) -> ArchiveInput | None:
        """Return the images from the first folder or archive of the user that has them all; None without any such."""
        reasons = []
        for place in entry.places:
            try:
                samples = _chosen(entry.recipe, [self._opened(place, opened)], listed)
                hashed = "" if place.is_dir() else self.downloads.sha256(place)
                fetched.append(Fetched(SourceFile(place.name), place, hashed, own=False))
                return samples
            except MmoodError as error:
                reasons.append(str(error))
        if reasons and any(part.is_missing for part in entry.images):
            raise MmoodError(reasons[0])
        for reason in reasons:
            complain(f"'{entry.recipe.name}' is taken from elsewhere: {reason}")
        return None

    def _from_files(
        self,
        entry: SetPlan,
        listed: Sequence[ListedImage] | None,
        fetched: list[Fetched],
        opened: contextlib.ExitStack,
    ) -> ArchiveInput:
        archives = []
        for part in entry.images:
            got, archive = self._archive(part, opened)
            fetched.append(got)
            archives.append(archive)
        try:
            return _chosen(entry.recipe, archives, listed)
        except MmoodError as error:
            doubtful = [str(got.path) for got in fetched if got.own and not got.file.pinned]
            advice = f" Should the files be wrong, delete {' and '.join(doubtful)} to fetch them again."
            raise MmoodError(str(error) + (advice if doubtful else "")) from error

    def _archive(self, part: NeedPlan, opened: contextlib.ExitStack) -> tuple[Fetched, AbstractArchive]:
        """Return an archive of a need: the first that can be read. One that cannot does not stay."""
        files = part.need.files
        while True:
            got = self._get(replace(part, need=Need(files)))
            try:
                return got, self._opened(got.path, opened)
            except ArchiveError as error:
                if not got.own:
                    raise
                self.downloads.drop(got.path)
                files = files[files.index(got.file) + 1 :]
                if not any(file.urls for file in files):
                    raise
                complain(f"{error} It is taken from elsewhere.")

    def _opened(self, path: Path, opened: contextlib.ExitStack) -> AbstractArchive:
        archive = open_archive(self.downloads.plain(path))
        opened.callback(archive.close)
        return archive

    def _packed(self, recipe: Recipe, samples: ArchiveInput | SetsInput) -> SetIndex:
        if recipe.count not in (None, len(samples)):
            raise MmoodError(f"There are {len(samples):,} images for '{recipe.name}', which has {recipe.count:,}")
        settings = PackSettings(source=recipe.title, shuffle=recipe.shuffle)
        with progress_bar(f"packing {recipe.name}", len(samples), self.quiet, transient=True, late=True) as bar:
            return pack(samples, self.plan.root / recipe.name, settings, bar.advance)

    def _finish(self, recipe: Recipe, index: SetIndex, fetched: Sequence[Fetched]) -> None:
        ready(self.plan.root, recipe)
        files = [
            {
                "file": got.file.name,
                "url": got.file.urls[0] if got.own else None,
                "sha256": got.sha256 or None,
                "pinned": got.file.pinned,
            }
            for got in fetched
        ]
        document = {"recipe": recipe.name, "count": index.count, "files": files}
        write_atomically(self.plan.root / recipe.name / ORIGIN_FILE, (json.dumps(document, indent=1) + "\n").encode())
        for got in fetched:
            self.downloads.record(got)
        unlabelled = "a mask for each" if recipe.masks else "no labels"
        classes = unlabelled if index.classes is None else f"{index.classes} classes"
        say(f"{self.plan.root / recipe.name}: {index.count:,} images, {classes}, index {index.hash[:16]}")

    def _tidy(self, done: SetPlan) -> None:
        """Delete the downloads of a set that no later one needs."""
        rest = list(self.plan.sets)[list(self.plan.sets).index(done) + 1 :]
        still = {path for entry in rest if not entry.is_ready for path in self._paths(entry)}
        for path in self._paths(done):
            if not self.keep and path not in still:
                self.downloads.drop(path)

    def _paths(self, entry: SetPlan) -> Iterator[Path]:
        for part in entry.lists + entry.images:
            for file in part.need.files:
                yield self.downloads.path(file)
            if part.path is not None:
                yield part.path
        yield from entry.places


def _chosen(recipe: Recipe, archives: Sequence[AbstractArchive], listed: Sequence[ListedImage] | None) -> ArchiveInput:
    """Return the images of a set in archives; MmoodError unless they are as many as it has."""
    inside = recipe.folder.rpartition("/")[2].lower()
    within = bool(inside) and not recipe.masks and Path(archives[0].name).name.lower() == inside
    chosen = choose(archives, listed, "" if within else recipe.folder, recipe.avoid)
    masked = with_masks(recipe, archives, chosen) if recipe.masks else None
    if masked is not None:
        chosen = [one.image for one in masked]
    if recipe.count not in (None, len(chosen)):
        raise MmoodError(
            f"{', '.join(archive.name for archive in archives)} has {len(chosen):,} images for '{recipe.name}', which "
            f"has {recipe.count:,}."
        )
    return ArchiveInput(recipe, archives, chosen, masked)


def sentence_of(missing: NeedPlan) -> str:
    """Return what the user must do about a file."""
    file = missing.need.best
    if missing.state == "offline":
        return f"{file.name} is not there, and --offline forbids to fetch it; give the folder that holds it with --from"
    return f"{file.name} must be fetched by hand. {file.obtain} Then add --from FOLDER, the folder that holds it."


def _read_list(path: Path, members: Sequence[str], downloads: Downloads) -> list[ListedImage]:
    """Return the images of a list that is a file, or one in an archive."""
    if not is_archive(path):
        return read_image_list(path)
    archive = open_archive(downloads.plain(path))
    try:
        for wanted in members:
            found = [m for m in archive.members if f"/{m.path}".endswith(f"/{wanted}")]
            if len(found) == 1:
                copy = downloads.folder / wanted.replace("/", "-")
                write_atomically(copy, archive.read(found[0]))
                try:
                    return read_image_list(copy)
                finally:
                    copy.unlink(missing_ok=True)
    finally:
        archive.close()
    raise MmoodError(f"{path.name} has no list {' or '.join(members)}")
