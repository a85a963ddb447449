"""Texts with common beginnings: the same embeddings and gradients as whole texts, for fewer tokens."""

import pytest
import torch
from torch.nn import functional

from mmood.encoders.shared_beginnings import Endings, common_beginnings
from mmood.encoders.texts import deciding_tokens, encode_frozen

BEFORE = 6  # positions of a beginning: the start token and five words
CAUSAL = {
    "vit": {},
    "scaled": {"ls_init_value": 0.1},
    "projected by a layer": {"proj_bias": True},
    "not projected": {"proj_type": "none"},
    "read at the last word's end": {"pool_type": "eos", "eos_id": 49407},
}


@pytest.fixture(params=list(CAUSAL))
def causal(request, write_model, tiny_config, load_folder, tmp_path):
    more, width = CAUSAL[request.param], tiny_config["text_cfg"]["width"]
    text = {**tiny_config["text_cfg"], **more}
    vision, dim = tiny_config["vision_cfg"], width if more.get("proj_type") == "none" else tiny_config["embed_dim"]
    own = {"embed_dim": dim, "vision_cfg": vision, "text_cfg": text, "custom_text": bool(more)}
    return load_folder(write_model(tmp_path / "model", own))


def parts(encoder, count):
    """Return beginnings, their numbers, endings and ids of seven texts of several lengths, the vectors with gradient."""
    texts = [f"x x x x x {word}" for word in ("cat", "two dogs", "", "a very long name", "cat", "bird.", "q")]
    ids = encoder.tokenize(texts)
    generator = torch.Generator().manual_seed(0)
    found = encoder.embed_tokens(ids).detach()
    beginnings = found[:1, :BEFORE] + 0.1 * torch.randn(count, BEFORE, found.shape[-1], generator=generator)
    numbers = torch.arange(len(texts)) % count
    return beginnings.requires_grad_(), numbers, found[:, BEFORE:].clone().requires_grad_(), ids


def both_ways(encoder, count):
    """Return embeddings and gradients of the texts in parts, and of the whole texts."""
    results = []
    for in_parts in (True, False):
        beginnings, numbers, endings, ids = parts(encoder, count)
        if in_parts:
            found = encoder.encode_frozen_endings(beginnings, numbers, endings, ids)
        else:
            whole = torch.cat([beginnings[numbers], endings], dim=1)
            found = functional.normalize(encode_frozen(encoder.model, whole, ids).float(), dim=-1)
        weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
        (found * weights).sum().backward()
        results.append((found.detach(), beginnings.grad, endings.grad))
    return results


def tokens_passed(encoder, run):
    """Return how many tokens go through the first block of the text tower while `run` runs."""
    text = getattr(encoder.model, "text", encoder.model)
    seen = []
    handle = text.transformer.resblocks[0].mlp.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].shape[:-1].numel())
    )
    run()
    handle.remove()
    return sum(seen)


@pytest.mark.parametrize("count", [1, 3])
def test_parts_equal_the_whole(causal, count):
    for one, other in zip(*both_ways(causal, count), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
        assert other.abs().max() > 1e-3
    assert all(weight.grad is None for weight in causal.parameters())


@pytest.mark.parametrize("count", [1, 3])
def test_a_beginning_passes_once(causal, count):
    beginnings, numbers, endings, ids = parts(causal, count)
    length = endings.shape[1]
    passed = tokens_passed(causal, lambda: causal.encode_frozen_endings(beginnings, numbers, endings, ids))
    assert passed == count * BEFORE + 7 * length


def test_where_each_text_has_its_own_nothing_is_shared(causal):
    beginnings, numbers, endings, ids = parts(causal, 7)
    passed = tokens_passed(causal, lambda: causal.encode_frozen_endings(beginnings, numbers, endings, ids))
    assert passed == 7 * ids.shape[1]


def test_parts_equal_the_whole_in_every_family(family):
    """Towers that look both ways, or have blocks of another kind, get whole texts."""
    encoder, _, _ = family
    for one, other in zip(*both_ways(encoder, 2), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_padded_beginnings_of_several_lengths(causal):
    """As the templates of an inversion have them: known once, then followed by endings of several lengths."""
    texts = ["x x x cat", "x two dogs here", "x x x x x x bird", "x x x q"]
    lengths = torch.tensor([4, 2, 7, 4])  # with the token that starts a text
    ids = causal.tokenize(texts)
    expected = causal.model.encode_text(causal.tokenizer(texts), normalize=True)
    begun = causal.begin_frozen(causal.embed_tokens(ids[:, :7]), lengths)
    order = torch.tensor([2, 0, 1, 3, 2])
    after = deciding_tokens(causal.model, ids) - lengths
    places = (lengths.unsqueeze(1) + torch.arange(int(after.max()))).clamp_max(ids.shape[1] - 1)
    endings = causal.embed_tokens(ids.gather(1, places))
    found = causal.end_frozen(begun, Endings(order, endings[order], (after - 1)[order]))
    torch.testing.assert_close(found, expected[order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["siglip", "coca"])
def test_towers_that_look_behind_the_end_know_no_beginnings(family_folder, load_folder, name):
    encoder = load_folder(family_folder(name))
    ids = encoder.tokenize(["a cat"])
    assert encoder.begin_frozen(encoder.embed_tokens(ids[:, :2]), torch.tensor([2])) is None


@pytest.mark.parametrize("more", [{"qk_norm": True}, {"scale_heads": True}])
def test_blocks_of_another_kind_get_whole_texts(write_model, tiny_config, load_folder, tmp_path, more):
    config = {**tiny_config, "text_cfg": {**tiny_config["text_cfg"], **more}, "custom_text": True}
    encoder = load_folder(write_model(tmp_path / "model", config))
    for one, other in zip(*both_ways(encoder, 1), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_bf16_stays_as_near_to_float32_as_whole_texts_do(vit):
    exact, _ = both_ways(vit, 2)
    with torch.autocast("cpu", torch.bfloat16):
        in_parts, whole = both_ways(vit, 2)
    error = [(found[0] - exact[0]).norm().item() for found in (in_parts, whole)]
    assert 0 < error[0] < 1.5 * error[1]


def test_the_beginnings_with_the_fewest_tokens_are_found():
    """Against all ways to cut, counted one by one."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        rows = torch.randint(3, (9, 7), generator=generator)
        rows[:5, :4] = rows[0, :4]
        counts = [len(set(map(tuple, rows[:, :cut].tolist()))) * cut + 9 * (7 - cut) for cut in range(7)]
        found = common_beginnings(rows, 6)
        assert (counts[0] if found is None else counts[found.length]) == min(counts)
        if found is not None:
            assert torch.equal(rows[found.first][found.number][:, : found.length], rows[:, : found.length])
    assert common_beginnings(torch.arange(12).reshape(3, 4), 3) is None
    assert common_beginnings(torch.ones(5, 4, dtype=torch.long), 2).length == 2, "a text is not read in its beginning"


@torch.no_grad()
def test_prompts_of_many_classes_share_their_words(causal):
    prompts = [f"{template} {name}" for name in ("cat", "two dogs", "bird") for template in ("a photo of a", "the")]
    prompts += ["cat", "cat", ""]
    expected = causal.model.encode_text(causal.tokenizer(prompts), normalize=True)
    torch.testing.assert_close(causal.encode_text(prompts), expected, atol=1e-5, rtol=1e-4)
    prompts = [f"a photo of a {name}" for name in ("cat", "dog", "bird", "lion")]
    ids = causal.tokenize(prompts)
    passed = tokens_passed(causal, lambda: causal.encode_text(prompts))
    assert passed < 0.6 * ids.numel()


@torch.no_grad()
def test_one_text_many_times_over(causal):
    for count in (1, 2, 5):
        expected = causal.model.encode_text(causal.tokenizer(["a cat"] * count), normalize=True)
        torch.testing.assert_close(causal.encode_text(["a cat"] * count), expected, atol=1e-5, rtol=1e-4)
