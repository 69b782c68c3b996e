"""The 2f-model: quality of audio as listeners grade it in MUSHRA tests, from two output variables of PEAQ.

    MMS = 56.1345 / (1 + (-0.0282 AvgModDiff1 - 0.8628)^2) - 27.1451 ADB + 86.3515, within 0 ... 100

Sources: Kastner and Herre, 2019 (An Efficient Model for Estimating Subjective Quality of Separated Audio Source
Signals), with the constants of their published software; ADB and AvgModDiff1 as in Kabal, 2002. The variables were made
with PQevalAudio v1r0; this implementation follows its description and was not compared with a run of it.
"""

import numpy as np
import soxr
import torch

from .hearing.peaq_ear import (
    BANDS,
    FRAME,
    HOP,
    INTERNAL_NOISE,
    LOUDNESS,
    RATE,
    Array,
    Modulation,
    excite,
    modulate,
    smear,
)
from .waveform import Scores, Waveforms, scored

SETTLING = 24  # frames from the start of a signal: half a second, in which modulation is not compared
LOUDEST = 4.0  # amplitude at which signals are clipped: where bands near 120 dB, spreading has no meaning
AUDIBLE = 200 / 32768  # sum of 5 magnitudes in a row, where a signal begins and ends
SENSITIVITY = (-0.198719, 0.0550197, -0.00102438, 5.05622e-6, 9.01033e-11)  # polynomial of the level in dB


def two_f_model(reference: Waveforms, decoded: Waveforms, rate: int) -> Scores:
    """Mean MUSHRA score of each item, 0 ... 100, at 48 kHz: other rates are resampled by soxr HQ.

    Depends on level: 0 dBFS is taken as 92 dB SPL. NaN where the reference has no 5 samples in a row above -58 dBFS on
    average, or ends within the first half second; else NaN and ValueError as for the measures of waveform.py.
    """

    def measure(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        items = zip(*(each.detach().cpu().numpy().clip(-LOUDEST, LOUDEST) for each in (x, y)), strict=True)
        return x.new_tensor(
            [_score(*(soxr.resample(each, rate, RATE, quality="HQ") for each in pair)) for pair in items]
        )

    return scored(measure, reference, decoded)


def mean_mushra_score(modulation_difference: float, distorted_blocks: float) -> float:
    """The formula above, of AvgModDiff1 and ADB, before it is limited to 0 ... 100."""
    return 56.1345 / (1 + (-0.0282 * modulation_difference - 0.8628) ** 2) - 27.1451 * distorted_blocks + 86.3515


def _score(reference: Array, decoded: Array) -> float:
    first, last = audible_frames(reference)
    settled = max(SETTLING - first, 0)
    if last - first <= settled:
        return float("nan")
    x, y = (excite(_frames(signal, first, last)) for signal in (reference, decoded))
    difference = average_modulation_difference(modulate(x), modulate(y), settled)
    return min(max(mean_mushra_score(difference, average_distorted_block(smear(x), smear(y))), 0.0), 100.0)


def audible_frames(signal: Array) -> tuple[int, int]:
    """First frame with signal and the one after the last; (0, 0) without any."""
    sums = np.convolve(np.append(np.abs(signal), 0.0), np.ones(5))[4:-1]  # from each sample on, zeros beyond the end
    loud = np.flatnonzero(sums >= AUDIBLE)
    return (int(loud[0]) // HOP, min(int(loud[-1]) + 4, len(signal) - 1) // HOP + 1) if len(loud) else (0, 0)


def _frames(signal: Array, first: int, last: int) -> Array:
    padded = np.pad(signal, (0, FRAME))
    return np.lib.stride_tricks.sliding_window_view(padded, FRAME)[first * HOP : last * HOP : HOP]


def average_modulation_difference(reference: Modulation, decoded: Modulation, settled: int) -> float:
    """AvgModDiff1 in percent: weighted mean over the frames from `settled` on."""
    differences = np.abs(reference.depth - decoded.depth) / (1 + reference.depth)
    weights = reference.loudness / (reference.loudness + 100 * INTERNAL_NOISE**LOUDNESS)
    return float(np.average(100 / BANDS * differences.sum(1)[settled:], weights=weights.sum(1)[settled:]))


def average_distorted_block(reference: Array, decoded: Array) -> float:
    """ADB of smeared excitations "T 109": log10 of the steps above threshold per audibly distorted frame."""
    levels, decoded_levels = 10 * np.log10(reference), 10 * np.log10(decoded)
    error = levels - decoded_levels
    louder = np.where(error > 0, 0.3 * levels + 0.7 * decoded_levels, decoded_levels)
    steps = np.abs(error) / _threshold(louder)
    unheard = 0.5 ** (steps ** np.where(error > 0, 4, 6))  # probability, of each band
    distorted = 1 - unheard.prod(1) > 0.5
    if not distorted.any():
        return 0.0
    total = (np.trunc(np.abs(error)) / _threshold(louder))[distorted].sum()
    return float(np.log10(total / distorted.sum())) if total > 0 else -0.5


def _threshold(level: Array) -> Array:
    """The smallest difference in dB that is heard at a level in dB."""
    positive = np.where(level > 0, level, 1.0)
    steps = 5.95072 * (6.39468 / positive) ** 1.71332 + np.polynomial.Polynomial(SENSITIVITY)(positive)
    return np.where(level > 0, steps, 1e30)
