"""STOI and ESTOI of a batch against pystoi's two calls.

Clean speech in cuts of 3 s, and the same with white noise at 6 dB. Every score is compared before anything is timed.
The median over the rounds is printed: CPU time of one pair, without and with the gradient.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from ...datamodules.base import SAMPLE_RATE
from ..metrics.intelligibility import Scores, stoi_pair
from .harness import Table, cuts, in_turn, within

SECONDS = 3.0  # of a cut
NOISE = 0.5  # of the RMS of the speech
LIMITS = {torch.float32: 1e-6, torch.float64: 1e-10}  # of the difference to pystoi
TIMES = {"pystoi ms": 11, "ours ms": 9, "ratio": 7, "with gradient ms": 18}
COLUMNS = {"dtype": 9, "batch": 7, "largest difference": 20, **TIMES}

Signals = NDArray[np.float64]


def measure(data: str | None, batch: Sequence[int], rounds: int) -> None:
    """Print one line per dtype and batch."""
    clean, noisy = speech(data, max(batch))
    print(f"library: pystoi {version('pystoi')}")
    table = Table(COLUMNS)
    for dtype in LIMITS:
        difference = compare(clean, noisy, dtype)
        for items in batch:
            pair = clean[:items], noisy[:items]
            step = with_gradient(*pair, dtype)
            sides = {"pystoi": lambda pair=pair: library(*pair), "ours": ours(*pair, dtype), "gradient": step}
            peer, quick, gradient = (1000 * median(spent) / items for spent in in_turn(sides, rounds).values())
            cells = f"{peer:.1f}", f"{quick:.2f}", f"{peer / quick:.1f}", f"{gradient:.2f}"
            table.line(str(dtype).removeprefix("torch."), str(items), f"{difference:.1e}", *cells)


def speech(data: str | None, count: int) -> tuple[Signals, Signals]:
    """Cuts of speech, and the same with noise, both "count N"."""
    clean = cuts(data, count, SECONDS).double().numpy()
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    return clean, clean + NOISE * clean.std(axis=1, keepdims=True) * noise


def library(clean: Signals, noisy: Signals) -> Signals:
    """STOI and ESTOI by pystoi, as "2 B"."""
    from pystoi import stoi

    pairs = list(zip(clean, noisy, strict=True))
    return np.array([[stoi(*pair, SAMPLE_RATE, extended) for pair in pairs] for extended in (False, True)])


def ours(clean: Signals, noisy: Signals, dtype: torch.dtype) -> Callable[[], Scores]:
    """What computes both of the batch."""
    first, second = (torch.from_numpy(signal).to(dtype) for signal in (clean, noisy))
    return lambda: stoi_pair(first, second, SAMPLE_RATE)


def with_gradient(clean: Signals, noisy: Signals, dtype: torch.dtype) -> Callable[[], None]:
    """The same, and the gradient of their sum with respect to the noisy signals."""
    first, second = (torch.from_numpy(signal).to(dtype) for signal in (clean, noisy))
    second.requires_grad_()

    def step() -> None:
        second.grad = None
        scores = stoi_pair(first, second, SAMPLE_RATE)
        (scores.stoi.sum() + scores.estoi.sum()).backward()

    return step


def compare(clean: Signals, noisy: Signals, dtype: torch.dtype, limit: float | None = None) -> float:
    """The largest difference to pystoi's scores; SidesDifferError where it is above the limit, LIMITS unless given."""
    difference = float(np.abs(torch.stack(ours(clean, noisy, dtype)()).numpy() - library(clean, noisy)).max())
    return within(difference, LIMITS[dtype] if limit is None else limit, f"{dtype}: the scores differ from pystoi's")
