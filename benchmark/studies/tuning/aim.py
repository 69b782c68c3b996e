"""What a search is after, and how a trial ended."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Report = Callable[[float], bool]  # takes an intermediate score; whether the trial is to end


@dataclass(frozen=True)
class Aim:
    """Which objective, and what it needs to be told. ValueError where a value is out of range."""

    objective: Literal["pattern", "validation"] = "pattern"
    adam_steps: int = 500
    spsa_steps: int = 100
    quantized: bool = False  # pattern: SPSA and score with quantizers, fitted on the pattern's latents in between
    item: str | None = None  # training item; None: that of median length
    stages: Path | None = None  # validation: a folder for stages that trials have in common; None: each has its own

    def __post_init__(self) -> None:
        for name in ("adam_steps", "spsa_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


class Outcome(NamedTuple):
    """How a trial ended."""

    score: float | None  # None: it was pruned, or cannot be
    reason: str  # why there is no score
    seconds: float


class PrunedError(Exception):
    """A trial that no longer promises anything."""
