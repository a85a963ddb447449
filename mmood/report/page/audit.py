"""OoD images that may be ID images: counts of each set, and the images beside the ID images that they resemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmood.report.images import SetImages, open_indexed, thumbnails
from mmood.report.page.html import NOTHING, Cell, Html, details, div, element, paragraph, section, table
from mmood.report.runs import Run
from mmood.results.audit import REASONS, Audit, AuditedImage


def audit_section(runs: Sequence[Run]) -> Html | None:
    """Return what the audits of the runs found; None if no run was audited."""
    found = [(run, run.results.audit) for run in runs if run.results.audit is not None]
    if not found:
        return None
    note = (
        "OoD images that may show an ID class: near copies of ID images, and images that are as near to a class name, "
        "or to a training image, as half of the ID test images of that class. The list shows near copies and the "
        "images found by every comparison, each beside the nearest ID image. Look at them before you trust a number "
        "that depends on them."
    )
    parts = [details(f"Audit of {run.name}", _parts(run, audit), len(found) == 1) for run, audit in found]
    return section("audit", "OoD images that look like ID", [paragraph(note, "note"), *parts])


def _parts(run: Run, audit: Audit) -> list[Html]:
    return [_counts(audit), *(_sheet(run, audit, entry.set) for entry in audit.sets if _images(audit, entry.set))]


def _counts(audit: Audit) -> Html:
    near = f"near copies (cosine from {audit.cosine:g})"
    heads = ["Set", "Images", near, "like a class name", "like a training image"]
    rows = [
        [
            Cell(entry.set),
            *(_count(count) for count in (entry.n, entry.near_copies, entry.class_name, entry.training_image)),
        ]
        for entry in audit.sets
    ]
    return table("Images of each OoD set that look like ID images", heads, rows)


def _count(count: int | None) -> Cell:
    return Cell(NOTHING, css="faint") if count is None else Cell(f"{count:,}", count)


def _images(audit: Audit, name: str) -> list[AuditedImage]:
    return [image for image in audit.images if image.set == name]


def _sheet(run: Run, audit: Audit, name: str) -> Html:
    images = _images(audit, name)
    wanted = {name: {image.key for image in images}}
    for image in images:
        wanted.setdefault(image.id_set, set()).add(image.id_key)
    opened = {of: open_indexed(run, of, audit.index_sha256.get(of)) for of in wanted}
    pictures = {
        of: {key: thumbnail.url() for key, thumbnail in thumbnails(opened[of], keys).items()}
        for of, keys in wanted.items()
    }
    reasons = [paragraph(of.reason, "note warn") for of in opened.values() if of.reason]
    figures = [_figure(image, opened[name], pictures) for image in images]
    return div("", [element("h3", f"{name}: the nearest {len(images)}"), *reasons, div("thumbs", figures)])


def _figure(image: AuditedImage, opened: SetImages, pictures: Mapping[str, Mapping[int, str]]) -> Html:
    real = opened.original(image.key) or f"key {image.key}"
    beside = f"{image.id_set}, key {image.id_key}"
    shown = [
        element("img", (), {"src": url, "alt": alt, "loading": "lazy"})
        for url, alt in (
            (pictures[image.set].get(image.key), f"{image.set}, {real}"),
            (pictures[image.id_set].get(image.id_key), beside),
        )
        if url
    ]
    said = f"like {image.id_class} ({', '.join(REASONS[reason] for reason in image.reasons)})"
    lines = [real, element("div", f"{image.cosine:.3f} to {beside}", {"class": "faint"}), element("div", said)]
    return element("figure", [*shown, element("figcaption", lines)])
