"""Intelligibility and quality of one decoded signal against its reference; NaN where a measure is undefined.

No function raises for what is in the signals, and none changes their level: PESQ aligns levels itself, ViSQOL brings
the decoded signal to the level of the reference and finds speech where that exceeds about -16 dBFS for 10 ms.
"""

import functools
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# visqol sets this where it is imported first; under numba's own choice, GNU OpenMP, a later fork would die
os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")

SAMPLE_RATE = 16_000  # Hz, of PESQ-WB and of ViSQOL's speech mode
PESQ_SAFE_SAMPLES = 20 * SAMPLE_RATE  # 50 utterances: with more of them the library's C code ends the process
PESQ_APART = f"""
import sys, numpy, pesq
print(float(pesq.pesq({SAMPLE_RATE}, *numpy.frombuffer(sys.stdin.buffer.read()).reshape(2, -1), "wb")))
"""
VISQOL_MODEL = "speech mode, polynomial mapping"  # for the record: the lattice mapping scores 1.7 lower on average


def stoi(reference: ArrayLike, decoded: ArrayLike, rate: int = SAMPLE_RATE, extended: bool = False) -> float:
    """STOI (Taal et al., 2011) or extended STOI (Jensen and Taal, 2016), computed by pystoi at 10 kHz.

    NaN below 30 frames (0.4 s) of speech, where pystoi returns 1e-5.
    """
    from pystoi import stoi as pystoi

    with warnings.catch_warnings(), _fixed_noise():
        warnings.simplefilter("error", RuntimeWarning)
        return _score(lambda x, y: pystoi(x, y, rate, extended), reference, decoded, floor=0.0)


def pesq_wb(reference: ArrayLike, decoded: ArrayLike) -> float:
    """Wideband PESQ (ITU-T P.862.2) of 16 kHz signals, MOS-LQO; NaN where it finds no utterance, or far too many."""
    return _score(_pesq, reference, decoded, floor=1.0)


def _pesq(reference: NDArray[np.float64], decoded: NDArray[np.float64]) -> float:
    if len(reference) <= PESQ_SAFE_SAMPLES:
        from pesq import pesq

        return pesq(SAMPLE_RATE, reference, decoded, "wb")
    signals = np.stack([reference, decoded]).tobytes()
    apart = [sys.executable, "-P", "-c", PESQ_APART]
    return float(subprocess.run(apart, input=signals, capture_output=True, check=True).stdout)


def visqol_speech(reference: ArrayLike, decoded: ArrayLike) -> float:
    """ViSQOL v3 (Chinen et al., 2020) of 16 kHz signals by VISQOL_MODEL, MOS-LQO. Not safe in several threads."""
    return _score(
        lambda x, y: _visqol().measure_from_arrays(x, y, sample_rate=SAMPLE_RATE).moslqo, reference, decoded, floor=1.0
    )


@functools.cache
def _visqol() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=False)  # left out, it depends on which packages are installed
    return api


def _score(
    measure: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    reference: ArrayLike,
    decoded: ArrayLike,
    floor: float,
) -> float:
    """The measure; its floor where the decoded signal is silent, which must not count as missing; else NaN."""
    signals = [np.asarray(signal, dtype=np.float64) for signal in (reference, decoded)]
    if signals[0].shape != signals[1].shape or not all(np.isfinite(signal).all() for signal in signals):
        return float("nan")
    if not signals[0].any():
        return float("nan")
    try:
        score = float(measure(signals[0], signals[1] if signals[1].any() else signals[0]))
        return score if signals[1].any() or not math.isfinite(score) else floor
    except ImportError:
        raise
    except Exception:  # the libraries raise many kinds where a signal is too short or holds no speech
        return float("nan")


@contextmanager
def _fixed_noise() -> Iterator[None]:
    """The same noise each time: pystoi's ESTOI adds some from the global generator, heard where a signal is silent."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
