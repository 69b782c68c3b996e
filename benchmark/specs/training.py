"""How a run trains: what may be set by --training.OPTION, a recipe, or a codec that declares what suits it."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from .stages import demand, plain, read_stages

POSITIVE = (
    *("steps", "batch_size", "crop_seconds", "learning_rate", "later_phases"),
    *("discriminator_learning_rate", "validate_every", "gradient_clip"),
)
SHARES = ("warmup", "rise", "cooldown", "adversarial_from")


@dataclass(frozen=True)
class Training:
    """Options of a training. ValueError where a value is out of range."""

    steps: int = 2000
    batch_size: int = 64
    crop_seconds: float = 0.1125  # 100 frames of a stimulation pattern
    learning_rate: float = 1e-2
    optimizer: Literal["adam", "adamw"] = "adam"
    warmup: float = 0.2  # share of the steps without quantizer
    losses: dict[str, float] | None = None  # name: weight, see benchmark/losses; None: the codec's own
    adversarial_weight: float = 0.0  # of (34); 0: no discriminators
    feature_weight: float = 10.0  # of (35)
    adversarial_from: float = 0.5  # share of the steps after which the discriminators enter
    discriminator_channels: int = 16
    discriminator_learning_rate: float = 1e-4
    workers: int = 0  # processes that load training crops; they change no number
    validate_every: int = 100  # steps
    gradient_clip: float = 1.0
    schedule: Literal["constant", "cosine"] = "constant"  # of the learning rate: until the cool-down, or half a cosine
    rise: float = 0.0  # share of the steps over which it rises from 0 at first
    later_phases: float = 1.0  # share of the learning rate that holds in every phase of a codec but the first
    cooldown: float = 0.2  # share of the steps over which a constant one falls to 0 at last
    keep: Literal["last", "best"] = "last"  # the model after the last step, or that of the least validation loss
    precision: Literal["float32", "bfloat16"] = "float32"  # of the codec in training (autocast); losses: float32
    stages: list[Any] | None = None  # in place of `steps`: stages in any form that stages.py reads; kept as Stage

    def __post_init__(self) -> None:
        demand(self, lambda number: number > 0, "be above 0", *POSITIVE)
        demand(self, lambda number: 0 <= number <= 1, "lie between 0 and 1", *SHARES)
        demand(self, lambda number: number >= 0, "be at least 0", "adversarial_weight", "feature_weight", "workers")
        if self.discriminator_channels < 4 or self.discriminator_channels % 4:
            raise ValueError(f"discriminator_channels={self.discriminator_channels} must be a multiple of 4")
        if self.warmup >= 1:
            raise ValueError(f"warmup={self.warmup} leaves no step for the quantizer; it must be below 1")
        if self.warmup + self.cooldown > 1:
            raise ValueError(f"warmup={self.warmup} and cooldown={self.cooldown} must leave steps between them")
        if self.stages is not None:
            object.__setattr__(self, "stages", read_stages(self.stages))

    def as_dict(self) -> dict[str, Any]:
        """The options as plain JSON values."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        return content | {"stages": self.stages and [plain(stage) for stage in self.stages]}

    def pace(self, step: int, steps: int) -> float:
        """The share of the learning rate that holds in a step of so many."""
        rising = min(1.0, (step + 1) / max(1, round(self.rise * steps)))
        if self.schedule == "cosine":
            return rising * (1 + math.cos(math.pi * step / steps)) / 2
        return rising * min(1.0, (steps - step) / max(1, round(self.cooldown * steps)))
