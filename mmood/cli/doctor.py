"""`mmood doctor`: checks of the installation, whether a config would run, and how to fix each failure."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mmood import __version__
from mmood.configuration.tools import ToolParser
from mmood.errors import MmoodError
from mmood.output.escaping import visible
from mmood.output.printing import say

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from mmood.modules.fine_tuning.measuring import Measurable
    from mmood.shards.index import SetIndex

Status = Literal["ok", "note", "fail"]
_MISSING = "not installed"
_COLOURS: dict[Status, str] = {"ok": "green", "note": "yellow", "fail": "red"}


class Finding(NamedTuple):
    """One line of the doctor's report; `fail` means that the config (or mmood itself) would not run."""

    what: str
    status: Status
    detail: str


def main(arguments: list[str]) -> int:
    """Print the report; returns 0 if everything that was asked for would run, else 1."""
    if set(arguments) & {"--help", "-h"}:
        about = "Check the installation and, with a config, whether it would run. The exit code is 1 if it would not."
        ToolParser("doctor", about, usage="[--config NAME] [flags of mmood test]").print_help()
        return 0
    findings = list(_findings(arguments))
    try:
        _show(findings)
    except ModuleNotFoundError:  # rich is among what may be missing
        for finding in findings:
            say(visible(f"{finding.status:4}  {finding.what}: {finding.detail}"))
    failed = sum(finding.status == "fail" for finding in findings)
    if failed:
        say(f"{failed} shortfall{'s' if failed > 1 else ''}; see the lines marked fail.")
    elif arguments:
        say("The config would run.")
    return 1 if failed else 0


def _show(findings: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    from mmood.output.console import console

    table = Table(title=f"mmood {__version__} doctor", title_justify="left", show_lines=False)
    for column in ("what", "status", "detail"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(visible(finding.what), Text(finding.status, _COLOURS[finding.status]), visible(finding.detail))
    console().print(table)


def _findings(arguments: list[str]) -> Iterator[Finding]:
    libraries = list(_libraries())
    yield from libraries
    yield _tried("torch and torchvision", _torch_pair)
    yield _tried("accelerator", _accelerator)
    yield _tried("WordNet", _wordnet, failure="note")
    yield _disk()
    if not arguments:
        return
    if any(finding.status == "fail" and finding.detail.startswith(_MISSING) for finding in libraries):
        yield Finding("config", "fail", "not checked, since libraries are missing")
        return
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
    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        yield Finding("packaging", "fail", f"{_MISSING}; pip install packaging")
        return
    for text in metadata.requires("mmood") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Finding(requirement.name, "fail", f"{_MISSING}; pip install '{requirement}'")
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
        return Finding("this folder", "note", "read-only; set --run_dir to a writable folder")
    return Finding("this folder", "ok" if free > 1 else "note", f"writable, {free:.0f} GiB free")


def _of_config(arguments: list[str]) -> Iterator[Finding]:
    from mmood.classes.matching import table
    from mmood.configuration.lightning import parsed
    from mmood.modules.fine_tuning.measuring import Measurable

    try:
        cli = parsed(arguments)
    except MmoodError as error:
        yield Finding("config", "fail", str(error))
        return
    model = cli.config.model
    yield Finding("config", "ok", f"{model.class_path.rsplit('.', 1)[-1]}: all settings are valid")
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
    try:
        detector, data, trainer = cli.objects()
    except MmoodError as error:
        yield Finding("model and trainer", "fail", str(error))
        return
    yield Finding("model", "ok", f"{type(detector).__name__} was built, and its weights were loaded")
    yield _tried("trainer", partial(_trainer, trainer))
    if isinstance(detector, Measurable):
        yield Finding("memory of a training step", "note", _step_memory(detector, data.batch_size, trainer))
    yield _tried("run folder", partial(_run_folder, cli.config.run_dir or cli.config.trainer.default_root_dir))
    try:
        for name, requirement in detector.requirements(data.train_name):
            yield _tried(f"{name}: {requirement.what}", requirement.check)
    except MmoodError as error:
        yield Finding("scores", "fail", str(error))


def _trainer(trainer: Trainer) -> str:
    from mmood.evaluation.callback import check_precision

    check_precision(trainer)
    return f"{trainer.num_devices} x {type(trainer.accelerator).__name__}, {trainer.precision}"


def _step_memory(detector: Measurable, images: int, trainer: Trainer) -> str:
    """Return what a step would need; autocast is that of the CPU, where the model is now."""
    with trainer.precision_plugin.forward_context():
        return detector.step_memory(images, trainer.num_devices * trainer.num_nodes, trainer.strategy.root_device)


def _run_folder(given: str | None) -> str:
    """Return whether the run folder could be created, without creating it."""
    folder = Path(given or "runs").absolute()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir():
        raise MmoodError(f"The run folder {folder} cannot be made: {existing} is a file; set --run_dir.")
    if not os.access(existing, os.W_OK):
        raise MmoodError(f"The run folder {folder} cannot be made: {existing} is read-only; set --run_dir.")
    return f"{folder} can be written"


def _encoder(settings: Any) -> str:
    from mmood.encoders import EncoderSettings, check_settings

    check_settings(EncoderSettings(**settings.as_dict()))
    return f"{settings.name} is known"


def _verified(index: SetIndex) -> str:
    """Return what is known of a set; one on this machine is read and hashed in full."""
    try:
        index.bytes_here()
    except MmoodError:
        return f"{index.summary}; remote, so the hashes were not checked"
    index.verify()
    return f"{index.summary}, hashes as in the index"
