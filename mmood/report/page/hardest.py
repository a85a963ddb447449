"""Single images on a page: the hardest of each set, and the OoD sets by what they really show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmood.report.breakdown import by_class
from mmood.report.images import SetImages, Thumbnail, class_names, data_url, hardest, open_set, thumbnails
from mmood.report.maps import RunMaps, run_maps
from mmood.report.page.html import NOTHING, Cell, Html, details, div, element, paragraph, section, table
from mmood.report.runs import Run
from mmood.results.blocks import percent

COUNT = 8  # images of a set
CLASSES = 25  # lines of a breakdown
_MAP = (
    "dark blue where a patch looks least like an ID class, yellow where it looks most like one, on one scale for all "
    "images. What the model did not see is dark."
)


@dataclass(frozen=True)
class Gallery:
    """The hardest images of a set for one run: their keys, and what stands below each."""

    run: str
    score: str
    set: str
    keys: Sequence[int]
    captions: Sequence[tuple[str, str]]


class Library:
    """The sets of all runs, opened once for each run and name."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, str], SetImages] = {}

    def open(self, run: Run, name: str) -> SetImages:
        """Return the images of a set, as the run saw them."""
        key = run.sets[name].samples, str(run.config.get("data"))
        if key not in self._opened:
            self._opened[key] = open_set(run, name)
        return self._opened[key]


def images_section(runs: Sequence[Run], library: Library) -> Html:
    """Return the most ID-like OoD images and the most OoD-like ID images of each run's leading score."""
    note = (
        "For the leading score of each run: the OoD images that score highest, and the ID images that score lowest, "
        "the hardest first. The captions give the true class, where it is known, and the nearest ID class."
    )
    groups = [(run, galleries) for run in runs if (galleries := _galleries(run, library))]
    pictures = _read(groups, library)
    parts = [paragraph(note, "note")]
    for run, galleries in groups:
        maps = run_maps(run)
        shown = [_gallery(gallery, library.open(run, gallery.set), pictures, maps) for gallery in galleries]
        if maps is not None:
            shown.insert(0, paragraph(f"Below each image its map of {maps.score}: {_MAP}", "note"))
        parts.append(details(f"{run.name}, by {galleries[0].score}", shown, opened=run is groups[0][0]))
    if not groups:
        parts.append(paragraph("No run saved the scores of single images."))
    return section("images", "Hardest images", parts)


def classes_section(runs: Sequence[Run], library: Library) -> Html:
    """Return each OoD set by the original classes of its images, where they are known."""
    note = (
        "The leading score of each run, for each original class of the OoD images: the AUROC of all ID images against "
        "that class, the share accepted when 95 % of ID is accepted, and the most frequent nearest ID class."
    )
    tables = [shown for run in runs for shown in _breakdowns(run, library)]
    if not tables:
        tables = [paragraph("The original classes of the OoD images are unknown, or can no longer be read.")]
    return section("classes", "OoD by original class", [paragraph(note, "note"), *tables])


def _galleries(run: Run, library: Library) -> list[Gallery]:
    score = run.leading_score()
    if score is None or run.id_set is None:
        return []
    sets = [name for of, name in run.pairs() if of == score]
    return [_chosen(run, score, name, library) for name in [*sets, run.id_set]]


def _chosen(run: Run, score: str, name: str, library: Library) -> Gallery:
    side, images, names = run.sets[name], library.open(run, name), class_names(run)
    captions, keys = [], []
    for place in hardest(side.scores[score], COUNT, highest=name != run.id_set).tolist():
        key, nearest = int(side.key[place]), int(side.predicted[place])
        real = images.original(key) or (_class(names, int(side.label[place])) if name == run.id_set else "")
        taken = f"nearest: {_class(names, nearest)}" if nearest >= 0 else ""
        captions.append((real or f"key {key}", f"{taken} ({side.scores[score][place]:.4g})".strip()))
        keys.append(key)
    return Gallery(run.name, score, name, keys, captions)


def _class(names: Sequence[str], number: int) -> str:
    return names[number] if 0 <= number < len(names) else f"class {number}"


def _read(groups: Sequence[tuple[Run, Sequence[Gallery]]], library: Library) -> dict[tuple[int, int], Thumbnail]:
    """Return the pictures by (identity of the set, key): each shard is read once, whatever number of runs shows it."""
    wanted: dict[int, tuple[SetImages, set[int]]] = {}
    for run, galleries in groups:
        for gallery in galleries:
            images = library.open(run, gallery.set)
            wanted.setdefault(id(images), (images, set()))[1].update(gallery.keys)
    return {
        (identity, key): thumbnail
        for identity, (images, keys) in wanted.items()
        for key, thumbnail in thumbnails(images, keys).items()
    }


def _gallery(
    gallery: Gallery, images: SetImages, pictures: Mapping[tuple[int, int], Thumbnail], maps: RunMaps | None
) -> Html:
    figures = []
    for key, (real, taken) in zip(gallery.keys, gallery.captions, strict=True):
        shown = _shown(gallery.set, key, real, pictures.get((id(images), key)), maps)
        figures.append(
            element("figure", [*shown, element("figcaption", [real, element("div", taken, {"class": "faint"})])])
        )
    reason = [paragraph(images.reason, "note warn")] if images.reason else []
    return div("", [element("h3", gallery.set), *reason, div("thumbs", figures)])


def _shown(of: str, key: int, real: str, thumbnail: Thumbnail | None, maps: RunMaps | None) -> list[Html]:
    """Return an image and, where there is a map of it, the map laid over it."""
    if thumbnail is None:
        return []
    over = None if maps is None else maps.over(of, key, thumbnail.picture, thumbnail.size)
    found = [element("img", (), {"src": thumbnail.url(), "alt": f"{of}, {real}", "loading": "lazy"})]
    if over is not None:
        alternative = f"{of}, {real}: map"
        found.append(element("img", (), {"src": data_url(over), "alt": alternative, "loading": "lazy", "class": "map"}))
    return found


def _breakdowns(run: Run, library: Library) -> list[Html]:
    score, side = run.leading_score(), run.id_file
    if score is None or side is None:
        return []
    names, found = class_names(run), []
    for name in [name for of, name in run.pairs() if of == score]:
        images, ood = library.open(run, name), run.sets[name]
        lines = by_class(
            side.scores[score], ood.scores[score], ood.predicted, [images.original(k) for k in ood.key.tolist()]
        )
        if not lines:
            continue
        rows = [
            [
                Cell(line.name),
                Cell(f"{line.n:,}", line.n),
                Cell(percent(line.auroc), line.auroc),
                Cell(percent(line.accepted), line.accepted),
                Cell(f"{_class(names, line.taken_for)} ({line.taken:.0%})" if line.taken_for >= 0 else NOTHING),
            ]
            for line in lines[:CLASSES]
        ]
        cut = f", the {CLASSES} hardest of {len(lines)} classes" if len(lines) > CLASSES else f", {len(lines)} classes"
        heads = ["Class", "Images", "AUROC ↑", "accepted ↓", "mostly taken for"]
        title = f"{name} by {run.name}: {score}{cut}"
        auroc = np.array([line.auroc for line in lines])
        worst = f"{title}; AUROC {percent(float(auroc.min()))} to {percent(float(auroc.max()))}"
        found.append(details(worst, table(title, heads, rows)))
    return found
