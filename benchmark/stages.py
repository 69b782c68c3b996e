"""The stages of a training, where a recipe lists them: each goes on where the last one left the codec.

    training:
      stages: ["gradient:steps=1500,quantized=false", "spsa:steps=500,quantized=false", "fit", "spsa:steps=500"]

is the method of Hinrichs, Bilsky & Ostermann (VQ FRAE, III). Any stage may be left out, repeated or moved, and any
quantizer takes part. A gradient stage is a training by training.py; `vstoi` and `spsa` ascend the intelligibility of
what is decoded, see ascent.py.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from .errors import UserError
from .spsa import SPSA, check_seconds


@dataclass(frozen=True)
class Gradient:
    """Gradient descent on the codec's loss; quantizers that nothing has fitted yet join after the warm-up."""

    kind: ClassVar[str] = "gradient"
    steps: int = 2000
    quantized: bool = True
    learning_rate: float | None = None  # None: the training's

    def __post_init__(self) -> None:
        _positive(self, "steps", "learning_rate")


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
        _positive(self, "steps", "learning_rate", "batch", "limit")
        if self.distortion < 0:
            raise ValueError(f"distortion={self.distortion} must be at least 0")


Stage = Gradient | Fit | VSTOI | SPSA
KINDS: dict[str, type[Stage]] = {kind.kind: kind for kind in (Gradient, Fit, VSTOI, SPSA)}


def parse_stages(texts: Sequence[str]) -> list[Stage]:
    """Read "spsa:steps=500,quantized=false" and the like. ValueError says what cannot be."""
    from .arguments import named, resolve

    stages: list[Stage] = []
    for text in texts:
        try:
            (kind, given), *more = named(text)
            if more:
                raise UserError(f"{text!r} is more than one stage; write one an entry")
            if kind not in KINDS:
                raise UserError(f"no stage is called {kind!r}; there are: {', '.join(KINDS)}")
            stages.append(KINDS[kind](**resolve("training", kind, KINDS[kind], given)))
        except ValueError as error:
            raise ValueError(f"stages: {error}") from error
    _check(stages)
    return stages


def shortened(texts: Sequence[str], share: float) -> list[str]:
    """The same stages with a share of the steps of each, at least one."""
    stages = [
        stage if isinstance(stage, Fit) else replace(stage, steps=max(1, math.ceil(share * stage.steps)))
        for stage in parse_stages(texts)
    ]
    return [written(stage) for stage in stages]


def written(stage: Stage) -> str:
    """The inverse of parse_stages() for one stage, with all its options."""
    options = ",".join(f"{name}={_text(value)}" for name, value in asdict(stage).items())
    return f"{stage.kind}:{options}" if options else stage.kind


def _check(stages: Sequence[Stage]) -> None:
    if not any(stage.steps or isinstance(stage, Fit) for stage in stages):
        raise ValueError("stages: there is none; leave the option out for one training of `steps`")
    ready = False
    for stage in stages:
        if stage.quantized and not ready and isinstance(stage, VSTOI | SPSA):
            raise ValueError(f"stages: {stage.kind} needs codebooks; put fit before it, or write quantized=false")
        ready = ready or stage.quantized


def _positive(stage: Stage, *names: str) -> None:
    for name in names:
        value = getattr(stage, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}={value} must be above 0")


def _text(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
