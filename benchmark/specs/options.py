"""From text to options: what was asked for, typed by the constructors of the plug-ins."""

import inspect
import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import ArgumentError, ArgumentParser

from ...leaderboards.errors import nearest
from ..errors import UserError
from .registry import add_class, lookup, registered_name

GROUPS = ("quantizer", "codec", "data", "training", "ace")
HANDED_OVER = {"quantizer": {"channels"}, "codec": {"make_quantizer", "bitrate"}}  # arguments that are nobody's options
MAX_SEED = 1 << 32


class UnknownOptionError(UserError):
    """A plug-in lacks an option; the line lists those it has."""


class Named(NamedTuple):
    """A plug-in's name and the options that are its own in a grid."""

    name: str
    options: dict[str, Any]


def named(text: str) -> list[Named]:
    """Read "nsvq:codebook_bits=8,replacement=0,fem": a comma before `option=` goes on with the same plug-in."""
    parts: list[Named] = []
    for token in re.split(r",(?![^\[{]*[\]}])", text):  # not within [1, 2]
        name, colon, rest = token.partition(":")
        if "=" in name:  # no new name
            name, colon, rest = "", ":", token
        if name.strip():
            parts.append(Named(name.strip(), {}))
        if colon:
            option, equals, value = rest.partition("=")
            if not (parts and option.strip() and equals):
                raise UserError(f"{text!r} cannot be read at {token!r}; write name:option=value,option=value,name")
            parts[-1].options[option.strip()] = value
        elif not name.strip():
            raise UserError(f"{text!r} lacks a name between its commas")
    return parts


def seeds(value: int | str | Iterable[int | str]) -> list[int]:
    """Seeds of 3, "0,1" or "0:5" (0 to 4), or of several of these."""
    numbers: list[int] = []
    for text in _pieces(value):
        match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
        if match is None:
            raise UserError(f"--seed {text} is no seed; write 0 or 0,1 or 0:5 (which leaves 5 out)")
        first, end = int(match[1]), int(match[2] or int(match[1]) + 1)
        if end > MAX_SEED:
            raise UserError(f"--seed {text} is too large; seeds lie below {MAX_SEED}")
        if end <= first:
            raise UserError(f"--seed {text} is empty; the second number must be above the first")
        numbers += range(first, end)
    return list(dict.fromkeys(numbers))


def bitrates(value: float | str | Iterable[float | str] | None) -> list[float | None]:
    """Bitrates in measured kbit/s of 2.4, "2.4,4.8" or several of these; [None] where none is asked for."""
    rates: list[float | None] = []
    for text in _pieces(value):
        try:
            rate = None if text == "None" else float(text)
        except ValueError:
            rate = math.nan
        if rate is not None and not 0 < rate < math.inf:
            raise UserError(f"--bitrate {text} is no bitrate; write a positive number of kbit/s")
        rates.append(rate)
    return list(dict.fromkeys(rates))


def resolve(group: str, label: str, cls: type, values: Mapping[str, Any], defaults: bool = True) -> dict[str, Any]:
    """Options typed by the constructor's signature, as plain JSON values; without defaults only those given.

    An option that is a quantizer itself is flat: {"stage": "nsvq", "stage.codebook_bits": 4.0}.
    UserError: an option that the class lacks, one that it needs, a value of the wrong type.
    """
    parser = _parser(group, label, cls)
    nested, plain = _divided(group, cls, values)
    _check_names(group, label, cls, parser, plain)
    try:
        arguments = [f"--{group}.{option}={_text(value)}" for option, value in plain.items()]
        content = parser.parse_args(arguments, defaults=defaults).as_dict()
    except ArgumentError as error:
        raise UserError(_type_error(group, label, cls, plain, str(error))) from error
    options = json.loads(json.dumps(content.get(group, {}), default=_plain))
    for name, stage in nested.items():
        if defaults or stage.stated:
            inner = resolve(group, f"{label}'s {name} {stage.label}", stage.cls, stage.options, defaults)
            options |= {name: stage.label} if defaults or name in values else {}
            options |= {f"{name}.{option}": value for option, value in inner.items()}
    return options


def create(group: str, label: str, cls: type, options: Mapping[str, Any], *handed_over: Any) -> Any:
    """Build a plug-in from what it is handed and its options. UserError with its own words where it refuses them."""
    values = typed(group, label, cls, options)
    with told_by(label):
        return cls(*handed_over, **values)


def typed(group: str, label: str, cls: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments that options in the form of resolve() stand for."""
    from ...quantizers.base import Nested

    parser = _parser(group, label, cls)
    nested, plain = _divided(group, cls, options)
    read = parser.instantiate(parser.parse_object({group: plain} if plain else {}, defaults=False))
    values = dict(vars(read[group])) if group in read else {}
    return values | {
        name: Nested(stage.cls, typed(group, stage.label, stage.cls, stage.options))
        for name, stage in nested.items()
        if stage.stated
    }


def nested_options(group: str, cls: type) -> dict[str, Any]:
    """The options of a class that are quantizers themselves: name -> Nested, the default."""
    from ...quantizers.base import Nested

    return {name: p.default for name, p in options_of(group, cls).items() if isinstance(p.default, Nested)}


def nested_in(group: str, cls: type, options: Mapping[str, Any]) -> list[tuple[str, type]]:
    """Names and classes of the quantizers that options of a class name, those inside these included."""
    stages = _divided(group, cls, options)[0].values()
    inner = [part for stage in stages for part in nested_in(group, stage.cls, stage.options)]
    return [(stage.label, stage.cls) for stage in stages] + inner


class _Chosen(NamedTuple):
    label: str
    cls: type
    options: dict[str, Any]
    stated: bool


def _divided(group: str, cls: type, options: Mapping[str, Any]) -> tuple[dict[str, _Chosen], dict[str, Any]]:
    """The quantizers that options of a class name, and its other options."""
    nested = {name: _nested(name, default, options) for name, default in nested_options(group, cls).items()}
    return nested, {option: value for option, value in options.items() if option.partition(".")[0] not in nested}


def _nested(name: str, default: Any, options: Mapping[str, Any]) -> _Chosen:
    """What `options` say of the option `name`: "nsvq" or {"name": "nsvq", ...}, and "name.option"."""
    entry = options.get(name, {})
    inner = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
    inner |= {option[len(name) + 1 :]: value for option, value in options.items() if option.startswith(f"{name}.")}
    chosen = inner.pop("name", None)
    if isinstance(chosen, type):
        chosen = add_class("quantizers", chosen)
    cls, preset = (default.cls, {}) if chosen is None else lookup("quantizers", str(chosen))
    kept = default.options if cls is default.cls else {}
    label = str(chosen or registered_name("quantizers", cls) or cls.__name__)
    return _Chosen(label, cls, {**kept, **preset, **inner}, bool(inner) or chosen is not None)


@contextmanager
def told_by(label: str) -> Any:
    """Turn a constructor's ValueError into the user's one line; named errors of the package pass."""
    try:
        yield
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise UserError(f"{label}: {' '.join(str(error).split())}") from error


@cache
def _parser(group: str, label: str, cls: type) -> ArgumentParser:
    """The parser of a class's options, `--group.option`; read only: a search asks for it with every value it tries."""
    parser = ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False, usage="")
    try:
        skipped: set[str | int] = {*HANDED_OVER.get(group, ()), *nested_options(group, cls)}
        parser.add_class_arguments(cls, group, skip=skipped, instantiate=False)
    except ValueError as error:
        raise UserError(f"{label}: {' '.join(str(error).split())}") from error
    return parser


def options_of(group: str, cls: type) -> dict[str, inspect.Parameter]:
    """The options of a class: its constructor's arguments without those it is handed."""
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: parameter
        for name, parameter in inspect.signature(cls).parameters.items()
        if name not in HANDED_OVER.get(group, ()) and parameter.kind not in open_ended
    }


def _check_names(group: str, label: str, cls: type, parser: ArgumentParser, options: Mapping[str, Any]) -> None:
    known = [*(parser.get_defaults().as_dict().get(group) or {}), *nested_options(group, cls)]
    tops = {option.partition(".")[0]: option for option in options}
    for top, option in tops.items():
        if top not in known:
            has = f"It has: {', '.join(known)}" if known else "It has none"
            raise UnknownOptionError(f"{label} has no option {option!r}{nearest(option, known)} {has}")
    for name, parameter in options_of(group, cls).items():
        if parameter.default is parameter.empty and name not in tops:
            kind = inspect.formatannotation(parameter.annotation)
            raise UserError(f"{label} needs an option: --{group}.{name} {kind.upper()}")


def _type_error(group: str, label: str, cls: type, options: Mapping[str, Any], message: str) -> str:
    match = re.search(rf'"{group}\.([^"]+)"', message)
    parameter = options_of(group, cls).get(match[1]) if match else None
    if match is None or parameter is None or match[1] not in options:
        return f"{label}: {' '.join(message.split())}"
    kind = inspect.formatannotation(parameter.annotation).replace("Literal", "one of ").replace("typing.", "")
    refused = _text(options[match[1]])
    listed = kind.startswith(("list[str]", "list[Any]")) and "[" not in refused
    example = f", such as '[\"{refused}\"]'" if listed else ""
    return f"{label}: {match[1]}={refused} does not fit; it must be {kind}{example}"


def _pieces(value: Any) -> list[str]:
    parts = [value] if isinstance(value, str) or not isinstance(value, Iterable) else value
    return [piece.strip() for part in parts for piece in str(part).split(",")]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    raise UserError(f"the option value {value!r} cannot be written down; use numbers, text, lists and the like")
