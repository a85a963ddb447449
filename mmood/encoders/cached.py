"""Whether the weights of a model are on this machine, without loading them."""

from __future__ import annotations

from pathlib import Path

from mmood.files import user_path

_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors")


def cached_weights(name: str) -> Path | None:
    """Return where the weights of an encoder lie on this machine; None if they would have to be fetched.

    Args:
        name: of the encoder, as in `model.encoder.name`.
    """
    kind, colon, place = name.partition(":")
    if colon and kind == "local-dir":
        folder = user_path(place)
        return folder if folder.is_dir() else None
    if colon and kind == "hf-hub":
        return _in_hub_cache(place)
    model, _, tag = name.partition("/")
    # Imported here: it imports torch.
    from open_clip.pretrained import get_pretrained_cfg

    known = get_pretrained_cfg(model, tag) or {}
    repository, _, file = str(known.get("hf_hub", "")).rpartition("/")
    found = _in_hub_cache(repository, *([file] if file else []))
    direct = Path.home() / ".cache" / "clip" / Path(str(known.get("url", ""))).name
    return found or (direct if direct.is_file() else None)


def _in_hub_cache(repository: str, *files: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    if not repository:
        return None
    for file in files or _FILES:
        path = try_to_load_from_cache(repository, file)
        if isinstance(path, str):
            return Path(path)
    return None
