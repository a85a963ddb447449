"""Scores of pixels on a page: rates of classes, and the worst images with their maps."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from mmood.report.page.html import NOTHING, Cell, Html, details, div, element, paragraph, section, table
from mmood.report.pixels import PixelSet, WorstImage, WorstPixel, pixel_sets
from mmood.report.runs import Run
from mmood.results.blocks import percent

_NOTE = (
    "The classes of pixels: IoU of the prediction, and which share of their pixels each score rejects, in per cent, at "
    "the threshold that accepts 95 % of all ID pixels. An ID class far above 5 is where false alarms come from; of OoD "
    "pixels more is better. Below, the images that look most like OoD to the run's first score, with the map of the "
    "score of highest AUROC: the lower half of its values within the image is red; OoD objects have a white outline."
)


def pixels_section(runs: Sequence[Run]) -> Html | None:
    """Return the section; None where no run scores pixels."""
    found = [(run, one) for run in runs for one in pixel_sets(run)]
    if not found:
        return None
    parts = [paragraph(_NOTE, "note")]
    for run, one in found:
        title = f"{one.name} by {run.name}"
        parts.append(_rates(title, one))
        if one.images:
            shown = div("thumbs wide", [_figure(one, image) for image in one.images])
            parts.append(
                details(f"{title}: worst images, with the map of {one.score}", shown, opened=run is found[0][0])
            )
        else:
            parts.append(paragraph(f"{title}: no maps were saved; `--evaluation.save_maps 8` saves some.", "note"))
    return section("pixels", "Scores of pixels", parts)


def _rates(title: str, one: PixelSet) -> Html:
    rows = [
        [Cell(name), _cell(iou), *(_cell(shares.get(name)) for shares in one.rejected.values())]
        for name, iou in one.iou.items()
    ]
    if any(share is not None for share in one.rejected_ood.values()):
        rows.append([Cell("OoD pixels"), _cell(None), *(_cell(one.rejected_ood[score]) for score in one.rejected)])
    caption = f"{title}: IoU, and the share of the pixels that each score rejects, %"
    return table(caption, ["Class", "IoU ↑", *one.rejected], rows)


def _cell(share: float | None) -> Cell:
    return Cell(NOTHING) if share is None else Cell(percent(share), share)


def _figure(one: PixelSet, image: WorstImage) -> Html:
    address = f"data:image/png;base64,{base64.b64encode(image.picture).decode()}"
    words = f"{one.name}, key {image.key}: map of {one.score}"
    rates = [
        f"{percent(share)} % of {what} rejected"
        for share, what in ((image.found, "OoD"), (image.alarms, "ID"))
        if share is not None
    ]
    worst = [
        f"{what}: {_place(pixel)}"
        for pixel, what in ((image.false_alarm, "lowest ID pixel"), (image.miss, "highest OoD pixel"))
        if pixel is not None
    ]
    lines = [element("div", line, {"class": "faint"}) for line in (*rates, *worst)]
    caption = element("figcaption", [f"key {image.key}", *lines])
    return element("figure", [element("img", (), {"src": address, "alt": words, "loading": "lazy"}), caption])


def _place(pixel: WorstPixel) -> str:
    return f"{pixel.name} at ({pixel.column}, {pixel.row})"
