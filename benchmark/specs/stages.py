"""The stages of a training, where a recipe lists them: each goes on where the last one left the codec.

    training:
      stages:
        - gradient: {steps: 1500, quantized: false}
        - spsa: {steps: 500, quantized: false}
        - fit
        - spsa: {steps: 500}

is the method of Hinrichs, Bilsky & Ostermann (VQ FRAE, III); in Python [Gradient(steps=1500, quantized=False), ...], on
a command line "gradient:steps=1500,quantized=false" and so on. Any stage may be left out, repeated or moved, and any
quantizer takes part. A gradient stage is a training by training/module.py; `vstoi` and `spsa` ascend the
intelligibility of what is decoded, see training/ascent.py.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from inspect import formatannotation
from types import NoneType
from typing import Any, ClassVar, get_args

from ...leaderboards.errors import nearest
from ..errors import UserError

SHORTEST = 0.45  # seconds


def check_seconds(seconds: float) -> None:
    """ValueError where crops are so short that none has a VSTOI: STOI takes 30 frames of 256 samples at 10 kHz."""
    if not SHORTEST <= seconds < math.inf:
        raise ValueError(f"seconds={seconds} must be at least {SHORTEST}: of less there is no VSTOI")


def demand(options: Any, holds: Callable[[Any], bool], what: str, *names: str) -> None:
    """ValueError, which says what it must do, where one of these options does not hold."""
    for name in names:
        value = getattr(options, name)
        if not holds(value):
            raise ValueError(f"{name}={value} must {what}")


@dataclass(frozen=True)
class SPSA:
    """Options of a stage; the gains a, gamma and beta are the paper's. ValueError where one is out of range.

    Args:
        steps: iterations.
        quantized: with the quantizer; False: latents pass through it, and its parameters stay.
        pairs: perturbations a step, each evaluated on both sides; the paper has 1.
        batch: items a step.
        seconds: of each item.
        a: gain of the steps.
        stability: A, which holds the gain back. Not in the paper, which searches it: 60,000 with 8 pairs of one item,
            4,000 to 26,000 with 32 of 4 suit the 8,000 parameters of a feedback autoencoder; less destroys it.
        gamma: how fast the steps shrink.
        c: size of the perturbations, in units of the parameters; not in the paper either.
        beta: how fast they shrink.
        limit: L of eq. 3, above 1: at most 1 / L of VSTOI beyond the uncoded pattern's is rewarded; None: all is.
        longest_step: largest norm of a step; None: any, as in the paper.
    """

    kind: ClassVar[str] = "spsa"  # of stage
    steps: int = 7000
    quantized: bool = True
    pairs: int = 8
    batch: int = 1
    seconds: float = 2.0
    a: float = 1.0
    stability: float = 60_000.0
    gamma: float = 0.602
    c: float = 0.02
    beta: float = 0.101
    limit: float | None = None
    longest_step: float | None = None

    def __post_init__(self) -> None:
        demand(self, lambda number: number >= 1, "be at least 1", "steps", "pairs", "batch")
        check_seconds(self.seconds)
        demand(self, lambda number: 0 < number < math.inf, "be a positive number", "a", "c")
        demand(self, lambda number: 0 <= number < math.inf, "be at least 0", "stability", "gamma", "beta")
        if self.limit is not None:
            demand(self, lambda number: number > 1, "be above 1; VSTOI may then gain up to 1 / limit", "limit")
        if self.longest_step is not None:
            demand(self, lambda number: number > 0, "be a positive norm", "longest_step")

    def gains(self, k: int) -> tuple[float, float]:
        """a_k and c_k of iteration k = 0, 1, ..."""
        return self.a / (self.stability + k + 1) ** self.gamma, self.c / (k + 1) ** self.beta


@dataclass(frozen=True)
class Gradient:
    """Gradient descent on the codec's loss; quantizers that nothing has fitted yet join after the warm-up."""

    kind: ClassVar[str] = "gradient"
    steps: int = 2000
    quantized: bool = True
    learning_rate: float | None = None  # None: the training's

    def __post_init__(self) -> None:
        demand(self, _positive, "be above 0", "steps", "learning_rate")


@dataclass(frozen=True)
class Fit:
    """Every quantizer starts anew from the latents of training crops: codebooks by k-means, and so on."""

    kind: ClassVar[str] = "fit"
    steps: ClassVar[int] = 0
    quantized: ClassVar[bool] = True


@dataclass(frozen=True)
class VSTOI:
    """Ascent of VSTOI's exact gradient through STOI, vocoder and codec; a quantizer's surrogate carries it across."""

    kind: ClassVar[str] = "vstoi"
    steps: int = 400
    quantized: bool = True
    learning_rate: float = 2e-3
    batch: int = 16
    seconds: float = 2.0  # of each crop
    limit: float | None = None  # L of eq. 3; None: VSTOI as it is
    distortion: float = 1.0  # weight of the codec's own loss: VSTOI does not see bands that are not selected

    def __post_init__(self) -> None:
        check_seconds(self.seconds)
        demand(self, _positive, "be above 0", "steps", "learning_rate", "batch", "limit")
        demand(self, lambda number: not number < 0, "be at least 0", "distortion")


Stage = Gradient | Fit | VSTOI | SPSA
STAGES: dict[str, type[Stage]] = {kind.kind: kind for kind in (Gradient, Fit, VSTOI, SPSA)}
WORDS = {"null": None, "none": None, "true": True, "false": False}
Entry = Stage | str | Mapping[str, Any]  # a stage, "spsa:steps=500", or {"spsa": {"steps": 500}}


def read_stages(entries: Sequence[Entry]) -> list[Stage]:
    """The stages that a training lists, in whatever form. ValueError says what cannot be."""
    try:
        stages = [entry if isinstance(entry, Stage) else _read(entry) for entry in entries]
    except ValueError as error:
        raise ValueError(f"stages: {error}") from error
    _check(stages)
    return stages


def shortened(stages: Sequence[Stage], share: float) -> list[Stage]:
    """The same stages with a share of the steps of each, at least one."""
    return [
        stage if isinstance(stage, Fit) else replace(stage, steps=max(1, math.ceil(share * stage.steps)))
        for stage in stages
    ]


def plain(entry: Entry) -> str | dict[str, Any]:
    """An entry as plain JSON values: {"spsa": {"steps": 500, ...}}; a stage without options is its name."""
    if not isinstance(entry, Stage):
        return entry if isinstance(entry, str) else dict(entry)
    return {entry.kind: asdict(entry)} if asdict(entry) else entry.kind


def written(stage: Stage) -> str:
    """As on a command line, with all options."""
    options = ",".join(f"{name}={_text(value)}" for name, value in asdict(stage).items())
    return f"{stage.kind}:{options}" if options else stage.kind


def _read(entry: str | Mapping[str, Any]) -> Stage:
    content = _options_in(entry) if isinstance(entry, str) else dict(entry)
    if len(content) != 1:
        raise UserError(f"{entry!r} is more than one stage; write one an entry")
    ((kind, options),) = content.items()
    if kind not in STAGES:
        raise UserError(f"no stage is called {kind!r}; there are: {', '.join(STAGES)}")
    known = {field.name: field.type for field in fields(STAGES[kind])}
    for name in options or {}:
        if name not in known:
            raise UserError(f"{kind} has no option {name!r}{nearest(name, known)} It has: {', '.join(known)}")
    return STAGES[kind](**{name: _fitting(kind, name, known[name], value) for name, value in (options or {}).items()})


def _options_in(text: str) -> dict[str, dict[str, Any]]:
    """{"spsa": {"steps": 500}} of "spsa:steps=500"."""
    kinds, _, rest = text.partition(":")
    pairs = [part.partition("=") for part in rest.split(",") if rest]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise UserError(f"{text!r} cannot be read; write kind:option=value,option=value")
    options = {name.strip(): value.strip() for name, _, value in pairs}
    return {kind.strip(): options for kind in kinds.split(",")}


def _fitting(kind: str, name: str, wanted: Any, value: Any) -> Any:
    """A value as its option has it: 3 is 3.0 where that is a float, and so is "1e-3", which YAML takes for text."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = WORDS[value.lower()] if value.lower() in WORDS else float(value)
    kinds = get_args(wanted) or (wanted,)
    if type(value) in kinds and type(value) in (bool, NoneType):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if float in kinds:
            return float(value)
        if int in kinds and value == int(value):
            return int(value)
    raise UserError(f"{kind}: {name}={value} does not fit; it must be {formatannotation(wanted)}")


def _check(stages: Sequence[Stage]) -> None:
    if not any(stage.steps or isinstance(stage, Fit) for stage in stages):
        raise ValueError("stages: there is none; leave the option out for one training of `steps`")
    ready = False
    for stage in stages:
        if stage.quantized and not ready and isinstance(stage, VSTOI | SPSA):
            raise ValueError(f"stages: {stage.kind} needs codebooks; put fit before it, or write quantized=false")
        ready = ready or stage.quantized


def _positive(number: float | None) -> bool:
    """Or left out."""
    return number is None or 0 < number < math.inf


def _text(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
