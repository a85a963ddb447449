"""Where in a picture the score comes from."""

from __future__ import annotations

import numpy as np
from PIL.Image import Image

from mmood.detector.manifest import Manifest
from mmood.detector.pictures import Picture, rgb
from mmood.detector.scorer import Scorer
from mmood.images.maps import overlay

LONGEST_SIDE = 1024
"""Pixels of a picture with a map, at most: more show nothing, and a photo takes seconds."""


def patch_map(scorer: Scorer, manifest: Manifest, picture: Picture) -> Image:
    """Return a picture, made smaller if it is large, with the score of each patch laid over it.

    Args:
        scorer: of a score that has a map.
        manifest: of the detector.
        picture: what is shown.

    Raises:
        ImageError: the picture cannot be read.
    """
    image = rgb(picture, manifest.exif)
    scored = scorer.score(np.expand_dims(scorer.prepare(image), 0))
    assert scored.patches is not None, "a manifest with a patch_range is that of a score with a map"
    assert manifest.patch_range is not None, "the caller has checked it"
    shown = image.copy()
    shown.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return overlay(shown, scored.patches[0], manifest.preprocessing.seen(shown.size), manifest.patch_range)
