"""Claims files: YAML -> ClaimsFile, templates of runs filled in, every label that is spoken of looked up."""

import itertools
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml

from ..errors import ClaimsError, nearest
from .model import (
    SIDES,
    Bound,
    Claim,
    ClaimsFile,
    Column,
    Criterion,
    Figure,
    Joint,
    LabelledRun,
    Profile,
    Quantifier,
    Side,
    Split,
    Table,
    Test,
    criteria,
    matching,
)

Key = TypeVar("Key", bound=str)
FIGURES = {  # kind: what it needs beside file, title and runs, and what it may have
    "rate": (("metric", "rate"), ("split",)),
    "boxes": (("metric",), ("subset", "reference")),
    "by": (("metric", "condition"), ("reference",)),
}


def read_claims(path: Path) -> ClaimsFile:
    """Read and check a file. ClaimsError, one line: it cannot be read, lacks a field, or speaks of runs it has not."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClaimsError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ClaimsError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    try:
        return _file(path, content)
    except _MalformedError as error:
        raise ClaimsError(f"{path}: {error}") from error


class _MalformedError(ValueError):
    """What is wrong, without the name of the file."""


def _file(path: Path, content: Any) -> ClaimsFile:
    needed = ("paper", "protocol", "profiles", "runs", "claims")
    fields = _fields("the file", content, needed, ("notes", "tables", "figures"))
    profiles = {
        str(name): _profile(str(name), entry) for name, entry in _mapping("profiles", fields["profiles"]).items()
    }
    runs = {name: _runs(profile, name, fields["runs"]) for name, profile in profiles.items()}
    known = list(dict.fromkeys(label for labelled in runs.values() for label in labelled))
    claims = tuple(_claim(number, entry) for number, entry in enumerate(_list("claims", fields["claims"]), 1))
    tables = tuple(map(_table, _list("tables", fields.get("tables", []))))
    figures = tuple(map(_figure, _list("figures", fields.get("figures", []))))
    for where, patterns in _mentions(claims, tables, figures):
        for pattern in patterns:
            if not matching([pattern], known):
                raise _MalformedError(f"{where}: no run is labelled {pattern!r}{nearest(pattern, known)}")
    ids = [claim.id for claim in claims]
    if twice := next((id_ for id_ in ids if ids.count(id_) > 1), None):
        raise _MalformedError(f"claim {twice}: two claims have this id")
    notes, protocol = (tuple(map(_text, _list(key, fields.get(key, [])))) for key in ("notes", "protocol"))
    return ClaimsFile(path, _text(fields["paper"]), notes, protocol, profiles, runs, claims, tables, figures)


def _profile(name: str, content: Any) -> Profile:
    fields = _fields(f"profile {name}", content, ("cost",), ("settings", "names", "train_items"))
    settings, names = (_mapping(f"profile {name}: {key}", fields.get(key, {})) for key in ("settings", "names"))
    count = fields.get("train_items", 0)
    if not isinstance(count, int) or count < 0:
        raise _MalformedError(f"profile {name}: train_items={count!r} must be a number of items")
    return Profile(str(fields["cost"]), settings, names, count)


def _runs(profile: Profile, name: str, content: Any) -> dict[str, LabelledRun]:
    """Every template filled in with every combination that the profile asks for."""
    runs: dict[str, LabelledRun] = {}
    for number, group in enumerate(_list("runs", content), 1):
        where = f"runs, entry {number}"
        fields = _fields(where, group, ("label", "settings", "for"), ("on_train",))
        template = _mapping(f"{where}: settings", fields["settings"])
        for combination in _combinations(f"{where}: for", _mapping(f"{where}: for", fields["for"]).get(name, [])):
            values = {**profile.names, **combination}
            label = str(_filled(where, fields["label"], values))
            if label in runs:
                raise _MalformedError(f"{where}: two runs of {name} are labelled {label!r}")
            settings = _filled(where, {**profile.settings, **template}, values)
            runs[label] = LabelledRun(settings, bool(fields.get("on_train", False)))
    return runs


def _combinations(where: str, content: Any) -> Iterator[dict[str, Any]]:
    for product in [content] if isinstance(content, Mapping) else _list(where, content):
        axes = {key: value if isinstance(value, list) else [value] for key, value in _mapping(where, product).items()}
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True))


def _filled(where: str, value: Any, names: Mapping[str, Any]) -> Any:
    """Text with its {placeholders} filled in; one that is all there is keeps its type."""
    if isinstance(value, Mapping):
        return {key: _filled(where, entry, names) for key, entry in value.items()}
    if isinstance(value, list):
        entries = [(entry, _filled(where, entry, names)) for entry in value]  # "{several}" in a list is several
        return [one for entry, new in entries for one in (new if isinstance(new, list) and new != entry else [new])]
    if not isinstance(value, str):
        return value
    try:
        placeholders = [name for _, name, _, _ in string.Formatter().parse(value) if name is not None]
        if len(placeholders) == 1 and value == f"{{{placeholders[0]}}}":
            return _filled(where, names[value[1:-1]], {k: v for k, v in names.items() if k != value[1:-1]})
        return value.format_map({name: names[name] for name in placeholders})
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise _MalformedError(f"{where}: {value!r} has a placeholder that nothing stands for ({error})") from error


def _claim(number: int, content: Any) -> Claim:
    where = f"claim {content['id']}" if isinstance(content, Mapping) and "id" in content else f"claim no. {number}"
    fields = _fields(where, content, ("id", "statement", "where", "paper", "test"), ("subset", "splits"))
    id_, statement, place, paper = (_text(fields[key]) for key in ("id", "statement", "where", "paper"))
    test, subset = _test(where, fields["test"]), _subset(where, fields.get("subset", {}))
    return Claim(id_, statement, place, paper, test, subset, _splits(where, fields.get("splits", ["test"])))


def _test(where: str, content: Any) -> Test:
    fields = _mapping(f"{where}: test", content)
    for kind in ("all", "any"):
        if kind in fields:
            _fields(f"{where}: test", fields, (kind,), ())
            tests = tuple(_test(where, entry) for entry in _list(f"{where}: {kind}", fields[kind]))
            if not tests:
                raise _MalformedError(f"{where}: {kind} lists no test")
            return Joint(kind, tests)
    form = _one_of(where, fields, tuple(SIDES))
    bound = _one_of(where, fields, get_args(Bound))
    _fields(f"{where}: test", fields, (form, bound, *(["tolerance"] if bound == "about" else [])), ())
    metric, *sides = _list(f"{where}: {form}", fields[form]) or [None]
    if len(sides) != SIDES[form]:
        raise _MalformedError(f"{where}: {form} must list a metric and {SIDES[form]} side(s)")
    parsed = tuple(_side(where, side) for side in sides)
    if len({side.quantifier for side in parsed} & {"every", "any"}) > 1:
        raise _MalformedError(f"{where}: a comparison is of every one or of any one, not both; write two under all")
    limits = (_number(where, fields[key]) for key in (bound, *(["tolerance"] if bound == "about" else [])))
    return Criterion(form, _metric(where, metric), parsed, bound, *limits)


def _metric(where: str, content: Any) -> Column:
    if isinstance(content, str):
        return Column(content)
    fields = _fields(f"{where}: metric", content, ("share", "beyond"), ())
    return Column(str(fields["share"]), _number(where, fields["beyond"]))


def _side(where: str, content: Any) -> Side:
    if not isinstance(content, Mapping):
        return Side(tuple(map(str, [content] if isinstance(content, str) else _list(f"{where}: side", content))))
    kind = _one_of(where, content, ("runs", "every", "any"))
    fields = _fields(f"{where}: side", content, (kind,), ("subset",))
    subset = _subset(where, fields["subset"]) if "subset" in fields else None
    quantifier: Quantifier = "mean" if kind == "runs" else kind  # type: ignore[assignment]
    return _side(where, fields[kind])._replace(quantifier=quantifier, subset=subset)


def _subset(where: str, content: Any) -> dict[str, Any]:
    """Column -> {at_least, at_most}, or the values that count."""
    subset: dict[str, Any] = {}
    for column, limits in _mapping(f"{where}: subset", content).items():
        if isinstance(limits, Mapping):
            limits = _fields(f"{where}: subset", limits, (), ("at_least", "at_most"))
            subset[str(column)] = {key: _number(where, value) for key, value in limits.items()}
        else:
            subset[str(column)] = limits if isinstance(limits, list) else [limits]
    return subset


def _table(content: Any) -> Table:
    where = f"table {content.get('title')}" if isinstance(content, Mapping) else "tables"
    fields = _fields(where, content, ("title", "metrics", "paper"), ("splits", "note"))
    metrics = tuple(map(str, _list(f"{where}: metrics", fields["metrics"])))
    paper = {
        str(label): numbers if isinstance(numbers, list) else [numbers]
        for label, numbers in _mapping(f"{where}: paper", fields["paper"]).items()
    }
    if wrong := next((label for label, numbers in paper.items() if len(numbers) != len(metrics)), None):
        raise _MalformedError(
            f"{where}: {wrong} must have a number for each of {', '.join(metrics)}; null where there is none"
        )
    splits = _splits(where, fields.get("splits", ["test"]))
    return Table(_text(fields["title"]), metrics, paper, splits, _text(fields.get("note", "")))


def _figure(content: Any) -> Figure:
    where = f"figure {content.get('file')}" if isinstance(content, Mapping) else "figures"
    kind = _mapping(where, content).get("kind")
    if kind not in FIGURES:
        raise _MalformedError(f"{where}: kind={kind!r} must be one of {', '.join(FIGURES)}")
    needed, further = FIGURES[kind]
    fields = _fields(where, content, ("file", "kind", "title", "runs", *needed), further)
    if Path(str(fields["file"])).name != fields["file"] or not fields["file"].endswith(".png"):
        raise _MalformedError(f"{where}: file must be a name like fig3.png")
    runs = {str(name): _side(where, side) for name, side in _mapping(f"{where}: runs", fields["runs"]).items()}
    fields |= {"runs": runs, "subset": _subset(where, fields.get("subset", {}))}
    fields |= {"split": _splits(where, [fields.get("split", "test")])[0]}
    return Figure(**fields)


def _mentions(
    claims: Sequence[Claim], tables: Sequence[Table], figures: Sequence[Figure]
) -> Iterator[tuple[str, Sequence[str]]]:
    for claim in claims:
        for criterion in criteria(claim.test):
            for side in criterion.sides:
                yield f"claim {claim.id}", side.patterns
    for table in tables:
        yield f"table {table.title}", list(table.paper)
    for figure in figures:
        for side in figure.runs.values():
            yield f"figure {figure.file}", side.patterns


def _fields(where: str, content: Any, needed: Sequence[str], further: Sequence[str]) -> dict[str, Any]:
    fields = _mapping(where, content)
    known = [*needed, *further]
    if strange := next((str(key) for key in fields if key not in known), None):
        raise _MalformedError(
            f"{where}: has no field {strange!r}{nearest(strange, known)} There are: {', '.join(known)}"
        )
    if missing := next((key for key in needed if key not in fields), None):
        raise _MalformedError(f"{where}: lacks {missing!r}")
    return fields


def _mapping(where: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise _MalformedError(f"{where} must hold `name: value` lines, not {str(content)[:60]!r}")
    return dict(content)


def _list(where: str, content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise _MalformedError(f"{where} must be a list, not {str(content)[:60]!r}")
    return content


def _text(value: Any) -> str:
    return " ".join(str(value).split())


def _number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _MalformedError(f"{where}: {value!r} must be a number")
    return float(value)


def _one_of(where: str, fields: Mapping[str, Any], keys: Sequence[Key]) -> Key:
    there = [key for key in keys if key in fields]
    if len(there) != 1:
        raise _MalformedError(
            f"{where}: must have exactly one of {', '.join(keys)}; it has {', '.join(there) or 'none'}"
        )
    return there[0]


def _splits(where: str, content: Any) -> tuple[Split, ...]:
    splits = tuple(_list(f"{where}: splits", content))
    if not splits or not set(splits) <= set(get_args(Split)):
        raise _MalformedError(f"{where}: splits={list(splits)} must list test, train or both")
    return splits
