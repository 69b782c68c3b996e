"""Plug-ins are found, not listed: built-in files, entry points of other packages, files and classes that are handed in.

The file name is the registered name. A file defines one concrete class derived from its kind's base; files that define
none (the bases, the checks, shared parts) are passed over.
"""

import hashlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from ...leaderboards.errors import nearest
from ..errors import UserError

Kind = Literal["quantizers", "codecs", "datamodules", "classical"]

PACKAGE = __name__.split(".", 1)[0]
BASES: dict[Kind, str] = {  # in base.py of the kind's folder
    "quantizers": "Quantizer",
    "codecs": "Codec",
    "datamodules": "Corpus",
    "classical": "ClassicalCodec",
}
NOUNS: dict[Kind, str] = {
    "quantizers": "quantizer",
    "codecs": "codec",
    "datamodules": "corpus",
    "classical": "classical codec",
}
FOLDERS: dict[Kind, str] = {"classical": "codecs.classical"}  # of the kinds that are not called like theirs
BUILT_IN = "built in"


class _Scan(NamedTuple):
    classes: dict[str, type]
    origins: dict[str, str]
    broken: dict[str, str]  # name -> why it cannot be loaded


_left_out: list[str] = []  # names
_handed_in: dict[Kind, dict[str, tuple[type, str]]] = {kind: {} for kind in BASES}  # name -> class, origin


def found(kind: Kind) -> dict[str, type]:
    """Every plug-in of a kind: registered name -> class. A file that cannot be loaded costs one line on stderr."""
    return _scan(kind).classes | {name: cls for name, (cls, _) in _handed_in[kind].items()}


def all_loaded() -> bool:
    """Whether none of the plug-ins looked for so far has been left out, as one that cannot be loaded."""
    return not _left_out


def origin(kind: Kind, name: str) -> str:
    """Where a plug-in comes from: "built in", a package, a file or Python."""
    return _handed_in[kind][name][1] if name in _handed_in[kind] else _scan(kind).origins[name]


def presets(kind: Kind) -> dict[str, tuple[str, dict[str, Any]]]:
    """Further names: preset -> registered name of its class, and the options it stands for."""
    return {
        preset: (name, dict(options))
        for name, cls in reversed(found(kind).items())  # what is built in has the last word
        for preset, options in getattr(cls, "presets", {}).items()
    }


def lookup(kind: Kind, name: str) -> tuple[type, dict[str, Any]]:
    """The class of a registered name or preset, and the options the preset sets. UserError names the nearest.

    A codec may be a classical one.
    """
    for searched in _sharing(kind):
        classes, others = found(searched), presets(searched)
        if name in classes:
            return classes[name], {}
        if name in others:
            registered, options = others[name]
            return classes[registered], options
        if name in _scan(searched).broken:
            raise UserError(f"the {NOUNS[searched]} {name!r} cannot be loaded: {_scan(searched).broken[name]}")
    there = [known for searched in _sharing(kind) for known in sorted(found(searched))]
    near = nearest(name, [*there, *(preset for searched in _sharing(kind) for preset in presets(searched))])
    raise UserError(f"no {NOUNS[kind]} is called {name!r}{near} There are: {', '.join(there)}")


def registered_name(kind: Kind, cls: type) -> str | None:
    """The name under which a class is registered."""
    classes = (named for searched in _sharing(kind) for named in found(searched).items())
    return next((name for name, known in classes if known is cls), None)


def add_file(path: Path | str) -> tuple[Kind, str]:
    """Register the one plug-in of a stranger's file under the file's name. UserError: no such file, no such class."""
    path = Path(path).expanduser()
    module = _load_file(path)
    candidates: list[tuple[Kind, type]] = [(kind, cls) for kind in BASES for cls in _concrete(module, base(kind))]
    if len(candidates) > 1:
        raise UserError(f"{path} defines {', '.join(cls.__name__ for _, cls in candidates)}; keep one plug-in per file")
    if not candidates:
        raise UserError(f"{path} defines no quantizer, codec or corpus{_unfinished(module)}")
    kind, cls = candidates[0]
    _hand_in(kind, path.stem, cls, str(path))
    return kind, path.stem


def add_class(kind: Kind, cls: type) -> str:
    """Register a class handed over in Python; returns its name: its file's, or its own in lower case."""
    if kind == "codecs" and issubclass(cls, base("classical")):
        kind = "classical"
    if not issubclass(cls, base(kind)) or inspect.isabstract(cls):
        lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ()))) or f"{BASES[kind]} as its base"
        raise UserError(f"{cls.__name__} is no {NOUNS[kind]} yet: it lacks {lacking}")
    known = registered_name(kind, cls)
    if known is not None:
        return known
    module = sys.modules.get(cls.__module__)
    alone = module is not None and module.__name__ != "__main__" and _concrete(module, base(kind)) == [cls]
    name = cls.__module__.rpartition(".")[2] if alone else cls.__name__.lower()
    _hand_in(kind, name, cls, "Python")
    return name


@cache
def source_hash(cls: type) -> str:
    """sha256 of the file that defines a class, so that an edited plug-in is a new run; random without a file."""
    try:
        source = Path(inspect.getsourcefile(cls) or "").read_bytes()
    except (OSError, TypeError):  # a class typed into a notebook: its runs are never taken for one another
        source = os.urandom(32)
    return hashlib.sha256(source).hexdigest()


def base(kind: Kind) -> type:
    """The base class of a kind."""
    return getattr(importlib.import_module(f"{_folder(kind)}.base"), BASES[kind])


def _sharing(kind: Kind) -> tuple[Kind, ...]:
    """The kinds in which a name is looked up: a codec may be a classical one."""
    return ("codecs", "classical") if kind == "codecs" else (kind,)


def _folder(kind: Kind) -> str:
    return f"{PACKAGE}.{FOLDERS.get(kind, kind)}"


@cache
def _scan(kind: Kind) -> _Scan:
    scan = _Scan({}, {}, {})
    for module in pkgutil.iter_modules(importlib.import_module(_folder(kind)).__path__):
        if not module.ispkg:
            _scan_file(scan, kind, module.name)
    for point in entry_points(group=f"{PACKAGE}.{kind}"):
        package = point.dist.name if point.dist else point.value
        if scan.origins.get(point.name) == BUILT_IN:
            _say(f"the {NOUNS[kind]} {point.name!r} of {package} is left out: {PACKAGE} has one of that name")
            continue
        try:
            cls = point.load()
            if not issubclass(cls, base(kind)) or inspect.isabstract(cls):
                raise TypeError(f"{point.value} is no concrete {BASES[kind]}")
        except Exception as error:  # a stranger's package may raise anything, and must not hide the others
            _note_broken(scan, kind, point.name, f"{package}: {type(error).__name__}: {error}")
            continue
        scan.classes[point.name], scan.origins[point.name] = cls, package
    return scan


def _scan_file(scan: _Scan, kind: Kind, name: str) -> None:
    try:
        classes = _concrete(importlib.import_module(f"{_folder(kind)}.{name}"), base(kind))
        if len(classes) > 1:
            raise TypeError(f"it defines {', '.join(cls.__name__ for cls in classes)}; keep one plug-in per file")
    except Exception as error:  # an unfinished file in the folder must not hide the others
        place = FOLDERS.get(kind, kind).replace(".", "/")
        _note_broken(scan, kind, name, f"{place}/{name}.py: {type(error).__name__}: {error}")
        return
    if classes:
        scan.classes[name], scan.origins[name] = classes[0], BUILT_IN


def _concrete(module: ModuleType, root: type) -> list[type]:
    """The concrete classes derived from `root` that this very module defines."""
    return [cls for cls in _derived(module, root) if not inspect.isabstract(cls)]


def _derived(module: ModuleType, root: type) -> list[type]:
    members = dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))  # aliases count once
    return [cls for cls in members if issubclass(cls, root) and cls is not root and cls.__module__ == module.__name__]


def _unfinished(module: ModuleType) -> str:
    abstract = [cls for kind in BASES for cls in _derived(module, base(kind))]
    if abstract:
        return f": {abstract[0].__name__} still lacks {', '.join(sorted(abstract[0].__abstractmethods__))}"  # type: ignore[attr-defined]
    return f"; derive one class from {PACKAGE}.quantizers.base.Quantizer"


def _load_file(path: Path) -> ModuleType:
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"--plugin {path}: no such Python file")
    name = f"{PACKAGE}_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # before it runs: dataclasses look there
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except Exception as error:  # a stranger's file may raise anything
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be loaded: {type(error).__name__}: {reason}") from error
    return module


def _hand_in(kind: Kind, name: str, cls: type, where: str) -> None:
    sharing = _sharing("codecs" if kind == "classical" else kind)
    if any(name in _scan(other).classes or name in presets(other) for other in sharing):
        raise UserError(f"{where}: there is a {NOUNS[kind]} called {name!r} already; choose another name")
    _handed_in[kind][name] = (cls, where)


def _note_broken(scan: _Scan, kind: Kind, name: str, reason: str) -> None:
    scan.broken[name] = " ".join(reason.split())
    _left_out.append(name)
    _say(f"the {NOUNS[kind]} {name!r} is left out, it cannot be loaded: {scan.broken[name]}")


def _say(line: str) -> None:
    print(f"benchmark: {line}", file=sys.stderr)
