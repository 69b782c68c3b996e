"""What every measurement of speed does: the same speech, sides that take turns, a table that grows line by line."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from ...datamodules.base import SAMPLE_RATE, Recordings, Split
from ...datamodules.demo import Demo
from ...datamodules.librispeech import LibriSpeech
from ...quantizers.base import Quantizer
from ..errors import UserError
from ..specs.registry import lookup

Sides = Mapping[str, Callable[[], object]]


class SidesDifferError(Exception):
    """The sides compute different things, so that their times are not to be compared; one line says what."""


def within(difference: float, limit: float, what: str) -> float:
    """The difference. SidesDifferError, which begins with `what`: it is above the limit."""
    if not difference <= limit:
        raise SidesDifferError(f"{what} by {difference:.1e}, more than {limit:.0e}")
    return difference


def in_turn(sides: Sides, rounds: int, clock: Callable[[], float] = time.process_time) -> dict[str, list[float]]:
    """Seconds of every call: the sides take turns, so that what else the machine does meets all of them."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            begin = clock()
            side()
            spent[name].append(clock() - begin)
    return spent


class Table:
    """Right-aligned cells under a header, printed as they come."""

    def __init__(self, columns: Mapping[str, int]) -> None:
        self.widths = list(columns.values())
        self.line(*columns)

    def line(self, *cells: str) -> None:
        """Print one line."""
        print("".join(f"{cell:>{width}}" for cell, width in zip(cells, self.widths, strict=True)), flush=True)


def corpus_of(data: str | None) -> Recordings:
    """LibriSpeech in its folder, else the demo voices."""
    return LibriSpeech(data) if data else Demo()


def cuts(data: str | None, count: int, seconds: float, split: Split = "test") -> Tensor:
    """The recordings of a split one after another, as "count N". UserError where they do not last."""
    corpus, samples, rest = corpus_of(data), round(seconds * SAMPLE_RATE), np.zeros(0, np.float32)
    for item in corpus.items(split):
        rest = np.concatenate([rest, corpus.load(item)])
        if len(rest) >= count * samples:
            return torch.from_numpy(rest[: count * samples]).view(count, samples)
    lasts = len(rest) / SAMPLE_RATE
    raise UserError(f"{count} x {seconds:g} s of speech are needed; {corpus.title} lasts {lasts:.0f} s")


def quantizers(name: str) -> Callable[[int, float], Quantizer]:
    """What a codec makes its quantizers by. UserError: no quantizer has this name."""
    cls, options = lookup("quantizers", name)
    return lambda channels, share: cls(channels, **options)
