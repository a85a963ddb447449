"""`mmood propose`: outlier names, or descriptions of classes, from a language model or from WordNet."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mmood.chat import AnswerCache, Endpoint, LanguageModel, small_jpeg
from mmood.chat.endpoint import NO_KEY, USUAL_KEY
from mmood.chat.questions import Plain
from mmood.classes.names import load_class_names
from mmood.configuration.tools import ToolParser
from mmood.errors import MmoodError
from mmood.files import parse_json, user_path
from mmood.output.printing import complain, lasting, say
from mmood.proposals import eoe, mm_ood, pnps
from mmood.proposals.dialogue import Dialogue, Speaker, held
from mmood.proposals.example_images import PER_CLASS as IMAGES
from mmood.proposals.example_images import SIDE, example_images
from mmood.proposals.methods import METHODS, Amounts, Outcome, Task, dialogue, from_wordnet
from mmood.proposals.per_class import PER_CLASS
from mmood.proposals.wordnet import KINDS, WordNetSettings
from mmood.settings import check_count, check_number
from mmood.words.names_file import NamesFile
from mmood.words.taxonomy import read_taxonomy

_EXAMPLES = """\
examples:
  mmood propose --class_names classes.txt --method wordnet --out names.json            no model, no network
  mmood propose --class_names classes.txt --method eoe-near --out names.json --endpoint http://localhost:8000/v1 --llm X

Answers are kept in $MMOOD_CACHE/answers and asked for once (docs/names.md).
"""

_FAR = mm_ood.FarSettings()


def main(argv: Sequence[str]) -> int:
    """Run `mmood propose` with the arguments after the command's name; return the exit code.

    Raises:
        MmoodError: bad arguments, or a model that does not answer; see the methods.
    """
    options = _parser().parse_args(argv)
    _check(options)
    class_names = load_class_names(options.class_names)
    if options.method == "wordnet":
        outcome = _from_wordnet(options, class_names)
    else:
        talk = dialogue(_task(options, class_names))
        if options.dry_run:
            return _show(talk, options)
        outcome = _held(talk, options)
    outcome.file.save(user_path(options.out))
    for note in outcome.notes:
        say(note)
    file = outcome.file
    content = f"{len(file.names):,} names" if isinstance(file, NamesFile) else f"texts of {len(file.texts):,} classes"
    say(f"{content}, sha256 {file.content_hash[:16]}: {options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ToolParser(
        "propose",
        "Propose outlier names for ID classes, or describe the classes (pnps), by a language model behind an "
        "OpenAI-compatible endpoint or from WordNet.",
        usage="--class_names FILE --method METHOD --out FILE [--endpoint URL --llm NAME] [...]",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add("--class_names", required=True, metavar="FILE", help="one ID class per line, or the name of a list")
    add("--method", required=True, choices=METHODS, metavar="METHOD", help=", ".join(METHODS))
    add("--out", type=Path, metavar="FILE", help="the JSON file to write")
    add("--kind", choices=KINDS, metavar="KIND", help="wordnet, mm-ood: near, far or both (default)")
    amounts = parser.add_argument_group("amounts")
    _number(amounts, "--per_class", PER_CLASS, "near names of each class")
    _number(amounts, "--count", eoe.COUNT, "far or fine names in all")
    _number(amounts, "--categories", _FAR.categories, "mm-ood, far: categories, at most")
    _number(amounts, "--per_category", _FAR.per_category, "mm-ood, far: names of each category")
    _number(amounts, "--per_kind", pnps.PER_KIND, "pnps: texts of each kind and class")
    _add_model(parser.add_argument_group("language model"))
    images = parser.add_argument_group("images (mm-ood)")
    images.add_argument("--images", metavar="SET", help="a set of ID training images")
    _number(images, "--images_per_class", IMAGES, "images of each class")
    _number(images, "--side", SIDE, "longer side in pixels, as sent")
    images.add_argument("--allow_send_images", nargs="?", const="true", choices=["true", "false"], default="false",
                        metavar="true", help="let images leave this machine")  # fmt: skip
    images.add_argument("--render", metavar="MODULE:F", help="a function of yours: name -> bytes of an image")
    return parser


def _add_model(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--endpoint", metavar="URL", help="base address, such as https://api.example.com/v1")
    add("--llm", metavar="NAME", help="name of the model there")
    add(
        "--key_env",
        default=USUAL_KEY,
        metavar="NAME",
        help=f"variable with the key, or {NO_KEY} (default: {USUAL_KEY})",
    )
    _number(group, "--seed", 0, "of the model, and of wordnet's choice")
    _number(group, "--temperature", 0.0, "0 for the likeliest answer")
    _number(group, "--max_tokens", 1024, "of an answer")
    add("--parameters", default="{}", metavar="JSON", help="more fields of a request; null leaves one out")
    _number(group, "--parallel", 4, "requests at a time")
    add("--rate", type=float, metavar="N", help="requests a minute, at most")
    _number(group, "--retries", 5, "of a failed request")
    _number(group, "--timeout", 120.0, "seconds for an answer")
    add("--price", type=float, nargs=2, metavar=("IN", "OUT"), help="of a million tokens, to show the cost")
    add("--cache", metavar="FOLDER", help="where answers are kept")
    add("--offline", action="store_true", help="ask nothing: only take answers that are kept")
    add("--dry_run", action="store_true", help="print each request as a line of JSON, and send nothing")


def _number(group: argparse._ArgumentGroup, flag: str, default: float, meaning: str) -> None:
    """Add a flag for a number; its type is that of its default."""
    group.add_argument(flag, type=type(default), default=default, metavar="N", help=f"{meaning} (default: {default:g})")


def _check(options: argparse.Namespace) -> None:
    """Raise MmoodError for arguments that cannot work, before anything is asked."""
    asks = options.method != "wordnet"
    if asks and options.llm is None:
        raise MmoodError(f"The method {options.method} asks a language model; name it with --llm.")
    if asks and options.endpoint is None and not options.offline and not options.dry_run:
        raise MmoodError(f"The method {options.method} needs an --endpoint, or --offline with answers that are kept.")
    if options.kind is not None and options.method not in ("wordnet", "mm-ood"):
        raise MmoodError(f"--kind is for the methods wordnet and mm-ood; {options.method} proposes one kind.")
    if (options.images or options.render) and options.method != "mm-ood":
        raise MmoodError(f"--images and --render are for the method mm-ood; {options.method} sends only texts.")
    if options.method == "mm-ood" and options.kind != "far":
        _check_images(options)
    check_number("--temperature", options.temperature, least=0)
    check_count("--max_tokens", options.max_tokens)
    for price in options.price or ():
        check_number("--price", price, least=0)
    if not options.dry_run:
        _check_out(options.out)


def _check_images(options: argparse.Namespace) -> None:
    if options.images is None:
        raise MmoodError("The near names of mm-ood need example images of the ID classes: --images SET, or --kind far.")
    if options.allow_send_images != "true" and not options.offline and not options.dry_run:
        raise MmoodError(
            f"mm-ood would send {options.images_per_class} images of each class from {options.images} to "
            f"{options.endpoint}; allow it with --allow_send_images true, or use --kind far, which sends none."
        )


def _check_out(out: Path | None) -> None:
    if out is None:
        raise MmoodError("`mmood propose` needs --out, the file to write.")
    if user_path(out).exists():
        raise MmoodError(f"--out {out} already exists; remove it or name another file.")
    folder = user_path(out).parent
    if folder.exists() and not os.access(folder, os.W_OK):
        raise MmoodError(f"--out {out} cannot be written: there is no permission to write in {folder}.")


def _from_wordnet(options: argparse.Namespace, class_names: Sequence[str]) -> Outcome:
    settings = WordNetSettings(options.kind or "both", options.per_class, count=options.count, seed=options.seed)
    return from_wordnet(read_taxonomy(), class_names, settings)


def _task(options: argparse.Namespace, class_names: Sequence[str]) -> Task:
    far = mm_ood.FarSettings(options.per_category, options.categories)
    shown = options.method == "mm-ood" and options.kind != "far"
    return Task(
        options.method,
        class_names,
        Speaker(options.llm, _parameters(options)),
        Amounts(options.count, per_class=options.per_class, far=far, per_kind=options.per_kind),
        options.kind or "both",
        example_images(options.images, class_names, options.images_per_class, options.side) if shown else {},
        _render(options.render, options.side) if options.render else None,
    )


def _parameters(options: argparse.Namespace) -> dict[str, Plain]:
    more = parse_json(options.parameters.encode(), "--parameters")
    if not isinstance(more, dict):
        raise MmoodError(
            f'--parameters is {options.parameters!r:.60}; it must be a JSON object, such as {{"top_p": 0.9}}.'
        )
    return {"temperature": options.temperature, "seed": options.seed, "max_tokens": options.max_tokens, **more}


def _render(place: str, side: int) -> mm_ood.Render:
    """Return the function of the user's own that makes images of names."""
    module, _, name = place.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise MmoodError(
            f"--render is '{place}'; it must be MODULE:FUNCTION that can be imported ({error})."
        ) from error
    return lambda name: small_jpeg(function(name), side)


def _show(talk: Dialogue[Outcome], options: argparse.Namespace) -> int:
    """Print the first round of requests; the later ones depend on its answers."""
    asked = next(talk)
    output = lasting(sys.stdout)
    for question in asked.questions:
        output.write(json.dumps(question.stated(), ensure_ascii=False) + "\n")
    missing = LanguageModel(AnswerCache(options.cache), None).missing(asked.questions)
    complain(
        f"Nothing was sent. This is the first round: of its {len(asked.questions):,} requests {len(missing):,} have no "
        f"answer in {AnswerCache(options.cache).folder} and would be sent. Later rounds depend on the answers."
    )
    return 0


def _held(talk: Dialogue[Outcome], options: argparse.Namespace) -> Outcome:
    """Return what the dialogue ends with, and say what it has cost, also where it fails."""
    model = LanguageModel(AnswerCache(options.cache), None if options.offline else _endpoint(options))
    try:
        return held(talk, model)
    finally:
        usage = model.usage
        if usage.asked or usage.kept:
            cost = f", cost {usage.cost(*options.price):,.2f}" if options.price else ""
            tokens = f"{usage.tokens_in:,} tokens in, {usage.tokens_out:,} out"
            say(f"{usage.asked:,} answers asked for ({tokens}{cost}), {usage.kept:,} kept ones used.")


def _endpoint(options: argparse.Namespace) -> Endpoint:
    endpoint = Endpoint(
        options.endpoint,
        options.key_env,
        timeout=options.timeout,
        retries=options.retries,
        parallel=options.parallel,
        rate=options.rate,
    )
    endpoint.key()  # before images are read
    return endpoint
