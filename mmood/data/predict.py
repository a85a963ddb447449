"""What `predict` reads: a set, a folder of images, or one image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmood.errors import MmoodError
from mmood.shards.index import Keys, load_index
from mmood.shards.inputs import image_files
from mmood.shards.sources import FileSource, SampleSource, ShardSource
from mmood.shards.table import load_table


@dataclass(frozen=True)
class PredictSet:
    """Images to predict.

    Attributes:
        name: name of the set, or the folder or file.
        source: where the samples are read.
        names: for each key the image's file, or its name in the shard.
    """

    name: str
    source: SampleSource
    names: list[str]

    def keys(self) -> Keys:
        """Return all keys, ascending."""
        return np.arange(len(self.names), dtype=np.int64)


def find_predict_set(root: str, what: str, pipes: bool = False) -> PredictSet:
    """Return the images that `data.predict` names: an existing file or folder of images first, else a set below root.

    A folder is searched in depth; the key is the position in the sorted list of relative paths.
    """
    path = Path(what).expanduser()
    if path.is_file():
        return PredictSet(str(path), FileSource(path.parent, [path.name]), [path.name])
    if path.is_dir():
        files = image_files(path)
        if not files:
            raise MmoodError(f"`data.predict` names the folder {path}, and there is no image in it.")
        return PredictSet(str(path), FileSource(path, files), files)
    if "/" in what:
        raise MmoodError(f"`data.predict` names '{what}', which is neither a file nor a folder nor the name of a set.")
    index = load_index(root, what, pipes)
    return PredictSet(what, ShardSource(index), [row.sample for row in load_table(index)])
