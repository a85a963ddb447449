"""One sentence out of jsonargparse's nested errors: the key, the last cause, the nearest valid name."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import get_type_hints

from mmood.configuration.flag_names import no_such_setting, not_taken
from mmood.configuration.signatures import Plain
from mmood.errors import MmoodError, nearest
from mmood.modules import AbstractDetector
from mmood.modules.prompt_learning import AbstractPromptMethod
from mmood.scores import AbstractScore

# Characters of an error: it may quote a whole value.
_LONGEST = 800
_KEY = re.compile(r"""Parser key ["']([\w.-]+)["']""")
_OF_JSONARGPARSE = ("Does not validate against any", "Problem with given class_path")
_NO_FILE = "File does not exist: "
_CLASS = re.compile(r"Problem with given class_path '([\w.]+)'")
# What jsonargparse says of a value in the place of a group of settings, which it takes for a file of them.
_GROUP = re.compile(r'Unable to load config "(.*)"')
_TYPES = re.compile(r"Does not validate against any of the Union subtypes\s+Subtypes: \[(.*)\]\n")
_LITERAL = re.compile(r"typing\.Literal\[([^\]]*)\]")
_KIND_OF = re.compile(r"<class '(\w+)'>")
_UNION = re.compile(r"Subtypes: \[<class '([\w.]+)'>, <class 'NoneType'>\]")


def sentence(error: BaseException, known_keys: Iterable[str] = ()) -> str:
    """Return the sentence for a parsing error: its location, the cause, and the probable correction."""
    text = _sentence(error, known_keys)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _sentence(error: BaseException, known_keys: Iterable[str]) -> str:
    cause = list(_chain(error))[-1]
    messages = [str(link) for link in _chain(error)]
    last = messages[-1].strip()
    if unrecognised := re.match(r"unrecognized arguments: --([\w.-]+)", last):
        key = unrecognised[1].split("=")[0]
        return no_such_setting(key, list(known_keys))
    at_top = re.match(r"(?:Subcommand '\w+' does not accept option|Option) '([\w.-]+)'", last)
    if at_top and ("Subcommand" in last or not _owners(messages)):
        return no_such_setting(at_top[1], list(known_keys))
    if re.fullmatch(r"the following arguments are required: (\w+\.)?model", last):
        return (
            "No model is named; give a config (--config vitb16_zeroshot.yaml; `mmood configs` lists them) or a "
            "checkpoint (--ckpt_path FILE)."
        )
    keys = [match for message in messages if (match := _first(_KEY, message))]
    path = ".".join(dict.fromkeys(keys))
    if refused := re.match(r"Option '([\w.-]+)' is not accepted", last):
        return _refused(path, refused[1], _owners(messages))
    if refused := re.match(r"Group '(\w+)' does not accept option '([\w.-]+)'", last):
        return _refused_in_group(f"{path}.{refused[1]}", refused, _owners(messages))
    if file := re.match(r"Unexpected import path format: (\S+)", last):
        return f"A config names '{file[1]}', which is neither a file beside it nor the import path of a class."
    if isinstance(cause, ImportError) and (owners := _owners(messages)):
        return _not_imported(path, owners[-1], cause)
    if isinstance(cause, AttributeError) and (owners := _owners(messages)):
        return f"{path} names the class '{owners[-1]}', but its module defines nothing of that name."
    if group := _GROUP.search(last) or _optional_group(last, messages):
        return _is_group(path, group[1], _settings_of_group(path, messages, known_keys))
    if lacking := re.fullmatch(r"the following arguments are required: (.+)", last) if path else None:
        return f"{path} is incomplete; it must also have {lacking[1]}."
    if missing := re.search(r"Expected a dot import path string: (\S+)", last):
        return f"{path} names the class '{missing[1]}', which does not exist{_nearest(missing[1], _class_names())}"
    if number := re.fullmatch(r"Expected a (?:<class ')?str(?:'>)?\. Got value: ([\d.eE_+-]+)", " ".join(last.split())):
        return f"{path} is {number[1]}, which YAML reads as a number; if it is a name, put it in quotes: '{number[1]}'."
    if path and (wrong := _not_taken(path, messages)):
        return wrong
    text = re.sub(r"<class '([\w.]+)'>", r"\1", " ".join(last.split()))
    text = re.sub(r"\b(?:fit|validate|test|predict)\.(?=data|model)", "", text)
    return f"{path}: {text}" if path and path not in text else text


def _not_taken(path: str, messages: list[str]) -> str | None:
    """Return the sentence for a value of a type of words, numbers and null; None for another type or error."""
    wrong = re.fullmatch(r"Expected an? (.+)\. Got value: (.*)", " ".join(messages[-1].split()))
    if wrong is None:
        return None
    union = _TYPES.match(messages[-2].lstrip()) if len(messages) > 1 else None
    types = union[1] if union else wrong[1]
    words = [word.strip().strip("'") for literal in _LITERAL.findall(types) for word in literal.split(",")]
    kinds = [kind for kind in _KIND_OF.findall(types) if kind != "NoneType"]
    rest = _KIND_OF.sub("", _LITERAL.sub("", types)).strip(", ")
    known = not rest and {*kinds} <= {"int", "float", "bool"} and (words or kinds)
    return not_taken(path, wrong[2], Plain(tuple(dict.fromkeys(words)), tuple(kinds))) if known else None


def _optional_group(last: str, messages: list[str]) -> re.Match[str] | None:
    """Return the value that stands in the place of a group of settings or null; None if it stands elsewhere."""
    union = [found for message in messages for found in _UNION.findall(message)]
    named = re.search(r"Expected a dot import path string: (.*)", last)
    return named if named and union and is_dataclass(_resolved(union[-1])) else None


def _is_group(path: str, value: str, settings: list[str]) -> str:
    has = f" It has: {', '.join(settings)}." if settings else ""
    return (
        f"{path} is '{value}', but it is a group of settings: write '{{NAME: VALUE, ...}}', or the name of a YAML file "
        f"that has them.{has}"
    )


def _settings_of_group(path: str, messages: list[str], known_keys: Iterable[str]) -> list[str]:
    """Return the names of the settings of a group: of the data or the evaluation, of a class, or of null."""
    below = [key.removeprefix(f"{path}.") for key in known_keys if key.startswith(f"{path}.")]
    if below:
        return list(dict.fromkeys(key.partition(".")[0] for key in below))
    owners, group = _owners(messages), path.rpartition(".")[2]
    hint = get_type_hints(vars(_resolved(owners[-1]))["__init__"]).get(group) if owners else None
    union = [found for message in messages for found in _UNION.findall(message)]
    found = hint if is_dataclass(hint) else _resolved(union[-1]) if union else None
    return [field.name for field in fields(found)] if is_dataclass(found) else []


def building_error(error: BaseException) -> MmoodError | None:
    """Return a sentence on why jsonargparse could not build an object; None if it was not building one."""
    messages = [str(link) for link in _chain(error)]
    if (own := own_error(error)) is not None:
        return own
    if not any(message.startswith(_OF_JSONARGPARSE) for message in messages):
        return None
    cause, owners = list(_chain(error))[-1], _owners(messages)
    owner = owners[-1] if owners else "A class"
    if isinstance(cause, ImportError):
        return MmoodError(_not_imported("The config", owner, cause))
    # Of a union the chain ends at its last kind, and the errors of the others stand in its list.
    listed = [line.strip(" -") for line in messages[0].splitlines() if line.startswith("  - ")]
    told = [line for line in listed if not line.startswith(("Expected a", *_OF_JSONARGPARSE))]
    return MmoodError(f"{owner} in the config cannot be built: {' '.join((told or [str(cause)])[0].split())}")


def _not_imported(where: str, owner: str, cause: ImportError) -> str:
    if isinstance(cause, ModuleNotFoundError) and cause.name and owner.startswith(cause.name):
        package = owner.partition(".")[0]
        return (
            f"{where} names the class '{owner}', but there is no module '{cause.name}': the package '{package}' must "
            "be installed, or be in the folder where mmood is started."
        )
    reason = " ".join(str(cause).split())
    return f"{where} names the class '{owner}', which needs a package that is not installed: {reason}"


def own_error(error: BaseException) -> MmoodError | None:
    """Return the MmoodError that other errors were wrapped around, if there is one."""
    return next((link for link in _chain(error) if isinstance(link, MmoodError)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes; not that settings in braces are no file, which jsonargparse tries first."""
    while error is not None and not str(error).startswith(_NO_FILE):
        yield error
        error = error.__cause__ or error.__context__


def _first(pattern: re.Pattern[str], message: str) -> str | None:
    match = pattern.match(message.strip())
    return match[1] if match else None


def _owners(messages: list[str]) -> list[str]:
    return [owner for message in messages for owner in _CLASS.findall(message)]


def _refused_in_group(path: str, refused: re.Match[str], owners: list[str]) -> str:
    group, option = refused[1], refused[2]
    hints = get_type_hints(vars(_resolved(owners[-1]))["__init__"]) if owners else {}
    accepted = [field.name for field in fields(hints[group])] if is_dataclass(hints.get(group)) else []
    return f"{path} has no setting '{option}'{_nearest(option, accepted)} It has: {', '.join(accepted)}."


def _resolved(class_path: str) -> type:
    module, _, name = class_path.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


def _refused(path: str, option: str, owners: list[str]) -> str:
    owner = _resolved(owners[-1])
    accepted = list(inspect.signature(owner).parameters)
    near = _nearest(option, accepted)
    return f"{path}: {owner.__name__} has no setting '{option}'{near} It has: {', '.join(accepted)}."


def _nearest(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known, cutoff=0.5)
    return f"; did you mean '{near}'?" if near is not None else "."


def _class_names() -> list[str]:
    def below(parent: type) -> Iterator[str]:
        child: type
        for child in parent.__subclasses__():
            yield child.__name__
            yield from below(child)

    return [*below(AbstractScore), *below(AbstractDetector), *below(AbstractPromptMethod)]
