"""Every static score (stream scores: test_time/test_contract.py) as plain data and tensors: back again it gives the same numbers to the bit."""

import inspect
import json

import pytest
import torch
from bank_fakes import queries, with_head
from torch.nn.functional import normalize

import mmood.scores as scores
from mmood.errors import MmoodError
from mmood.scores.base import AbstractScore, Embedded, LinearHead, NegativeTexts
from mmood.scores.descriptors import LocalDescriptors, LocalHead
from mmood.scores.functional_scales import region_means
from mmood.scores.neighbours import Neighbours
from mmood.scores.portable import PortableScore, packed, unpacked
from mmood.scores.sigmoid import SigmoidTexts
from mmood.scores.test_time.base import AbstractStreamScore

WITH_SETTINGS = {
    "KNN": {"k": 3, "average": True},
    "ASH": {"variant": "b"},
    "MCM": {"temperature": 0.02},
    "EOE": {"outliers": "names.txt", "beta": 0.5},
}
TEXTS, IMAGES = normalize(torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1)), dim=2)
PROBE, CLOSED = (LinearHead(reads, 3 * TEXTS, IMAGES[:, 0]) for reads in ("embedding", "features"))
LOCAL_HEAD = LocalHead(*torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(3)))
BANK = Neighbours(normalize(torch.randn(12, 6, generator=torch.Generator().manual_seed(2)), dim=1), torch.ones(12))
LEARNED = {
    "GLMCM": {"prototypes_": TEXTS},
    "LMCM": {"prototypes_": TEXTS},
    "MMP": {"texts_": TEXTS, "images_": IMAGES},
    "COOkeD": {"prototypes_": TEXTS, "probe_": PROBE, "closed_": CLOSED},
    "SigmoidMax": {"texts_": SigmoidTexts(TEXTS, 8.0, -4.0)},
    "NoisyOr": {"texts_": SigmoidTexts(TEXTS, 8.0, -4.0)},
    "IDLikeScore": {"texts_": NegativeTexts(TEXTS, IMAGES, ("a", "b", "c"))},
    "NegPromptScore": {"texts_": NegativeTexts(TEXTS, IMAGES, ("a", "b", "c"))},
    "LocalPromptScore": {"positive_": TEXTS, "local_": IMAGES, "local_negative_": -TEXTS[:2]},
    "CSD": {
        "descriptors_": LocalDescriptors("feature_map", region_means(2, 2), LOCAL_HEAD),
        "neighbours_": BANK,
    },
    "CrossScaleKNN": {"descriptors_": LocalDescriptors("patches", region_means(2, 2)), "neighbours_": BANK},
    "GMP": {"texts_": TEXTS, "images_": IMAGES, "image_to_text_": torch.eye(6).roll(1, 0)},
}
STATIC = [
    name
    for name in scores.__all__
    if issubclass(kind := getattr(scores, name), AbstractScore)
    and not inspect.isabstract(kind)
    and not issubclass(kind, AbstractStreamScore)
]


def fitted(name):
    score = getattr(scores, name)(**WITH_SETTINGS.get(name, {}))
    if name in ("NegLabel", "CSP", "EOE"):
        texts = normalize(torch.randn(11, 6, generator=torch.Generator().manual_seed(0)), dim=1)
        words = tuple(f"word {number}" for number in range(8))
        score.texts_ = NegativeTexts(texts[:3], texts[3:], words, groups=1 if name == "EOE" else 4)
    elif name in LEARNED:
        for attribute, value in LEARNED[name].items():
            setattr(score, attribute, value)
    else:
        score.fit(with_head())
    return score


def maps_of(features):
    """Return four unit vectors for each image, and four that are not."""
    moved = torch.stack([features.roll(step, 1) for step in range(4)], dim=1)
    return normalize(moved, dim=2), moved


def images():
    found = queries(with_head())
    return Embedded(found.features, found.logits, normalize(found.features, dim=1), *maps_of(found.features))


@pytest.mark.parametrize("name", STATIC)
def test_there_and_back(name):
    score = fitted(name)
    portable = packed(score)
    # As it comes from a file.
    settings, values = (json.loads(json.dumps(dict(part))) for part in (portable.settings, portable.values))
    again = unpacked(PortableScore(portable.kind, settings, values, portable.tensors), None, "The folder x")
    assert type(again) is type(score)
    assert torch.equal(again(images()), score(images()))
    texts = again.negative_labels()
    assert (texts is None) == (score.negative_labels() is None)
    assert texts is None or texts.words == score.negative_labels().words


def test_an_index_of_faiss_is_refused():
    pytest.importorskip("faiss")
    with pytest.raises(MmoodError, match=r"KNN cannot be shipped: its neighbours_.index .* `search: exact`"):
        packed(scores.KNN(search="approximate").fit(with_head()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "system"}, "There is no score 'system'"),
        ({"settings": {"k": 1, "command": "x"}}, "does not fit the score KNN"),
        ({"values": {"neighbours_.": "Path"}}, "does not fit the score KNN"),
        ({"tensors": {}}, "does not fit the score KNN"),
    ],
)
def test_what_does_not_fit_is_refused(change, said):
    portable = packed(fitted("KNN"))
    fields = {name: getattr(portable, name) for name in ("kind", "settings", "values", "tensors")} | change
    with pytest.raises(MmoodError, match=said):
        unpacked(PortableScore(**fields), None, "The folder x")
