"""Learned prompts as a folder: readable JSON, and the vectors as safetensors; nothing in it is executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mmood.encoders.prompts import check_templates
from mmood.errors import MmoodError
from mmood.files import Fields, is_file, is_folder, parse_json, read_limited, user_path, write_atomically
from mmood.prompts.family import PAIRINGS, Layout, Pairing, PromptFamily
from mmood.prompts.learned import ROLES, LearnedPrompts, Role

LEARNED = "learned:"
"""How the name of a folder of learned prompts begins where templates are expected."""

SCHEMA = 1
DOCUMENT, VECTORS = "prompts.json", "context.safetensors"
MAX_BYTES = 2**30
"""The largest file of vectors that is read."""
_EXTRA = "extra."
_FORM = "a folder of learned prompts"


def save_prompts(prompts: LearnedPrompts, folder: Path) -> None:
    """Write learned prompts into a folder, each file whole; the document comes last."""
    tensors = {role: family.context for role, family in prompts.families.items()}
    vectors = {str(name): tensor for name, tensor in tensors.items()}
    vectors |= {f"{_EXTRA}{name}": tensor for name, tensor in prompts.tensors.items()}
    content = save({name: tensor.detach().float().cpu().contiguous().clone() for name, tensor in vectors.items()})
    document = {
        "schema": SCHEMA,
        "method": prompts.method,
        "class_names": list(prompts.class_names),
        "templates": list(prompts.templates),
        "families": {
            role: {
                "pairing": family.layout.pairing,
                "suffix": family.layout.suffix,
                "shape": list(family.context.shape),
            }
            for role, family in prompts.families.items()
        },
        "tensors": {name: list(tensor.shape) for name, tensor in prompts.tensors.items()},
        "tower": dict(prompts.tower),
        "recipe": dict(prompts.recipe),
        "vectors_sha256": hashlib.sha256(content).hexdigest(),
    }
    document["sha256"] = _hash(document)
    write_atomically(folder / VECTORS, content)
    write_atomically(folder / DOCUMENT, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def load_prompts(path: str | Path) -> LearnedPrompts:
    """Return the learned prompts in a folder.

    Raises:
        MmoodError: there is no such folder, a field or a tensor is not what it must be, the vectors are not those that
            the document was written with, or the document was changed.
    """
    folder = user_path(path)
    if not str(path) or not is_folder(folder) or not is_file(folder / DOCUMENT):
        raise MmoodError(
            f"`{LEARNED}{path}` names no folder with a {DOCUMENT}; give one that `mmood fit` of PromptLearning has "
            "written, `prompts` in the folder of the run."
        )
    where = f"The learned prompts in {folder}"
    fields = Fields(parse_json(read_limited(folder / DOCUMENT, f"{where} ({DOCUMENT})"), where), where)
    if (schema := fields.whole("schema")) != SCHEMA:
        raise MmoodError(f"{where} have the schema {schema}; this version reads {SCHEMA}.")
    content = read_limited(folder / VECTORS, f"{where} ({VECTORS})", MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != fields.text("vectors_sha256"):
        raise MmoodError(f"{where} are damaged: {VECTORS} is not the file that {DOCUMENT} was written with.")
    tower = fields.child("tower")
    tower.text("weights_sha256"), tower.text("name")
    tensors = _tensors(content, where)
    extra = {name: _shape(fields.child("tensors"), name) for name in fields.mapping("tensors")}
    families = fields.child("families")
    expected = {role: _shape(families.child(role), "shape") for role in families.raw}
    _check(tensors, {**expected, **{f"{_EXTRA}{name}": shape for name, shape in extra.items()}}, where)
    prompts = LearnedPrompts(
        fields.text("method"),
        fields.texts("class_names"),
        {role: _family(families, role, tensors) for role in _roles(families)},
        fields.texts("templates"),
        tower.raw,
        fields.mapping("recipe"),
        {name: tensors[f"{_EXTRA}{name}"] for name in extra},
    )
    if "positive" not in prompts.families:
        check_templates(prompts.templates)
    if fields.text("sha256") != _hash(fields.raw):
        raise MmoodError(
            f"{where} are not as they were written: {DOCUMENT} was changed; what it says belongs to the vectors, so "
            "train again with other settings, or fetch the folder again."
        )
    return prompts


def _hash(document: Mapping[str, object]) -> str:
    """Return the sha256 (hex) of a document without its own."""
    content = {name: value for name, value in document.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _roles(families: Fields) -> list[Role]:
    if unknown := families.raw.keys() - set(ROLES):
        raise MmoodError(f"{families.where} has '{min(unknown):.40}'; {_FORM} may have {', '.join(ROLES)}.")
    return [role for role in ROLES if role in families.raw]


def _family(families: Fields, role: Role, tensors: dict[str, Tensor]) -> PromptFamily:
    fields = families.child(role)
    found = fields.one_of("pairing", PAIRINGS)
    pairing: Pairing = next(one for one in PAIRINGS if one == found)
    if tensors[role].ndim != 3:
        raise MmoodError(f"{fields.where} has {tensors[role].ndim} dimensions; it must have contexts, tokens, width.")
    return PromptFamily(tensors[role], Layout(pairing, fields.text("suffix")))


def _shape(fields: Fields, name: str) -> tuple[int, ...]:
    right = "a list of sizes"
    found = fields.value(name, lambda v: isinstance(v, list) and all(type(n) is int and n >= 0 for n in v), right)
    return tuple(found)


def _tensors(content: bytes, where: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise MmoodError(f"{where} are damaged: {VECTORS} cannot be read as tensors: {error}.") from error
    return tensors


def _check(tensors: dict[str, Tensor], expected: dict[str, tuple[int, ...]], where: str) -> None:
    """Raise MmoodError unless exactly these tensors are there, in float32 and finite."""
    if tensors.keys() != expected.keys():
        found, wanted = sorted(tensors), sorted(expected)
        raise MmoodError(f"{where} have the tensors {found[:4]}, but {DOCUMENT} names {wanted[:4]}.")
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.dtype != torch.float32 or tuple(tensor.shape) != shape or 0 in shape:
            raise MmoodError(
                f"{where} have '{name}' of shape {tuple(tensor.shape)} in {tensor.dtype}; it must be {shape}, not "
                "empty, in float32."
            )
        if not bool(tensor.isfinite().all()):
            raise MmoodError(f"{where} have a value in '{name}' that is not a finite number.")
