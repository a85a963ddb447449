"""Texts: embeddings, prototypes, token embeddings."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from mmood.encoders.texts import encode_tokens
from mmood.errors import MmoodError

NAMES = ["cat", "great white shark", "dog"]
TEMPLATES = ["a photo of a {}.", "the {} in {{braces}}", "many {}"]


@torch.no_grad()
def test_texts_of_every_family(family):
    encoder, _, _ = family
    texts = ["a photo of a cat", "two dogs", "", "a bird"]
    expected = encoder.model.encode_text(encoder.tokenizer(texts), normalize=True)
    encoded = encoder.encode_text(texts, batch_size=3)
    assert torch.allclose(encoded, expected, atol=1e-6)
    assert encoded.dtype == torch.float32
    assert torch.allclose(encoded.norm(dim=-1), torch.ones(4))


@torch.no_grad()
def test_no_texts(vit):
    assert vit.encode_text([]).shape == (0, 24)
    assert vit.prototypes([], TEMPLATES).shape == (0, 24)


@torch.no_grad()
@pytest.mark.parametrize("normalise_first", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_prototypes_by_hand(vit, normalise_first, batch_size):
    rows = []
    for name in NAMES:
        prompts = [template.replace("{}", name) for template in TEMPLATES]
        texts = vit.model.encode_text(vit.tokenizer(prompts), normalize=normalise_first)
        rows.append(texts.mean(dim=0) / texts.mean(dim=0).norm())
    prototypes = vit.prototypes(NAMES, TEMPLATES, normalise_first=normalise_first, batch_size=batch_size)
    assert torch.allclose(prototypes, torch.stack(rows), atol=1e-6)


def test_chunks_bound_what_the_tower_sees(vit, monkeypatch):
    sizes = []
    monkeypatch.setattr(vit, "tokenizer", lambda texts, plain=vit.tokenizer: sizes.append(len(texts)) or plain(texts))
    with torch.no_grad():
        vit.prototypes(["cat"] * 7, TEMPLATES, batch_size=6)
    assert sizes == [6, 6, 6, 3]


@pytest.mark.parametrize("templates", [["a photo"], [], "a photo of a {}"])
def test_prototypes_refuse_bad_templates(vit, templates):
    with pytest.raises(MmoodError, match="template"):
        vit.prototypes(NAMES, templates)


@torch.no_grad()
def test_tokens_own_embeddings_give_the_text(family):
    encoder, _, _ = family
    tokens = encoder.tokenize(["a photo of a cat", "a very long text " * 20])
    embeddings = encoder.embed_tokens(tokens)
    expected = functional.normalize(encoder.encode_token_ids(tokens), dim=-1)
    assert torch.equal(encoder.encode_token_embeddings(embeddings, tokens), expected)
    other = encoder.encode_token_embeddings(embeddings + 0.5 * torch.randn_like(embeddings), tokens)
    assert not torch.allclose(other, expected, atol=1e-3)
    assert torch.equal(functional.normalize(encoder.encode_token_ids(tokens), dim=-1), expected), "the hook stayed"


def test_token_embeddings_carry_a_gradient(vit):
    tokens = vit.tokenize(["a photo of a cat", "a photo of a cat that is larger"])
    embeddings = vit.embed_tokens(tokens).detach().requires_grad_()
    vit.encode_token_embeddings(embeddings, tokens)[0, 0].backward()
    end = tokens[0].argmax()
    assert embeddings.grad[0, :end].abs().max() > 0
    assert embeddings.grad[0, end + 1 :].abs().max() == 0, "what follows the end of the text cannot matter"
    vit.zero_grad()


def test_token_embeddings_of_another_shape(vit):
    tokens = vit.tokenize(["a cat"])
    with pytest.raises(MmoodError, match="shape"):
        vit.encode_token_embeddings(torch.zeros(2, 16, 32), tokens)
    assert torch.isfinite(vit.encode_text(["a cat"])).all(), "the hook is gone after an error"


def test_token_embeddings_need_open_clips_text_tower(family_folder, load_folder):
    encoder = load_folder(family_folder("siglip"))
    encoder.model.text = torch.nn.Identity()
    with pytest.raises(MmoodError, match="Identity"):
        encoder.embed_tokens(torch.zeros(1, 16, dtype=torch.long))


def test_gradients_reach_the_text_tower(vit):
    encoder = copy.deepcopy(vit)
    encoder.prototypes(NAMES, TEMPLATES, batch_size=4)[:, 0].sum().backward()
    assert encoder.model.token_embedding.weight.grad.abs().max() > 0


def test_logit_scale_and_bias(family):
    encoder, _, _ = family
    scale = encoder.logit_scale
    assert scale.shape == ()
    assert scale.dtype == torch.float32
    assert math.isclose(scale.item(), 1 / 0.07, rel_tol=0.2)
    if encoder.model.logit_bias is None:
        assert encoder.logit_bias is None
    else:
        assert math.isclose(encoder.logit_bias.item(), -10, abs_tol=0.2)


def test_logit_scale_of_one_element_is_a_scalar(write_model, tiny_config, load_folder, tmp_path):
    encoder = load_folder(write_model(tmp_path / "m", {**tiny_config, "nonscalar_logit_scale": True}))
    assert encoder.logit_scale.shape == ()
    assert encoder.logit_scale.requires_grad


def test_frozen_pass_equals_the_full_pass_and_gives_weights_no_gradient(family):
    encoder, _, _ = family
    texts = ["a photo of a cat", "two", ""]
    with torch.no_grad():
        expected = encoder.model.encode_text(encoder.tokenizer(texts), normalize=True)
    ids, embeddings = encoder.frozen_tokens(texts)
    assert not embeddings.requires_grad
    given = embeddings.clone().requires_grad_()
    encoded = encoder.encode_frozen_tokens(given, ids)
    torch.testing.assert_close(encoded, expected, atol=1e-5, rtol=1e-4)
    encoded[:, 0].sum().backward()
    assert float(given.grad.abs().max()) > 0
    assert all(weight.grad is None for weight in encoder.parameters())


def test_tokens_are_cut_behind_the_longest_text(vit):
    whole = vit.tokenizer(["a photo of a cat", "two"])
    length = int(whole.argmax(dim=-1).max()) + 1
    assert length < whole.shape[1]
    assert torch.equal(vit.tokenize(["a photo of a cat", "two"]), whole[:, :length])
    assert vit.frozen_tokens(["a photo of a cat", "two"])[1].shape[:2] == (2, length)


@pytest.mark.parametrize("name", ["siglip", "coca"])
def test_tokens_of_towers_that_look_behind_the_end_are_whole(family_folder, load_folder, name):
    encoder = load_folder(family_folder(name))
    assert encoder.tokenize(["two"]).shape == (1, 16)


def test_names_reach_the_tokenizer_as_they_are(vit, monkeypatch):
    """Punctuation and case are for the model's own tokenizer to keep or to drop."""
    names, seen = ["St. Bernard", "black-and-tan coonhound", 'Tom\'s "cat", lynx (wild)'], []
    tokenizer = vit.tokenizer
    monkeypatch.setattr(vit, "tokenizer", lambda texts: seen.extend(texts) or tokenizer(texts))
    vit.prototypes(names, ["The nice {}."])
    assert seen == [f"The nice {name}." for name in names]


@torch.no_grad()
def test_a_tokenizer_that_canonicalises_drops_case_and_punctuation(toy_sigmoid_model, load_folder):
    encoder = load_folder(Path(toy_sigmoid_model.removeprefix("local-dir:")))
    bare = encoder.prototypes(["st bernard", "toms cat"], ["the nice {}"])
    assert torch.equal(encoder.prototypes(["St. Bernard", "Tom's cat"], ["The nice {}."]), bare)


def test_a_text_tower_that_is_not_open_clips_own_gets_whole_texts(family_folder, load_folder):
    encoder = load_folder(family_folder("siglip"))
    seen = []
    encoder.model.text = torch.nn.Module()
    encoder.model.text.forward = lambda tokens: seen.append(tokens.shape) or torch.ones(len(tokens), 192)
    assert encoder.encode_text(["two", "a photo of a cat"]).shape == (2, 192)
    assert seen == [(2, 16)]


@torch.no_grad()
def test_texts_of_many_lengths_keep_their_order(vit, monkeypatch):
    texts = [" ".join(["cat"] * (1 + 5 * index % 13)) for index in range(23)] + ["a very long text " * 20]
    expected = vit.model.encode_text(vit.tokenizer(texts), normalize=True)
    seen = []
    monkeypatch.setattr(
        vit,
        "encode_token_ids",
        lambda ids, *more, plain=vit.encode_token_ids: seen.append(ids.shape) or plain(ids, *more),
    )
    torch.testing.assert_close(vit.encode_text(texts, batch_size=8), expected, atol=1e-6, rtol=0)
    assert [rows for rows, _ in seen] == [8, 8, 8]
    assert seen[0][1] < seen[1][1] < seen[2][1] == 16, "short texts pass without the padding of long ones"


def test_cut_texts_train_the_tower_as_whole_ones_do(family):
    encoder, _, _ = family
    encoder = copy.deepcopy(encoder).double()
    texts = ["a photo of a cat", "two", "a bird in a tree"]
    weights = {name: weight for name, weight in encoder.model.named_parameters() if not name.startswith("visual.")}

    def gradients(embedding):
        encoder.zero_grad()
        embedding.pow(3).sum().backward()
        return {name: weight.grad.clone() for name, weight in weights.items() if weight.grad is not None}

    cut = gradients(encode_tokens(encoder.model, encoder.tokenize(texts)))
    whole = gradients(encoder.model.encode_text(encoder.tokenizer(texts), normalize=False))
    assert cut.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient)
