"""Scoring a test set against a loop over the libraries.

STOI, ESTOI, PESQ and ViSQOL of whole test utterances, coarsely quantised: the loop calls pystoi, pesq and visqol-python
for one utterance after the other; ours scores PESQ and ViSQOL in worker processes, meanwhile both STOIs in this one.
PESQ and ViSQOL must be equal to the bit and both STOIs to 1e-6 before anything is timed. The medians of the rounds are
printed: wall time, once with the start of the workers and once without.
"""

import os
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from ...datamodules.base import SAMPLE_RATE
from ..metrics.intelligibility import Reference
from ..metrics.scoring.pool import ScorePool
from .harness import SidesDifferError, corpus_of, in_turn

NAMES = ("stoi", "estoi", "pesq_wb", "visqol")
NEAR = 1e-6  # of both STOIs
LEVELS = 32  # of the quantiser

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]
Scores = list[dict[str, float]]


def pairs(data: str | None, count: int) -> list[Pair]:
    """Test utterances of LibriSpeech or the demo corpus, and what a mu-law quantiser of few levels leaves of them."""
    corpus = corpus_of(data)
    sounds = [corpus.load(item).astype(np.float64) for item in corpus.items("test")[:count]]
    return [(sound, quantised(sound)) for sound in sounds]


def quantised(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Companded by mu-law (mu = 255), rounded to LEVELS, expanded."""
    companded = np.sign(sound) * np.log1p(255 * np.abs(sound).clip(max=1)) / np.log(256)
    rounded = (np.floor(companded * LEVELS / 2) + 0.5) * 2 / LEVELS
    return np.sign(rounded) * np.expm1(np.abs(rounded) * np.log(256)) / 255


def loop() -> Callable[[list[Pair]], Scores]:
    """The libraries, one utterance after the other."""
    from pesq import pesq
    from pystoi import stoi
    from visqol import VisqolApi

    visqol = VisqolApi()
    visqol.create(mode="speech", use_lattice_model=False)

    def score(reference: NDArray[np.float64], decoded: NDArray[np.float64]) -> dict[str, float]:
        return {
            "stoi": stoi(reference, decoded, SAMPLE_RATE),
            "estoi": stoi(reference, decoded, SAMPLE_RATE, extended=True),
            "pesq_wb": pesq(SAMPLE_RATE, reference, decoded, "wb"),
            "visqol": visqol.measure_from_arrays(reference, decoded, SAMPLE_RATE).moslqo,
        }

    return lambda signals: [score(*pair) for pair in signals]


def pooled(signals: list[Pair], pool: ScorePool) -> Scores:
    """Ours, through a pool that has been entered."""
    waiting = []
    for reference, decoded in signals:
        scores = pool.submit(("pesq_wb", "visqol"), reference, decoded)
        both = [torch.from_numpy(signal).float()[None] for signal in (reference, decoded)]
        stoi, estoi = Reference(both[0], SAMPLE_RATE).pair(both[1])
        waiting.append(({"stoi": float(stoi), "estoi": float(estoi)}, scores))
    return [both | scores.result() for both, scores in waiting]


def compare(ours: Scores, theirs: Scores) -> dict[str, float]:
    """Largest difference by metric. SidesDifferError where it is too large."""
    worst = {name: max(abs(a[name] - b[name]) for a, b in zip(ours, theirs, strict=True)) for name in NAMES}
    wrong = [name for name in NAMES if not worst[name] <= (NEAR if "stoi" in name else 0)]
    if wrong:
        raise SidesDifferError("; ".join(f"{name} differs by {worst[name]:.1e}" for name in wrong))
    return worst


def with_start(signals: list[Pair], workers: int | None) -> None:
    """Ours, workers started and ended."""
    with ScorePool(workers) as pool:
        pooled(signals, pool)


def measure(data: str | None, items: int, rounds: int, workers: int | None) -> None:
    """Print the differences, then seconds and ratios."""
    signals, theirs = pairs(data, items), loop()
    with ScorePool(workers) as pool:
        worst = compare(pooled(signals, pool), theirs(signals))
        print("largest difference: " + ", ".join(f"{name} {value:.1e}" for name, value in worst.items()))
        length = sum(len(reference) for reference, _ in signals) / SAMPLE_RATE
        print(f"{len(signals)} utterances, {length:.0f} s, {pool.workers} workers, load {os.getloadavg()[0]:.1f}")
        sides = {
            "libraries": lambda: theirs(signals),
            "ours": lambda: pooled(signals, pool),
            "ours, with start": lambda: with_start(signals, workers),
        }
        spent = in_turn(sides, rounds, time.perf_counter)
    for name, seconds in spent.items():
        ratio = median(a / b for a, b in zip(spent["libraries"], seconds, strict=True))
        print(f"{name:17} {median(seconds):7.2f} s  {ratio:5.2f} x", flush=True)
