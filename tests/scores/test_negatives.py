import doctest
import hashlib
from dataclasses import dataclass, replace

import pytest
import torch
from torch.nn.functional import normalize

from mmood.errors import MmoodError
from mmood.scores import functional_negatives as functional
from mmood.scores.base import Embedded, Reference
from mmood.scores.negatives import CSP, EOE, NegLabel
from mmood.scores.test_time import TANL, TINS, AdaNeg, InterNeg
from mmood.words import CorpusSettings, NegativeMiner
from mmood.words import miner as presets
from mmood.words.lists import load_negatives
from mmood.words.names_file import NamesFile, ProposedName
from mmood.words.proposed import origin_for


def unit(seed, *shape):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def brute_force(images, names, words, temperature, groups):
    """The definition in float64, a softmax per group; also log S and log (1 - S) by way of logs of sums."""
    images, names, words = images.double(), names.double(), words.double()
    positive, negative = images @ names.T / temperature, images @ words.T / temperature
    shares, logs, rests = [], [], []
    for group in negative.chunk(groups, dim=-1):
        log_p = torch.cat([positive, group], dim=-1).log_softmax(-1)
        shares.append(log_p[:, : len(names)].exp().sum(-1))
        logs.append(log_p[:, : len(names)].logsumexp(-1))
        rests.append(log_p[:, len(names) :].logsumexp(-1))
    return torch.stack(shares).mean(0), torch.stack(logs).logsumexp(0) - torch.stack(rests).logsumexp(0)


def auroc(id_scores, ood_scores):
    gap = id_scores[:, None] - ood_scores[None, :]
    return float(((gap > 0).double() + 0.5 * (gap == 0).double()).mean())


def test_examples():
    assert not doctest.testmod(functional).failed


@pytest.mark.parametrize("temperature", [0.002, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("groups", [1, 4, 12, 60])
def test_equals_brute_force_in_float64(temperature, groups):
    images, names, words = unit(0, 33, 16), unit(1, 7, 16), unit(2, 60, 16)
    share, odds = brute_force(images, names, words, temperature, groups)
    found = functional.neglabel_log_odds(images, names, words, temperature, groups)
    # A cosine carries a few roundings of float32; the temperature magnifies them.
    torch.testing.assert_close(found.double(), odds, atol=1e-6 / temperature, rtol=1e-5)
    probability = functional.neglabel(images, names, words, temperature, groups).double()
    torch.testing.assert_close(probability, share, atol=1e-6 / temperature, rtol=0)
    exact = functional.neglabel_log_odds(images.double(), names.double(), words.double(), temperature, groups)
    torch.testing.assert_close(exact, odds, atol=1e-9, rtol=1e-9)


def test_blocks_do_not_change_the_result(monkeypatch):
    images, texts = unit(0, 50, 8), unit(1, 60, 8)
    whole = functional.group_logsumexp(images, texts, 0.01, 12)
    for block in ((7, 11), (50, 1), (13, 10_000)):
        monkeypatch.setattr(functional, "BLOCK", block)
        torch.testing.assert_close(functional.group_logsumexp(images, texts, 0.01, 12), whole, atol=2e-4, rtol=0)


def test_far_apart_groups_neither_over_nor_underflow():
    image, names = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    words = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    found = functional.group_logsumexp(image, words, temperature=0.001, groups=2)
    torch.testing.assert_close(found, torch.tensor([[1000.0, -1000.0]]))
    assert torch.isfinite(functional.neglabel_log_odds(image, names, -names, temperature=0.0001)).all()


def test_one_group_is_the_single_softmax():
    images, names, words = unit(0, 20, 16), unit(1, 5, 16), unit(2, 30, 16)
    logits = 100 * images.double() @ torch.cat([names, words]).double().T
    single = logits.softmax(-1)[:, :5].sum(-1)
    torch.testing.assert_close(functional.neglabel(images, names, words).double(), single, atol=1e-5, rtol=1e-4)


def test_adding_a_negative_lowers_every_score():
    images, names, words = unit(0, 50, 8), unit(1, 5, 8), unit(2, 31, 8)
    fewer, more = (functional.neglabel_log_odds(images, names, part, 0.1) for part in (words[:30], words))
    assert (more < fewer).all()


@pytest.mark.parametrize("kind", [NegLabel, CSP, TINS])
def test_more_groups_than_mining_keeps_are_refused_before_anything_is_mined(kind):
    with pytest.raises(MmoodError, match=r"groups is 5, but mining.count keeps only 4 negative labels; lower `groups`"):
        kind(groups=5, mining=NegativeMiner(count=4))
    kind(groups=4, mining=NegativeMiner(count=4))
    kind(groups=5, mining=NegativeMiner(count=4), negatives="a-list.json")


def test_order_inside_groups_does_not_matter():
    images, names, words = unit(0, 20, 16), unit(1, 5, 16), unit(2, 40, 16)
    inside = words.view(4, 10, 16)[:, torch.randperm(10, generator=torch.Generator().manual_seed(1))].reshape(40, 16)
    args = (images, names)
    same = functional.neglabel_log_odds(*args, inside, 0.01, 4)
    torch.testing.assert_close(same, functional.neglabel_log_odds(*args, words, 0.01, 4), atol=1e-4, rtol=0)


def test_scores_lie_in_the_open_unit_interval_and_a_shared_name_gives_at_most_half():
    images, names = unit(0, 200, 16), unit(1, 1, 16)
    share = functional.neglabel(images, names, unit(2, 40, 16), 0.1, 4)
    assert ((share > 0) & (share < 1)).all()
    shared = functional.neglabel_log_odds(images, names, torch.cat([unit(2, 9, 16), names]))
    assert (shared <= 1e-4).all()


def test_saturated_scores_do_not_tie():
    names, words = unit(1, 10, 64), unit(2, 200, 64)
    noise = unit(3, 600, 64)
    id_images = normalize(names[torch.arange(300) % 10] + 1.1 * noise[:300], dim=-1)
    ood_images = normalize(names[torch.arange(300) % 10] + 1.3 * noise[300:], dim=-1)
    plain = [functional.neglabel(x, names, words, 0.01, 10) for x in (id_images, ood_images)]
    assert float((torch.cat(plain) == 1.0).float().mean()) > 0.5
    truth = auroc(*(brute_force(x, names, words, 0.01, 10)[1] for x in (id_images, ood_images)))
    found = auroc(*(functional.neglabel_log_odds(x, names, words, 0.01, 10) for x in (id_images, ood_images)))
    assert found == pytest.approx(truth, abs=1e-4)
    assert abs(auroc(*plain) - truth) > 0.01


def test_group_order_drops_the_last_and_leaves_the_global_generator():
    before = torch.get_rng_state()
    order = functional.group_order(107, 10, seed=0)
    assert sorted(order.tolist()) == list(range(100))
    assert torch.equal(order, functional.group_order(107, 10, seed=0))
    assert not torch.equal(order, functional.group_order(107, 10, seed=1))
    assert torch.equal(before, torch.get_rng_state())


def test_impossible_groups_are_refused():
    with pytest.raises(ValueError, match="3 negative labels cannot be split into 4 groups"):
        functional.group_order(3, 4)
    with pytest.raises(ValueError, match="same size"):
        functional.group_logsumexp(unit(0, 2, 4), unit(1, 5, 4), groups=2)


def test_eoe_equals_its_definition():
    positive, negative = unit(0, 9, 5), unit(1, 9, 7)
    p = torch.cat([positive, negative], 1).exp()
    p = p / p.sum(1, keepdim=True)
    expected = p[:, :5].amax(1) - 0.25 * p[:, 5:].amax(1)
    torch.testing.assert_close(functional.eoe(positive, negative), expected)


@dataclass
class FakeReference:
    class_names: tuple[str, ...] = ("cat", "dog", "boat")
    weights: str = "w0"
    calls: int = 0
    learned: None = None

    @property
    def prototypes(self):
        return self.encode_text(self.class_names)

    def identity(self):
        return {"name": "fake", "weights_sha256": self.weights}

    encode_words = Reference.encode_words

    def encode_text(self, texts, normalise=True):
        self.calls += 1
        seeds = [int(hashlib.sha256(f"{self.weights}{text}".encode()).hexdigest()[:12], 16) for text in texts]
        return torch.cat([unit(seed, 1, 16) * (1 if normalise else 1 + seed % 5) for seed in seeds])


@pytest.fixture
def mining(tmp_path, monkeypatch):
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "nouns.txt").write_text("\n".join(f"thing {i}" for i in range(60)))
    (tmp_path / "adjectives.txt").write_text("\n".join(f"kind {i}" for i in range(40)))
    return CorpusSettings(nouns=(str(tmp_path / "nouns.txt"),), adjectives=(str(tmp_path / "adjectives.txt"),))


def embedded(seed=9, batch=12):
    return Embedded(features=torch.empty(batch, 0), logits=torch.empty(batch, 3), embedding=unit(seed, batch, 16))


@pytest.mark.parametrize(("kind", "preset"), [(NegLabel, presets.NEGLABEL), (CSP, presets.CSP)])
def test_scores_mine_encode_and_score(kind, preset, mining):
    reference = FakeReference()
    score = kind(groups=4, mining=replace(preset, corpus=mining)).fit(reference)
    learned = score.prototypes
    assert len(learned.list_) == 9 + 6
    assert len(learned.negative_) == 12
    assert score.needs == {"embedding"}
    found = score(embedded())
    assert found.shape == (12,)
    assert found.dtype == torch.float32
    truth = brute_force(embedded().embedding, learned.positive_, learned.negative_, 0.01, 4)[1]
    torch.testing.assert_close(found.double(), truth, atol=1e-4, rtol=1e-5)
    assert score(embedded(batch=0)).shape == (0,)
    settings = score.record()
    assert settings["negatives_sha256"] == learned.list_.content_hash
    assert (settings["temperature"], settings["groups"], settings["negatives_used"]) == (0.01, 4, 12)


def test_nothing_large_is_a_buffer(mining):
    score = NegLabel(groups=1, mining=replace(presets.NEGLABEL, corpus=mining)).fit(FakeReference())
    assert not score.state_dict()
    assert not list(score.buffers())


def test_a_changed_text_tower_encodes_again_but_keeps_the_list(mining):
    score = NegLabel(groups=1, mining=replace(presets.NEGLABEL, corpus=mining)).fit(FakeReference())
    first, before = score.prototypes.list_, score.prototypes.negative_
    score.fit(FakeReference(weights="w1"))
    assert score.prototypes.list_ is first
    assert not torch.allclose(score.prototypes.negative_, before)
    assert first.mined_with["encoder"]["weights_sha256"] == "w0"


def test_a_given_list_is_used_and_nothing_is_mined(mining, tmp_path):
    (tmp_path / "list.txt").write_text("sea\nblue\tadjective\nhill\n")
    reference = FakeReference()
    score = NegLabel(groups=1, negatives=str(tmp_path / "list.txt")).fit(reference)
    assert score.prototypes.list_.words == ("sea", "hill", "blue")
    assert not (tmp_path / "cache").exists()
    score.prototypes.list_.save(tmp_path / "again.json")
    again = NegLabel(groups=1, negatives=str(tmp_path / "again.json")).fit(reference)
    assert torch.equal(score(embedded()), again(embedded()))


def test_eoe_reads_outlier_names(tmp_path):
    (tmp_path / "outliers.txt").write_text("fox\nbarge\n")
    reference = FakeReference()
    score = EOE(str(tmp_path / "outliers.txt")).fit(reference)
    images = embedded().embedding
    texts = [
        reference.encode_text([f"a photo of a {n}" for n in names])
        for names in (reference.class_names, ["fox", "barge"])
    ]
    expected = functional.eoe(*(images.double() @ t.double().T for t in texts))
    torch.testing.assert_close(score(embedded()).double(), expected, atol=1e-6, rtol=0)
    assert score.details()["outliers_found"] == 2


def test_eoe_refuses_an_id_class_among_the_outliers(tmp_path):
    (tmp_path / "outliers.txt").write_text(f"fox\n{FakeReference().class_names[0].upper()}\n")
    with pytest.raises(MmoodError, match=r"EOE.outliers is '.*outliers.txt', which has 1 ID classes among its names"):
        EOE(str(tmp_path / "outliers.txt")).fit(FakeReference())


def test_without_outliers_eoe_is_the_largest_softmax_probability():
    positive = unit(0, 9, 4) @ unit(1, 5, 4).T
    expected = positive.softmax(-1).amax(-1)
    far = torch.full((9, 3), -1e4)
    torch.testing.assert_close(functional.eoe(positive, far), expected)
    # beta 0 is not MCM: the outliers stay in the denominator.
    negative = unit(0, 9, 4) @ unit(2, 3, 4).T
    share = positive.exp().sum(-1) / (positive.exp().sum(-1) + negative.exp().sum(-1))
    torch.testing.assert_close(functional.eoe(positive, negative, beta=0.0), expected * share)


def test_an_outlier_given_twice_changes_eoe_only_through_the_denominator():
    positive, negative = unit(0, 9, 4) @ unit(1, 5, 4).T, unit(0, 9, 4) @ unit(2, 3, 4).T
    twice = functional.eoe(positive, torch.cat([negative, negative[:, :1]], dim=-1))
    sums = positive.exp().sum(-1) + negative.exp().sum(-1)
    torch.testing.assert_close(twice, functional.eoe(positive, negative) * sums / (sums + negative[:, 0].exp()))


@pytest.mark.parametrize("score", [NegLabel(groups=1), CSP(groups=1), AdaNeg(groups=1), InterNeg(groups=1), TANL()])
def test_names_files_are_lists_of_negative_labels_for_every_score(score, tmp_path):
    names = (ProposedName("fox", "near", "dog"), ProposedName("barge", "far"))
    NamesFile(origin_for("eoe-near", ["dog"], {"model": "x"}), names).save(tmp_path / "names.json")
    score.prototypes.negatives = str(tmp_path / "names.json")
    score.prototypes.fit(FakeReference())
    assert set(score.prototypes.words_) == {"fox", "barge"}
    assert score.prototypes.details()["mined_with"]["proposed_with"] == {"model": "x"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NegLabel(groups=0), "groups is 0"),
        (lambda: NegLabel(temperature=0.0), "NegLabel.temperature is 0.0"),
        (lambda: CSP(temperature=-1.0), "CSP.temperature is -1.0"),
        (lambda: EOE("x.txt", template="a photo"), "has no '{}'"),
    ],
)
def test_impossible_settings_are_named(make, message):
    with pytest.raises(MmoodError, match=message):
        make()


def test_too_few_negatives_and_too_early_a_call_are_named(mining):
    with pytest.raises(MmoodError, match="groups is 100, but the list has only 15"):
        NegLabel(mining=replace(presets.NEGLABEL, corpus=mining)).fit(FakeReference())
    with pytest.raises(MmoodError, match="is not fitted yet"):
        NegLabel()(embedded())
    image_only = Embedded(features=torch.empty(2, 3), logits=torch.empty(2, 3))
    with pytest.raises(MmoodError, match="vision-language model"):
        NegLabel(groups=1, mining=replace(presets.NEGLABEL, corpus=mining)).fit(FakeReference())(image_only)


def test_settings_read_well_in_yaml():
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_subclass_arguments(NegLabel, "neglabel")
    parser.add_subclass_arguments(CSP, "csp")
    parsed = parser.parse_object(
        {
            "neglabel": {
                "class_path": "mmood.scores.negatives.NegLabel",
                "init_args": {"groups": 1, "mining": {"exclude_id_names": False, "corpus": {"preset": "full"}}},
            },
            "csp": {"class_path": "mmood.scores.negatives.CSP", "init_args": {"mining": {"fraction": 0.1}}},
        }
    )
    made = parser.instantiate(parsed)
    assert made.neglabel.prototypes.mining == NegativeMiner(corpus=CorpusSettings("full"), exclude_id_names=False)
    assert made.csp.prototypes.mining == replace(presets.CSP, fraction=0.1)


def test_lists_of_the_scores_are_loadable(mining, tmp_path):
    score = CSP(groups=1, mining=replace(presets.CSP, corpus=mining)).fit(FakeReference())
    score.prototypes.list_.save(tmp_path / "csp.json")
    assert load_negatives(tmp_path / "csp.json") == score.prototypes.list_


def test_a_checkpoint_keeps_the_list_that_was_mined_first(mining):
    first = NegLabel(groups=2, mining=NegativeMiner(corpus=mining)).fit(FakeReference())
    later = NegLabel(groups=2, mining=NegativeMiner(corpus=mining))
    later.restore(first.learned())
    later.fit(FakeReference(weights="tuned"))
    assert later.prototypes.list_ == first.prototypes.list_
    assert not torch.equal(later.prototypes.negative_, first.prototypes.negative_)


def test_settings_win_over_the_list_in_a_checkpoint(mining):
    first = NegLabel(groups=2, mining=NegativeMiner(corpus=mining)).fit(FakeReference())
    other = NegLabel(groups=2, mining=NegativeMiner(corpus=mining, fraction=0.5))
    other.restore(first.learned())
    assert len(other.fit(FakeReference()).prototypes.list_) > len(first.prototypes.list_)
