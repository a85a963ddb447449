"""Open_clip models by name: what is checked before anything is loaded, and the loading itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import open_clip
from open_clip.pretrained import download_pretrained, download_pretrained_from_hf, get_pretrained_cfg

from mmood.encoders.base import LOCAL, RANDOM, EncoderSettings
from mmood.encoders.towers import VisionLanguageModel
from mmood.encoders.trained_files import SAVED, TRAINED, trained_file, under_plain_names
from mmood.encoders.weights import LOAD_ERRORS, seeded, unloadable, unreachable
from mmood.errors import MmoodError, unknown
from mmood.files import parse_json, read_limited

HUB = "hf-hub:"
CONFIG_FILE = "open_clip_config.json"
Tokenizer = Callable[[list[str]], Any]


def check_open_clip(settings: EncoderSettings) -> None:
    """Raise MmoodError if the name, the tag, the checkpoint file or the folder cannot be right; loads no weights."""
    name, pretrained = settings.name, settings.pretrained
    if name.startswith((LOCAL, HUB)):
        if pretrained is not None:
            raise MmoodError(
                f"'{name}' has its own weights, so pretrained='{pretrained}' would be ignored; leave it out."
            )
        if name.startswith(LOCAL):
            _check_folder(Path(name.removeprefix(LOCAL)))
        elif name.removeprefix(HUB).count("/") != 1:
            raise MmoodError(f"'{name}' is not a model of the Hugging Face hub; write 'hf-hub:OWNER/MODEL'.")
        return
    if name not in open_clip.list_models():
        raise unknown("open_clip architecture", name, open_clip.list_models())
    if pretrained != RANDOM:
        _check_pretrained(name, pretrained)


def _check_pretrained(name: str, pretrained: str | None) -> None:
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None:
        raise MmoodError(
            f"'{name}' needs pretrained weights: set pretrained to one of its tags "
            f"({', '.join(tags) or 'it has none'}), to a checkpoint file, or to '{RANDOM}' for random weights."
        )
    if pretrained in tags or Path(pretrained).is_file():
        return
    if Path(pretrained).suffix or "/" in pretrained:
        raise MmoodError(f"There is no checkpoint file '{pretrained}' for '{name}'.")
    raise unknown(f"pretrained tag of {name}", pretrained, tags)


def _check_folder(folder: Path) -> None:
    config = folder / CONFIG_FILE
    if not folder.is_dir():
        raise MmoodError(f"There is no folder '{folder}' with an open_clip model.")
    if not config.is_file():
        raise MmoodError(f"The folder '{folder}' has no {CONFIG_FILE}, so it is not a saved open_clip model.")
    content = parse_json(read_limited(config, f"'{config}'"), f"'{config}'")
    if not isinstance(content, dict) or "model_cfg" not in content:
        raise MmoodError(f"'{config}' has no entry 'model_cfg', so it does not describe an open_clip model.")
    _check_no_code(content, f"'{config}'")
    patterns = (*SAVED, TRAINED)
    if trained_file(folder) is None and not any(path for pattern in SAVED for path in folder.glob(pattern)):
        raise MmoodError(f"The folder '{folder}' has no weights ({', '.join(patterns)}) beside its {CONFIG_FILE}.")


def _check_no_code(content: Any, what: str) -> None:
    """Raise MmoodError if a model's configuration asks to run code that comes with its tokenizer."""
    model = content.get("model_cfg") if isinstance(content, dict) else None
    text = model.get("text_cfg") if isinstance(model, dict) else None
    options = text.get("tokenizer_kwargs") if isinstance(text, dict) else None
    if isinstance(options, dict) and options.get("trust_remote_code"):
        raise MmoodError(
            f"{what} sets trust_remote_code for its tokenizer, which would run code that comes with the model; mmood "
            "does not allow this. Use a model whose tokenizer is part of the package transformers."
        )


def load_model(settings: EncoderSettings) -> VisionLanguageModel:
    """Return the model with its weights in float32 on the CPU; raises MmoodError in a sentence where it cannot.

    OpenAI's and some other weights were trained with QuickGELU while the plain architecture names have GELU; open_clip
    only warns, and the features are wrong. Here the tag decides.
    """
    _download(settings)
    try:
        with seeded():
            model = _created(settings)
    except LOAD_ERRORS as error:
        raise unloadable(_described(settings), error) from error
    return cast(VisionLanguageModel, model)


def _created(settings: EncoderSettings) -> Any:
    """Return open_clip's model. What its own training saved is loaded afterwards: it does not find that in a folder."""
    random, pretrained = settings.pretrained == RANDOM, settings.pretrained
    tag = get_pretrained_cfg(settings.name, pretrained) if pretrained else {}
    folder = Path(settings.name.removeprefix(LOCAL)) if settings.name.startswith(LOCAL) else None
    saved = None if folder is None else trained_file(folder)
    with ExitStack() as files:
        if pretrained is not None and not tag and not random:
            pretrained = str(files.enter_context(under_plain_names(Path(pretrained))))
        model = open_clip.create_model(
            settings.name,
            pretrained=None if random else pretrained,
            load_weights=not random and saved is None,
            pretrained_text=False,
            require_pretrained=not random and saved is None,
            force_quick_gelu=bool(tag.get("quick_gelu", False)),
            force_image_size=settings.image_size,
            cache_dir=settings.cache_dir,
            weights_only=True,
        )
        if saved is not None:
            open_clip.load_checkpoint(model, str(files.enter_context(under_plain_names(saved))))
    return model


def load_tokenizer(settings: EncoderSettings) -> Tokenizer:
    """Return the model's own tokenizer: texts to (N, context length) token ids."""
    try:
        if settings.name.startswith(HUB):
            # Without its configuration open_clip would guess another tokenizer.
            config = Path(_download_from_hub(settings, CONFIG_FILE))
            what = f"The {CONFIG_FILE} of '{settings.name}'"
            _check_no_code(parse_json(read_limited(config, what), what), what)
        tokenizer = open_clip.get_tokenizer(settings.name, cache_dir=settings.cache_dir)
    except OSError as error:
        raise unreachable(f"The tokenizer of '{settings.name}'", error) from error
    except (*LOAD_ERRORS, AttributeError) as error:
        raise unloadable(f"The tokenizer of '{settings.name}' (it may need the package transformers)", error) from error
    return cast(Tokenizer, tokenizer)


def _download(settings: EncoderSettings) -> None:
    """Bring configuration and weights into the cache, so that what fails later is not the network."""
    name, tag = settings.name, settings.pretrained
    try:
        if name.startswith(HUB):
            _download_from_hub(settings, CONFIG_FILE)
            _download_from_hub(settings, None)
        elif tag in open_clip.list_pretrained_tags_by_model(name):
            download_pretrained(get_pretrained_cfg(name, tag), cache_dir=settings.cache_dir)
    except OSError as error:
        raise unreachable(_described(settings), error) from error


def _download_from_hub(settings: EncoderSettings, filename: str | None) -> str:
    """Bring a file of a `hf-hub:` model into the cache and return its path; None stands for its weights."""
    model = settings.name.removeprefix(HUB)
    return str(download_pretrained_from_hf(model, filename=filename, cache_dir=settings.cache_dir))


def _described(settings: EncoderSettings) -> str:
    weights = f" with pretrained='{settings.pretrained}'" if settings.pretrained else ""
    return f"The model '{settings.name}'{weights}"
