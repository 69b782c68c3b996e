"""The peripheral ear of PEAQ's basic version: what of a signal excites the ear, 109 bands of 1/4 Bark in each frame.

signal "N" at 48 kHz -> frames of 2048, Hann -> power spectra -> outer ear -> 109 bands + internal noise
    -> spreading over frequency "T 109" -> smearing over time (excitation) | modulation of the loudness

Source: ITU-R BS.1387 as Kabal (2002, An Examination and Interpretation of ITU-R BS.1387) reads it. 0 dBFS is played at
92 dB SPL. The frames advance by 1024 samples, zeros beyond the end.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RATE = 48_000  # Hz
FRAME, HOP = 2048, 1024  # samples
FRAME_RATE = RATE / HOP  # Hz
LEVEL = 92.0  # dB SPL of a full-scale sine of LEVEL_FREQUENCY
LEVEL_FREQUENCY = 1019.5  # Hz
LOWEST, HIGHEST = 80.0, 18_000.0  # Hz
STEP = 0.25  # Bark
SPREADING = 0.4  # exponent in which spread energies add up
LOUDNESS = 0.3  # exponent of modulated loudness
FASTEST = 0.008  # s, the time constant of the highest bands
SMEARING, MODULATION = 0.030, 0.050  # s, time constants at 100 Hz
LEAST = 1e-12  # energy of a band


class Modulation(NamedTuple):
    """How loudness moves, "T 109" each."""

    depth: Array
    loudness: Array  # smoothed


def _edges() -> Array:
    lowest, highest = (7 * math.asinh(f / 650) for f in (LOWEST, HIGHEST))
    barks = np.append(np.arange(lowest, highest, STEP), highest)
    return np.stack([barks[:-1], (barks[:-1] + barks[1:]) / 2, barks[1:]])


EDGES = 650 * np.sinh(_edges() / 7)  # Hz: lower end, centre, upper end of every band
CENTRES = EDGES[1]
BANDS = len(CENTRES)
INTERNAL_NOISE = 10 ** (0.1456 * (CENTRES / 1000) ** -0.8)


def _grouping() -> Array:
    """Shares of the bins in each band, "1025 109"; each bin is as wide as their distance."""
    bins = np.arange(FRAME // 2 + 1)[:, None] * RATE / FRAME
    upper = np.minimum(bins + RATE / FRAME / 2, EDGES[2])
    lower = np.maximum(bins - RATE / FRAME / 2, EDGES[0])
    return np.maximum(upper - lower, 0) / (RATE / FRAME)


def _outer_ear() -> Array:
    """Factor of every bin's power."""
    f = np.arange(1, FRAME // 2 + 1) * RATE / FRAME / 1000
    decibels = -2.184 * f**-0.8 + 6.5 * np.exp(-0.6 * (f - 3.3) ** 2) - 0.001 * f**3.6
    return np.append(0.0, 10 ** (decibels / 10))


def _window() -> Array:
    """Hann, scaled so that a sine of LEVEL_FREQUENCY and amplitude 1 has LEVEL in its loudest bin."""
    place = LEVEL_FREQUENCY / RATE * FRAME
    offset = min(place % 1, 1 - place % 1) * (FRAME - 1) / FRAME
    peak = math.sin(math.pi * offset) / (math.pi * offset * (1 - offset**2))
    return np.hanning(FRAME) * 10 ** (LEVEL / 20) / (peak * (FRAME - 1) / 4)


WINDOW, TO_BANDS = _window(), _outer_ear()[:, None] * _grouping()


def excite(frames: Array) -> Array:
    """Frames "T 2048", full scale being 1 -> energies "T 109", internal noise added, spread over frequency."""
    energies = np.abs(np.fft.rfft(frames * WINDOW)) ** 2 @ TO_BANDS
    return _spread(np.maximum(energies, LEAST) + INTERNAL_NOISE) / _spread(np.ones((1, BANDS)))


def _spread(energies: Array) -> Array:
    """Each band's energy over its neighbours: 27 dB per Bark downwards, upwards less the louder it is."""
    down = 10 ** (-2.7 * STEP)
    up = 10 ** ((-2.4 - 23 / CENTRES) * STEP) * energies ** (0.2 * STEP)
    band = np.arange(BANDS)
    total = (1 - down ** (band + 1)) / (1 - down) + (1 - up ** (BANDS - band)) / (1 - up) - 1
    falling = rising = (energies / total) ** SPREADING
    down, up = down**SPREADING, up**SPREADING
    spread = falling.copy()
    for distance in range(1, BANDS):
        falling, rising = falling[:, 1:] * down, rising[:, :-1] * up[:, : BANDS - distance]
        spread[:, :-distance] += falling
        spread[:, distance:] += rising
    return spread ** (1 / SPREADING)


def smear(excitation: Array) -> Array:
    """Forward masking: each band decays no faster than its time constant."""
    return np.maximum(_smooth(excitation, SMEARING), excitation)


def modulate(excitation: Array) -> Modulation:
    """Modulation of the loudness of every band, relative to its smoothed loudness."""
    loudness = excitation**LOUDNESS
    change = FRAME_RATE * np.abs(np.diff(loudness, axis=0, prepend=0.0))
    smoothed = _smooth(loudness, MODULATION)
    return Modulation(_smooth(change, MODULATION) / (1 + smoothed / 0.3), smoothed)


def _smooth(values: Array, at_100_hz: float) -> Array:
    """First-order low-pass over the frames, from rest, by each band's time constant."""
    seconds = FASTEST + 100 / CENTRES * (at_100_hz - FASTEST)
    kept = np.exp(-1 / (FRAME_RATE * seconds))
    state, smoothed = np.zeros(BANDS), np.empty_like(values)
    for frame, value in enumerate((1 - kept) * values):
        state = smoothed[frame] = kept * state + value
    return smoothed
