"""`mmood doctor`: what works here, whether a config would run, and what to do about each shortfall."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rich.table import Table
from rich.text import Text

from mmood import __version__
from mmood.configuration.tools import ToolParser
from mmood.errors import MmoodError
from mmood.output.console import console
from mmood.output.escaping import visible
from mmood.output.printing import say

if TYPE_CHECKING:
    from mmood.shards.index import SetIndex

Status = Literal["ok", "note", "fail"]
_COLOURS: dict[Status, str] = {"ok": "green", "note": "yellow", "fail": "red"}


class Finding(NamedTuple):
    """One line of the doctor's report; `fail` means that the config (or mmood itself) would not run."""

    what: str
    status: Status
    detail: str


def main(arguments: list[str]) -> int:
    """Print the report; returns 0 if everything that was asked for would run, else 1."""
    if set(arguments) & {"--help", "-h"}:
        about = "Say what works here and, with a config, whether it would run. Exit code 1: it would not."
        ToolParser("doctor", about, usage="[--config NAME] [flags of mmood test]").print_help()
        return 0
    table = Table(title=f"mmood {__version__} doctor", title_justify="left", show_lines=False)
    for column in ("what", "status", "detail"):
        table.add_column(column, overflow="fold")
    failed = 0
    for finding in _findings(arguments):
        status = Text(finding.status, _COLOURS[finding.status])
        table.add_row(visible(finding.what), status, visible(finding.detail))
        failed += finding.status == "fail"
    console().print(table)
    if failed:
        say(f"{failed} shortfall{'s' if failed > 1 else ''}; see the lines marked fail.")
    elif arguments:
        say("The config would run.")
    return 1 if failed else 0


def _findings(arguments: list[str]) -> Iterator[Finding]:
    yield from _libraries()
    yield _tried("torch and torchvision", _torch_pair)
    yield _tried("accelerator", _accelerator)
    yield _tried("WordNet", _wordnet, failure="note")
    yield _disk()
    if arguments:
        yield from _of_config(arguments)


def _tried(what: str, check: Callable[[], str], failure: Status = "fail") -> Finding:
    """Return what `check` says, or its error as a finding: the doctor reports faults, it does not die of them."""
    try:
        return Finding(what, "ok", check())
    except MmoodError as error:
        return Finding(what, failure, str(error))
    except Exception as error:
        return Finding(what, failure, f"{type(error).__name__}: {error}")


def _libraries() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")
    for text in metadata.requires("mmood") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Finding(requirement.name, "fail", f"not installed; pip install '{requirement}'")
            continue
        fits = requirement.specifier.contains(version, prereleases=True)
        detail = version if fits else f"{version}; pip install '{requirement.name}{requirement.specifier}'"
        yield Finding(requirement.name, "ok" if fits else "fail", detail)


def _torch_pair() -> str:
    try:
        import torch
        import torchvision
    except RuntimeError as error:
        raise MmoodError(
            f"torch and torchvision come from different builds; install both from one source ({error})."
        ) from error
    return f"{torch.__version__} and {torchvision.__version__} work together"


def _accelerator() -> str:
    import torch

    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: use 16-mixed or 32-true"
        return f"{torch.cuda.device_count()} x {', '.join(sorted(names))}; {bf16}"
    if torch.backends.mps.is_available():
        return "Apple GPU (mps); use --trainer.precision 32-true"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    bf16 = "works" if product.dtype == torch.bfloat16 else "does not work"
    return f"CPU only, {torch.get_num_threads()} threads; bf16 autocast {bf16}"


def _wordnet() -> str:
    from mmood.words.wordnet import find_wordnet

    return f"{find_wordnet()} (only needed to mine negative labels)"


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if not os.access(Path.cwd(), os.W_OK):
        return Finding("this folder", "note", "read-only; set --run_dir to a folder that can be written")
    return Finding("this folder", "ok" if free > 1 else "note", f"can be written, {free:.0f} GiB free")


def _of_config(arguments: list[str]) -> Iterator[Finding]:
    from mmood.classes.matching import table
    from mmood.configuration.lightning import parsed

    try:
        cli = parsed(arguments)
    except MmoodError as error:
        yield Finding("config", "fail", str(error))
        return
    model = cli.config.model
    yield Finding("config", "ok", f"{model.class_path.rsplit('.', 1)[-1]}: every key is known")
    yield _tried("encoder", partial(_encoder, model.init_args.encoder))
    try:
        data = cli.data_module()
        notes = data.check()
        indices = data.catalog.known()
    except MmoodError as error:
        yield Finding("data", "fail", str(error))
        return
    for note in notes:
        yield Finding("classes", "note", note)
    for index in indices:
        yield _tried(f"set {index.name}", partial(_verified, index))
    for name, classes in data.id_classes().items():
        for line in table(classes):
            yield Finding(f"classes of {name}", "note" if classes.odd else "ok", line)
    yield _tried("model", lambda: f"{type(cli.detector()).__name__} is built, its weights are loaded")


def _encoder(settings: Any) -> str:
    from mmood.encoders import EncoderSettings, check_settings

    check_settings(EncoderSettings(**settings.as_dict()))
    return f"{settings.name} is known"


def _verified(index: SetIndex) -> str:
    """Return what is known of a set; local shards are read and hashed in full."""
    from mmood.shards.indexing import verify_folder
    from mmood.shards.locations import is_local

    known = f"{index.count} samples in {len(index.shards)} shards"
    if not all(is_local(index.location(shard)) for shard in range(len(index.shards))):
        return f"{known}; remote, so the hashes were not checked"
    verify_folder(Path(index.root) / index.name, lambda _: None)
    return f"{known}, hashes as in the index"
