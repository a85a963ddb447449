"""From a LightningModule with fitted scores to what a detector needs of it, without module and trainer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch

import mmood.scores
from mmood import __version__
from mmood.classes.names import class_names_hash
from mmood.detector.backends.torch_scorer import TorchScorer, best_device, torch_scorer
from mmood.detector.manifest import ClassProbability, EncoderRecord, Manifest, ScoreRecord
from mmood.encoders import EncodedImages, EncoderSettings
from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.errors import MmoodError, unknown
from mmood.images.rgb import Exif
from mmood.modules.base import AbstractDetector
from mmood.modules.zero_shot import ZeroShot
from mmood.scores.bank import logit_head
from mmood.scores.base import AbstractScore, LinearHead
from mmood.scores.portable import packed
from mmood.scores.test_time.base import AbstractStreamScore, AnyStreamScore


def detector_from_names(
    class_names: Sequence[str], model: str, score: str | AbstractScore, prompts: str | list[str], device: str | None
) -> tuple[Manifest, TorchScorer]:
    """Return a zero-shot detector that is not calibrated yet; see `Detector.from_names`."""
    chosen = _score_by_name(score) if isinstance(score, str) else score
    name = type(chosen).__name__.lower()
    check_classes(chosen, len(class_names))
    module = ZeroShot(EncoderSettings(model), list(class_names), {name: chosen}, prompts).eval()
    module.to(best_device(device))
    module.fit_scores()
    return from_module(module, name)


def from_module(
    module: AbstractDetector, name: str, exif: Exif = "apply", provenance: dict[str, object] | None = None
) -> tuple[Manifest, TorchScorer]:
    """Return the detector of a module's score, not calibrated yet.

    Args:
        module: with its weights, on its device, its scores fitted.
        name: of the score.
        exif: whether images are turned as their cameras noted.
        provenance: more of it.

    Raises:
        MmoodError: the score cannot be shipped, or the module's logits are no linear map of features or embeddings.
    """
    score = dict(module.named_scores())[name]
    portable = packed(score)
    head = logit_head(module.reference())
    _check_head(module, head)
    encoder, texts = module.encoder, score.negative_labels()
    prompts = module.details().get("prompts", [])
    manifest = Manifest(
        backend="torch",
        score=ScoreRecord(name, portable.kind, portable.settings, portable.values),
        class_names=tuple(module.class_names),
        negative_labels=() if texts is None else texts.words,
        prompts=tuple(prompts) if isinstance(prompts, list) else (),
        preprocessing=encoder.preprocessing,
        exif=exif,
        probability=_probability(module, head),
        encoder=EncoderRecord(
            encoder.settings.name,
            encoder.settings.pretrained,
            encoder.settings.image_size,
            encoder.weights_hash(),
            "copy",
            encoder.settings.patches,
        ),
        head_reads=head.reads,
        calibration=None,
        provenance={
            "mmood": __version__,
            "module": type(module).__name__,
            "trained_tower": trained_tower(module),
            "settings": score.record(),
            "class_names_sha256": class_names_hash(module.class_names),
            **(provenance or {}),
        },
        files={},
        stream=_owner(module, score) if isinstance(score, AbstractStreamScore) else None,
    )
    return manifest, torch_scorer(encoder, head, score, module.device)


def trained_tower(module: AbstractDetector) -> bool:
    """Return whether a module's checkpoint holds weights of its encoder."""
    return any(key.startswith("encoder.") for key in module.trained_state())


def chosen_score(module: AbstractDetector, name: str | None) -> str:
    """Return the name of the score that is to be shipped.

    Raises:
        MmoodError: there is no such score, none was chosen among several, or it is the same for every image with so
            few classes.
    """
    known = dict(module.named_scores())
    name = score_named(name, known)
    check_classes(known[name], len(module.class_names))
    return name


def score_named(name: str | None, known: Mapping[str, object]) -> str:
    """Return a name of a known score, the only one for None; MmoodError if there is none of it, or several for None."""
    if name is None and len(known) == 1:
        name = next(iter(known))
    if name is None:
        raise MmoodError(f"The config has the scores {', '.join(known) or 'none'}; choose one with --score.")
    if name not in known:
        raise unknown("score in this config", name, known)
    return name


def check_classes(score: AbstractScore, classes: int) -> None:
    """Raise MmoodError if a score is the same for every image with so few classes; names those that are not."""
    if classes >= score.least_classes:
        return
    kinds = [getattr(mmood.scores, name) for name in mmood.scores.__all__]
    usable = [
        kind.__name__
        for kind in kinds
        if isinstance(kind, type)
        and issubclass(kind, AbstractScore)
        and not inspect.isabstract(kind)
        and not issubclass(kind, AbstractStreamScore)
        and kind.least_classes <= classes
    ]
    raise MmoodError(
        f"{type(score).__name__} is the same for every image with {classes} class; these are not: {', '.join(usable)}."
    )


def _owner(module: AbstractDetector, score: AnyStreamScore) -> dict[str, object]:
    """Return what a saved memory must belong to."""
    # Two names of the encoder may mean the same weights.
    encoder = {key: value for key, value in module.encoder.identity().items() if key not in ("name", "pretrained")}
    return {
        "score": type(score).__name__,
        "settings": score.record(),
        "encoder": encoder,
        "detector": {"class": type(module).__name__, **module.own_record()},
        "class names (sha256)": class_names_hash(module.class_names),
    }


def _score_by_name(name: str) -> AbstractScore:
    kinds = {kind.lower(): kind for kind in mmood.scores.__all__}
    found = kinds.get(name.lower().replace("_", ""))
    kind = None if found is None else getattr(mmood.scores, found)
    if kind is None or not issubclass(kind, AbstractScore) or issubclass(kind, AbstractStreamScore):
        raise unknown("static score", name, mmood.scores.__all__)
    try:
        score: AbstractScore = kind()
    except TypeError as error:
        raise MmoodError(
            f"The score {found} has settings without a default; give the score itself: {error}."
        ) from error
    return score


def _check_head(module: AbstractDetector, head: LinearHead) -> None:
    """Raise MmoodError unless the head gives the module's own logits."""
    generator = torch.Generator().manual_seed(0)
    device, width = module.device, module.encoder.embedding_dim
    features = torch.randn(3, module.encoder.feature_dim, generator=generator).to(device)
    embedding = None
    if width is not None:
        embedding = torch.nn.functional.normalize(torch.randn(3, width, generator=generator), dim=1).to(device)
    encoded = EncodedImages(features, embedding)
    rows = features if head.reads == "features" else embedding
    with torch.no_grad():
        own = module.logits(encoded).float().cpu()
        given = None if rows is None else head.logits(rows.cpu())
    if given is None or own.shape != given.shape or not torch.allclose(own, given, rtol=1e-3, atol=1e-4):
        raise MmoodError(
            f"{type(module).__name__} cannot be shipped: its logits are no linear map of features or embeddings."
        )


def _probability(module: AbstractDetector, head: LinearHead) -> ClassProbability:
    """Return how its logits become probabilities: cosines by the scale (and bias, of SigLIP) that the model learned."""
    encoder = module.encoder
    if module.reference().head() is not None or not isinstance(encoder, VisionLanguageEncoder):
        return ClassProbability("softmax", 1.0, 0.0)
    scale, bias = float(encoder.logit_scale.detach()), encoder.logit_bias
    if bias is None:
        return ClassProbability("softmax", scale, 0.0)
    return ClassProbability("sigmoid", scale, float(bias.detach()))
