"""Rows against plain copies: whatever version is read or written, each reads as on the day it was made."""

from random import Random

import pytest
import torch

from mmood.scores.test_time.rows import Rows


@pytest.mark.parametrize("seed", range(20))
def test_every_version_stays_as_it_was(seed):
    draw = Random(seed)
    start = torch.rand(draw.randrange(5), 2)
    versions = [(Rows(start.clone(), most=40), start)]
    for step in range(40):
        rows, plain = versions[draw.randrange(len(versions)) if draw.random() < 0.4 else -1]
        length = min(40, len(plain) + draw.randrange(4))
        at = sorted({*range(len(plain), length), *draw.sample(range(length), k=min(length, 3))})
        draw.shuffle(at)
        values = torch.full((len(at), 2), float(step)) + torch.rand(len(at), 2)
        copy = torch.cat([plain, torch.zeros(length - len(plain), 2)])
        copy[at] = values
        versions.append((rows.written(torch.tensor(at, dtype=torch.int64), values, length), copy))
        rows, plain = versions[draw.randrange(len(versions))]
        assert torch.equal(rows.tensor(), plain)
        assert len(rows) == len(plain)
    for rows, plain in versions:
        assert torch.equal(rows.tensor(), plain)


def test_the_newest_version_is_written_in_place():
    rows = Rows(torch.zeros(1000, 4))
    place = rows.tensor().data_ptr()
    for step in range(5):
        rows = rows.written(torch.tensor([step]), torch.ones(1, 4))
        assert rows.tensor().data_ptr() == place
    assert rows.tensor().sum() == 20
