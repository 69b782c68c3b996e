"""What `benchmark tune` may change, as data: option -> where its values lie.

    training.learning_rate: {type: log, low: 0.0003, high: 0.05}     int, float, log (a float, drawn on a log scale)
    codec.widths.0: {low: 8, high: 96, log: true}                     an entry of a list
    quantizer.replacement: [0, 0.1, 0.5]                              one of several: any values
    spsa.c: {type: log, low: 0.001, high: 0.1}                        an option of every stage of that kind

Options are those of --quantizer, --codec and --training, and of the stages of a training.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ....leaderboards.errors import nearest
from ...errors import UserError
from ...specs.options import create, resolve
from ...specs.plugin import Plugin
from ...specs.spec import Spec
from ...specs.stages import SPSA, STAGES, Entry, Fit, Gradient, read_stages
from ...specs.training import Training

GROUPS = ("quantizer", "codec", "training", *STAGES)
TYPES = ("int", "float", "log", "categorical")
KEYS = ("type", "low", "high", "log", "choices")
LEARNING_RATE = {"type": "log", "low": 3e-4, "high": 5e-2}
WIDTH = {"type": "int", "low": 8, "high": 96, "log": True}
FRAE_WIDTHS = 3  # hidden layers where the codec is not told its widths
FRAE = {"training.losses.band_selection": {"type": "log", "low": 0.01, "high": 1.0}}
SPSA_SPACE = {
    "spsa.stability": {"type": "log", "low": 100.0, "high": 1e6},
    "spsa.c": {"type": "log", "low": 1e-3, "high": 0.1},
}

Space = Mapping[str, "Dimension"]


@dataclass(frozen=True)
class Dimension:
    """Where the values of one option lie: between `low` and `high`, or in `choices`."""

    kind: str  # "int", "float" or "categorical"
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, path: str, trial: Any) -> Any:
        """The value of an Optuna trial."""
        if self.kind == "categorical":  # Optuna keeps scalars only
            return json.loads(trial.suggest_categorical(path, [json.dumps(choice) for choice in self.choices]))
        if self.kind == "int":
            return trial.suggest_int(path, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(path, self.low, self.high, log=self.log)

    def extremes(self) -> list[Any]:
        """Values that every option must take."""
        if self.kind == "categorical":
            return list(self.choices)
        return [self.low, self.high] if self.kind == "float" else [int(self.low), int(self.high)]


def staged_as_published(spec: Spec) -> Spec:
    """The spec with stages: where it lists none, those of Hinrichs, Bilsky & Ostermann (VQ FRAE, III)."""
    if spec.training.stages is not None:
        return spec
    stages = [Gradient(steps=spec.training.steps, quantized=False), SPSA(quantized=False), Fit(), SPSA()]
    return replace(spec, training=replace(spec.training, stages=stages))


def default_space(spec: Spec) -> dict[str, Any]:
    """What is searched unless a file says otherwise.

    FRAE: what Hinrichs, Bilsky & Ostermann name in II-D to II-F, in ranges of our own, for theirs are not given.
    """
    space: dict[str, Any] = {"training.learning_rate": LEARNING_RATE}
    if spec.codec.family == "frae":
        layers = len(spec.codec.options.get("widths") or [0] * FRAE_WIDTHS)
        space = {f"codec.widths.{layer}": WIDTH for layer in range(layers)} | FRAE | space
    if any(isinstance(stage, SPSA) for stage in spec.training.stages or ()):
        space |= SPSA_SPACE
    return space


def read_space(path: Path) -> dict[str, Any]:
    """A file's search space, its options not yet checked. UserError: no such file, not of this form."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--space {path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--space {path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"--space {path}: must hold lines like `training.learning_rate: {{low: 0.001, high: 0.1}}`")
    return {str(option): where for option, where in content.items()}


def make_space(content: Mapping[str, Any], spec: Spec) -> dict[str, Dimension]:
    """Dimensions of what a file or default_space() says. UserError: no such option, a value that it does not take."""
    space: dict[str, Dimension] = {}
    for path, where in content.items():
        if path.partition(".")[0] not in GROUPS or not path.partition(".")[2]:
            near = nearest(path.partition(".")[0], list(GROUPS))
            raise UserError(f"--space: {path!r} names no option{near} Write {', '.join(GROUPS)} before a dot")
        space[path] = _dimension(path, where, spec)
    for path, values in probes(space):
        try:
            overlay(spec, values)
        except UserError as error:
            raise UserError(f"--space: {path}: {error}") from error
    return space


def probes(space: Space) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every option at every extreme, alone; entries of a list all at once."""
    for path, dimension in space.items():
        name, _, place = path.rpartition(".")
        entries = [other for other in space if place.isdecimal() and other.rpartition(".")[0] == name]
        for value in dimension.extremes():
            yield path, {other: space[other].extremes()[0] for other in entries} | {path: value}


def overlay(spec: Spec, values: Mapping[str, Any]) -> Spec:
    """The spec with these options; a preset whose options change goes by its family's name. UserError: it cannot be."""
    groups: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        group, _, option = path.partition(".")
        groups.setdefault(group, {})[option] = value
    parts: dict[str, Any] = {}
    for group in groups.keys() & {"quantizer", "codec"}:
        parts[group] = _changed(group, spec, groups[group])
    training = spec.training.as_dict()
    training = _listed(training, groups.get("training", {}))
    for kind in STAGES.keys() & groups.keys():
        training["stages"] = _stages(training["stages"], kind, groups[kind])
    options = resolve("training", "training", Training, training)
    return replace(spec, training=create("training", "training", Training, options), **parts)


def _changed(group: str, spec: Spec, changes: Mapping[str, Any]) -> Plugin[Any]:
    plugin: Plugin[Any] = getattr(spec, group)
    name, listed = plugin.family, _listed(plugin.options, changes)
    rate_is_asked = group == "quantizer" and spec.bitrate is not None  # the other options follow from it
    return Plugin(group, name, plugin.cls, resolve(group, name, plugin.cls, listed, defaults=not rate_is_asked))


def _stages(entries: Sequence[Entry] | None, kind: str, changes: Mapping[str, Any]) -> list[Entry]:
    stages = read_stages(entries or [Fit()])
    if not any(stage.kind == kind for stage in stages if entries):
        raise UserError(f"no stage of this training is {kind}; name it in --training.stages, or leave the option out")
    changed = [_listed(asdict(stage), changes) if stage.kind == kind else asdict(stage) for stage in stages]
    pairs = zip(stages, changed, strict=True)
    return [{stage.kind: options} for stage, options in pairs]


def _listed(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options after changes, of which "widths.0" is one entry of the list "widths"."""
    changed = dict(options)
    for option, value in changes.items():
        name, _, place = option.rpartition(".")
        if not place.isdecimal():
            changed[option] = value
            continue
        entries = list(changed.get(name) or [])
        if int(place) > len(entries) or (options.get(name) is not None and int(place) == len(entries)):
            raise UserError(f"{name} has {len(entries)} entries, the first is {name}.0; {option} is none of them")
        entries[int(place) : int(place) + 1] = [value]
        changed[name] = entries
    return changed


def _dimension(path: str, where: Any, spec: Spec) -> Dimension:
    if isinstance(where, list):
        where = {"choices": where}
    if not isinstance(where, dict):
        raise UserError(f"--space: {path}: write {{low: ..., high: ...}} or a list of choices, not {where!r}")
    for key in where:
        if key not in KEYS:
            raise UserError(f"--space: {path} has no setting {key!r}{nearest(str(key), list(KEYS))} It has: {KEYS}")
    kind = where.get("type", "categorical" if "choices" in where else None)
    if kind not in (None, *TYPES):
        raise UserError(f"--space: {path}: type {kind!r} is unknown; write {', '.join(TYPES)}")
    if kind == "categorical":
        choices = where.get("choices")
        if not isinstance(choices, list) or not choices:
            raise UserError(f"--space: {path}: write choices: [...]")
        return Dimension("categorical", choices=tuple(choices))
    return _range(path, kind or _natural(path, where, spec), where)


def _range(path: str, kind: str, where: Mapping[str, Any]) -> Dimension:
    low, high = (_number(path, where.get(bound)) for bound in ("low", "high"))
    log = kind == "log" or bool(where.get("log"))
    if not low < high or (log and low <= 0):
        raise UserError(f"--space: {path}: low={low:g} must be below high={high:g}{', and above 0' if log else ''}")
    if kind == "int" and not (low.is_integer() and high.is_integer()):
        raise UserError(f"--space: {path}: low={low:g} and high={high:g} of an int must be whole numbers")
    return Dimension("int" if kind == "int" else "float", low, high, log)


def _number(path: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # YAML reads 1e-3 as text
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"--space: {path}: low and high must be numbers, as in {{low: 0.001, high: 0.1}}")
    return number


def _natural(path: str, where: Mapping[str, Any], spec: Spec) -> str:
    """The kind of an option that is given no type: int where the bounds are whole numbers and it is one itself."""
    group, _, option = path.partition(".")
    if not all(isinstance(where.get(bound), int) for bound in ("low", "high")):
        return "float"
    if option.rpartition(".")[2].isdecimal():
        return "int"
    if group in ("quantizer", "codec"):
        plugin: Plugin[Any] = getattr(spec, group)
        current = resolve(group, plugin.name, plugin.cls, plugin.options).get(option)
    elif group == "training":
        current = spec.training.as_dict().get(option)
    else:
        current = getattr(STAGES[group](), option, None)
    return "int" if isinstance(current, int) and not isinstance(current, bool) else "float"
