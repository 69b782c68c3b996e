"""STOI and ESTOI of a batch against pystoi's two calls: `python -m codecbench.benchmark.metric_speed`.

Needs pystoi. Clean speech of `--data`, the folder LibriSpeech/ (else of the built-in demo corpus), in cuts of 3 s, and
the same with white noise at 6 dB. Both sides run in one process, in turn, on one thread; every score is compared before
anything is timed. The median over the rounds is printed: CPU time of one pair, without and with the gradient.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray

from ...datamodules.base import SAMPLE_RATE, Corpus
from ...datamodules.demo import Demo
from ...datamodules.librispeech import LibriSpeech
from ..metrics.intelligibility import Scores, stoi_pair

SAMPLES = 3 * SAMPLE_RATE  # of a cut
NOISE = 0.5  # of the RMS of the speech
LIMITS = {torch.float32: 1e-6, torch.float64: 1e-10}  # of the difference to pystoi

HEADER = ["dtype", "batch", "largest difference", "pystoi ms", "ours ms", "ratio", "with gradient ms"]
WIDTHS = [9, 7, 20, 11, 9, 7, 18]

Signals = NDArray[np.float64]


def speech(root: str | None, count: int) -> Signals:
    """The test recordings one after another, as "count 48000"; SystemExit where they do not last."""
    corpus: Corpus = LibriSpeech(root) if root else Demo()
    cuts, rest = [], np.zeros(0)
    for item in corpus.items("test"):
        rest = np.concatenate([rest, corpus.load(item)])
        while len(rest) >= SAMPLES and len(cuts) < count:
            cuts.append(rest[:SAMPLES])
            rest = rest[SAMPLES:]
    if len(cuts) < count:
        sys.exit(f"{count} cuts are asked for; {corpus.title} has {len(cuts)} of 3 s")
    return np.stack(cuts)


def signals(clean: Signals) -> tuple[Signals, Signals]:
    """The cuts, and the cuts with noise."""
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    return clean, clean + NOISE * clean.std(axis=1, keepdims=True) * noise


def library(clean: Signals, noisy: Signals) -> Signals:
    """STOI and ESTOI by pystoi, as "2 B"."""
    from pystoi import stoi

    pairs = list(zip(clean, noisy, strict=True))
    return np.array([[stoi(*pair, SAMPLE_RATE, extended) for pair in pairs] for extended in (False, True)])


def ours(clean: Signals, noisy: Signals, dtype: torch.dtype) -> Callable[[], Scores]:
    """What computes both of the batch."""
    first, second = (torch.from_numpy(each).to(dtype) for each in (clean, noisy))
    return lambda: stoi_pair(first, second, SAMPLE_RATE)


def with_gradient(clean: Signals, noisy: Signals, dtype: torch.dtype) -> Callable[[], None]:
    """The same, and the gradient of their sum with respect to the noisy signals."""
    first, second = (torch.from_numpy(each).to(dtype) for each in (clean, noisy))
    second.requires_grad_()

    def step() -> None:
        second.grad = None
        scores = stoi_pair(first, second, SAMPLE_RATE)
        (scores.stoi.sum() + scores.estoi.sum()).backward()

    return step


def compare(clean: Signals, noisy: Signals, dtype: torch.dtype, limit: float | None = None) -> float:
    """The largest difference to pystoi's scores; SystemExit where it is above the limit, LIMITS unless given."""
    limit = LIMITS[dtype] if limit is None else limit
    difference = float(np.abs(torch.stack(ours(clean, noisy, dtype)()).numpy() - library(clean, noisy)).max())
    if not difference <= limit:
        sys.exit(f"{dtype}: the scores differ from pystoi's by {difference:.1e}, more than {limit:.0e}")
    return difference


def milliseconds(sides: list[Callable[[], object]], rounds: int, items: int) -> list[float]:
    """Median CPU time of each side, per item."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for spent, side in zip(times, sides, strict=True):
            begin = time.process_time()
            side()
            spent.append(1000 * (time.process_time() - begin) / items)
    return [statistics.median(spent) for spent in times]


def main() -> None:
    """Print one line per dtype and batch."""
    parser = argparse.ArgumentParser(description="STOI and ESTOI of a batch against pystoi's two calls.")
    parser.add_argument("--data", help="the folder LibriSpeech/; the demo corpus unless given")
    parser.add_argument("--batch", default="1,4,16", help="numbers of items")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    batches = [int(batch) for batch in arguments.batch.split(",")]
    clean, noisy = signals(speech(arguments.data, max(batches)))
    print(f"library: pystoi {version('pystoi')}")
    print(_row(HEADER))
    for dtype in LIMITS:
        difference = compare(clean, noisy, dtype)
        for batch in batches:
            pair = clean[:batch], noisy[:batch]
            sides = [lambda pair=pair: library(*pair), ours(*pair, dtype), with_gradient(*pair, dtype)]
            peer, own, gradient = milliseconds(sides, arguments.rounds, batch)
            cells = [str(dtype).removeprefix("torch."), str(batch), f"{difference:.1e}", f"{peer:.1f}", f"{own:.2f}"]
            print(_row([*cells, f"{peer / own:.1f}", f"{gradient:.2f}"]), flush=True)


def _row(cells: list[str]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


if __name__ == "__main__":
    main()
