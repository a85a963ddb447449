"""The scores of prompt-learning papers: brute force, and the identities that make them other scores."""

import pytest
import torch
from torch.nn.functional import normalize

from mmood.scores import functional_learned as functional
from mmood.scores.functional import max_softmax
from mmood.scores.functional_negatives import neglabel


def unit(*shape, seed=0):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def test_negatives_that_copy_the_positives_share_the_probability():
    v, t = unit(6, 8), unit(4, 8, seed=1)
    found = functional.positive_max_log_odds(v, t, torch.cat([t, t])).sigmoid()
    torch.testing.assert_close(found, max_softmax(v @ t.T) / 3)
    torch.testing.assert_close(functional.positive_max_log_odds(v, t, t[:0]).sigmoid(), max_softmax(v @ t.T))


def test_id_like_is_neglabel_with_one_group():
    v, t = unit(6, 8), unit(4, 8, seed=1)
    torch.testing.assert_close(neglabel(v, t, t[:1].expand(3, 8), 1e6), torch.full((6,), 4 / 7, dtype=torch.float64))
    o = unit(3, 8, seed=2)
    p = (torch.cat([v @ t.T, v @ o.T], 1) / 0.01).softmax(1)[:, :4].sum(1)
    torch.testing.assert_close(neglabel(v, t, o, 0.01), p)


@pytest.mark.parametrize("top_k", [1, 3, 100])
def test_local_prompt_by_loops(top_k):
    v, r, t, local, negative = (
        unit(3, 8),
        unit(3, 5, 8, seed=4),
        unit(4, 8, seed=1),
        unit(4, 8, seed=2),
        unit(2, 8, seed=3),
    )
    found = functional.local_prompt(v, r, t, local, negative, 1.0, top_k)
    for image in range(3):
        entries = []
        for region in range(5):
            inside, outside = (r[image, region] @ local.T).exp(), (r[image, region] @ negative.T).exp()
            entries += (inside / (inside.sum() + outside.sum())).tolist()
        best = sorted(entries, reverse=True)[:top_k]
        expected = float((v[image] @ t.T).softmax(0).max()) + sum(best) / len(best)
        assert float(found[image]) == pytest.approx(expected)


def test_local_prompt_in_chunks(monkeypatch):
    given = unit(7, 8), unit(7, 5, 8, seed=4), unit(4, 8, seed=1), unit(4, 8, seed=2), unit(2, 8, seed=3)
    whole = functional.local_prompt(*given)
    monkeypatch.setattr(functional, "_CELLS", 60)
    torch.testing.assert_close(functional.local_prompt(*given), whole)


def test_multi_modal_prototypes_are_the_mean_of_four():
    v, t, p, a = unit(6, 8), unit(4, 8, seed=1), unit(4, 8, seed=2), unit(8, 8, seed=3)
    mapped = normalize(v @ a.T, dim=-1)
    four = [max_softmax(rows @ x.T, 0.5) for rows in (v, mapped) for x in (t, p)]
    found = functional.multi_modal_log_odds(v, t, p, a, 0.5)
    torch.testing.assert_close(found.sigmoid(), torch.stack(four).mean(0))
    two = torch.stack([max_softmax(v @ x.T) for x in (t, p)]).mean(0)
    torch.testing.assert_close(functional.multi_modal_log_odds(v, t, p, torch.eye(8, dtype=v.dtype)).sigmoid(), two)
