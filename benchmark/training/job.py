"""What every way of training is told."""

from pathlib import Path
from typing import Any, NamedTuple

from ..specs.training import Training
from ..tracks.base import Track


class Job(NamedTuple):
    """One training: on what, how, from which seed, and where it leaves what it has to say."""

    track: Track
    training: Training
    seed: int
    folder: Path  # of its checkpoints
    logger: Any = False
    bar: bool = True
