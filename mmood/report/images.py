"""The hardest images of a run: which they are, what they were taken for, and small copies of them."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from mmood.classes.names import load_class_names
from mmood.data.benchmarks import BENCHMARKS
from mmood.errors import MmoodError
from mmood.images.rgb import Exif
from mmood.loading.decoding import SampleError, decode_image
from mmood.report.runs import Run
from mmood.sets.finding import Classing, find_set, is_known
from mmood.sets.places import set_name
from mmood.shards import locations
from mmood.shards.index import SetIndex
from mmood.shards.reading import Skipped
from mmood.shards.table import SampleRow

SIDE = 96  # pixels of a thumbnail


@dataclass(frozen=True)
class SetImages:
    """What is known of the images of a set beyond their scores.

    Attributes:
        index: of its shards; None if they cannot be read any more.
        rows: the table beside the index, row i for key i; empty without one.
        reason: why the images cannot be shown, as a sentence; "" if they can.
        exif: whether the run turned images as their cameras noted.
    """

    index: SetIndex | None
    rows: Sequence[SampleRow]
    reason: str
    exif: Exif = "ignore"

    def original(self, key: int) -> str:
        """Return the class that an image really shows, "" if unknown."""
        return self.rows[key].name if key < len(self.rows) else ""


def open_set(run: Run, name: str) -> SetImages:
    """Return the images of a set as the run saw them: the same shards, by their hash, in a local folder."""
    recorded: Any = run.results.provenance.get("sets", {})
    return open_indexed(run, name, recorded.get(name, {}).get("index_sha256"))


def open_indexed(run: Run, name: str, index_sha256: str | None) -> SetImages:
    """Return the images of a set where the run found it, if its index has this hash."""
    root = _data(run).get("root", "data")
    if not isinstance(root, str):
        return SetImages(None, (), f"The run did not record where the images of {name} are.")
    if not locations.is_local(root):
        return SetImages(None, (), f"The images of {name} are at {root}; a report reads only local folders.")
    try:
        setting = _setting(run, name)
        if not is_known(setting):
            return SetImages(None, (), f"The images of {name} are in {setting}, which was not indexed here.")
        index = find_set(root, setting, classing=Classing(class_names(run), needed=setting in _id_settings(run)))
        rows = index.rows()
    except MmoodError as error:
        return SetImages(None, (), f"The images of {name} cannot be read. {error}")
    if index.hash != index_sha256:
        return SetImages(None, (), f"The images of {name} are not the ones that the run read.")
    return SetImages(index, rows, "", "apply" if _data(run).get("exif") == "apply" else "ignore")


def class_names(run: Run) -> Sequence[str]:
    """Return the ID classes of a run, or nothing if its list cannot be found any more."""
    data = _data(run)
    source = data.get("class_names")
    if source is None and isinstance(name := data.get("benchmark"), str) and name in BENCHMARKS:
        source = BENCHMARKS[name].class_names
    if not isinstance(source, str | list) or not all(isinstance(name, str) for name in source):
        return ()
    try:
        return load_class_names(source)
    except MmoodError:
        return ()


def hardest(scores: Float[np.ndarray, " n"], count: int, highest: bool) -> Int[np.ndarray, " count"]:
    """Return the positions of the `count` highest (or lowest) scores, the most extreme first."""
    order = np.argsort(-scores if highest else scores, kind="stable")
    return order[:count]


@dataclass(frozen=True)
class Thumbnail:
    """A small copy of an image.

    Attributes:
        picture: in RGB.
        size: (width, height) of the image itself.
    """

    picture: Image.Image
    size: tuple[int, int]

    def url(self) -> str:
        """Return the copy as a `data:` URL."""
        return data_url(self.picture)


def data_url(picture: Image.Image) -> str:
    """Return a picture as the `data:` URL of a JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=72, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def thumbnails(images: SetImages, keys: Iterable[int]) -> Mapping[int, Thumbnail]:
    """Return small copies of images; one that cannot be read or decoded is left out."""
    if images.index is None:
        return {}
    wanted = np.unique(np.fromiter(keys, np.int64))
    wanted = wanted[wanted < images.index.count]
    found = {}
    for sample in images.index.read(wanted, skip=True):
        if isinstance(sample, Skipped):
            continue
        try:
            image = decode_image(sample, images.exif)
        except SampleError:
            continue
        size = image.size
        image.thumbnail((SIDE, SIDE))
        found[sample.key] = Thumbnail(image, size)
    return found


def _setting(run: Run, name: str) -> str:
    """Return what the settings of a run call a set; its own name if they do not say."""
    named = [*_id_settings(run), *_ood_settings(_data(run)), *_ood_settings(_data(run).get("val"))]
    return next((setting for setting in named if _called(setting) == name), name)


def _id_settings(run: Run) -> list[str]:
    data = _data(run)
    val = data.get("val")
    named = [data.get("id"), data.get("train"), val.get("id") if isinstance(val, dict) else None]
    return [setting for setting in named if isinstance(setting, str)]


def _ood_settings(data: object) -> list[str]:
    groups = data.get("ood") if isinstance(data, dict) else None
    lists = groups.values() if isinstance(groups, dict) else ()
    return [setting for names in lists if isinstance(names, list) for setting in names if isinstance(setting, str)]


def _called(setting: str) -> str | None:
    with contextlib.suppress(MmoodError):  # a run folder may be somebody else's
        return set_name(setting)
    return None


def _data(run: Run) -> dict[str, Any]:
    data = run.config.get("data")
    return data if isinstance(data, dict) else {}
