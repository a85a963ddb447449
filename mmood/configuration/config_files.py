"""Where configs are looked up: as a path, in ./configs, among those that come with mmood."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmood.configuration.yaml_checks import check_config
from mmood.errors import MmoodError, unknown
from mmood.files import is_file, parse_yaml, read_text

_PACKAGE = Path(__file__).parent.parent
_FLAGS = ("--config", "-c")
_ENDINGS = (".yaml", ".yml")


def installed_folder() -> Path:
    """Return the folder of the configs that come with mmood (the checkout's own in an editable install)."""
    installed = _PACKAGE / "_configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def available() -> Iterator[tuple[str, str]]:
    """Yield the name and the first comment line of every config that can be named, nearest folder first."""
    seen = set()
    for folder in (Path("configs"), installed_folder()):
        for path in sorted(folder.glob("*.yaml")):
            if path.name not in seen:
                seen.add(path.name)
                yield path.name, path.read_text(encoding="utf-8", errors="replace").partition("\n")[0].lstrip("# ")


def find(name: str) -> Path:
    """Return the file that `name` means.

    Raises:
        MmoodError: no such file; names what exists.
    """
    places = [Path(name), Path("configs") / name, installed_folder() / name]
    for path in places:
        if is_file(path):
            return path
    if Path(name).is_dir():
        raise MmoodError(f"--config {name} is a folder; name a YAML file in it.")
    raise unknown("config", name, [known for known, _ in available()])


def with_found_configs(arguments: list[str]) -> list[str]:
    """Return the arguments with the value of each `--config` replaced by the file that it means.

    A value in braces is no name: it is the settings themselves, such as those of a checkpoint.

    Raises:
        MmoodError: there is no such config, or it (or a part that it names) is no YAML that means what it says.
    """
    found = list(arguments)
    for position, argument in enumerate(arguments):
        flag, joined, value = argument.partition("=")
        if flag not in _FLAGS:
            _check_part(Path(), value if joined else argument)
        elif joined:
            found[position] = f"{flag}={_found(flag, value)}"
        elif position + 1 < len(arguments):
            found[position + 1] = _found(flag, arguments[position + 1])
        else:
            raise MmoodError(f"{flag} needs the name of a config.")
    return found


def _found(flag: str, value: str) -> str:
    if not value.startswith("{"):
        return str(_readable(find(value)))
    _check_text(value, flag, Path(), ())
    return value


def _readable(path: Path, above: tuple[Path, ...] = ()) -> Path:
    """Return the path of a config after it was checked with all parts that it names."""
    _check_text(read_text(path, str(path)), str(path), path.parent, (*above, path))
    return path


def _check_text(text: str, what: str, folder: Path, above: tuple[Path, ...]) -> None:
    document = parse_yaml(text, what)
    check_config(text, what)
    for value in _texts(document):
        _check_part(folder, value, above)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _check_part(folder: Path, value: str, above: tuple[Path, ...] = ()) -> None:
    part = folder / value
    if value.endswith(_ENDINGS) and part not in above and is_file(part):
        _readable(part, above)
