"""Background noises: CCITT by its formula, and synthetic surrogates of restaurant (BFR), bus and office noise.

BFR     20 voices, circularly shifted, + clatter at -10 dB: bursts of 2 to 6 kHz, two a second, decaying in 30 ms
Bus     rumble, flat to 100 Hz and 6 dB an octave down from there, + engine at -6 dB: harmonics of 25 to 35 Hz
        that fall like 1/k, + white noise at -26 dB
Office  pink noise from 50 Hz on, + fan at -10 dB: 100, 200 and 300 Hz, + keys at -10 dB: clicks of 1 to 7 kHz, four a
        second, decaying in 5 ms, + far babble at -6 dB: 8 voices below 2 kHz

Levels are those of the parts, relative to the first. All noises are float64 of RMS 1. The recordings that Hinrichs,
Bilsky & Ostermann used are not public; what stands here in their place is our own.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from ..base import SAMPLE_RATE

FADE_SECONDS = 0.05  # where a recording is repeated
NUMERATOR = ((0, 18400.0), (1, 67280.0), (2, 91238.0), (3, 54050.0), (4, 11638.0))  # power of p, factor
DENOMINATOR = ((0, 400.0), (1, 36040.0), (2, 4001.0), (3, 130.0), (4, 1.0))

Voices = Sequence[np.ndarray]  # float32 [N] each


def synthetic_noise(name: str, length: int, generator: np.random.Generator, voices: Voices = ()) -> np.ndarray:
    """`length` samples at 16 kHz of one of SURROGATES; `voices` is needed for those in WITH_VOICES."""
    return _unit(SURROGATES[name](length, generator, voices))


def g227_loss(frequencies: np.ndarray) -> np.ndarray:
    """Insertion loss in dB of the weighting network of ITU-T G.227 (1988), at frequencies in Hz.

    (18400 + 91238 p^2 + 11638 p^4 + p (67280 + 54050 p^2)) / (400 + 4001 p^2 + p^4 + p (36040 + 130 p^2)), p = j f/kHz.
    """
    p = 1j * frequencies / 1000
    above, below = (sum(factor * p**power for power, factor in part) for part in (NUMERATOR, DENOMINATOR))
    return 20 * np.log10(np.abs(above / below))


def extended(recording: np.ndarray, length: int, start: int) -> np.ndarray:
    """`length` samples of a recording [N] from `start` on, repeated where it ends.

    Its last 50 ms fade into its first ones at equal power, so that no seam is heard.
    """
    overlap = min(round(FADE_SECONDS * SAMPLE_RATE), len(recording) // 2)
    ramp = np.sin(np.linspace(0, np.pi / 2, overlap))
    loop = recording[: len(recording) - overlap].astype(np.float64)
    loop[:overlap] = ramp * loop[:overlap] + ramp[::-1] * recording[len(recording) - overlap :]
    return _circular(loop, length, start)


def _ccitt(length: int, generator: np.random.Generator, voices: Voices) -> np.ndarray:
    return _shaped(generator.standard_normal(length), lambda f: 10 ** (-g227_loss(f) / 20))


def _restaurant(length: int, generator: np.random.Generator, voices: Voices) -> np.ndarray:
    clatter = _bursts(length, generator, per_second=2, decay=0.03, band=(2000, 6000))
    return _babble(length, generator, voices, 20) + _at(-10, clatter)


def _bus(length: int, generator: np.random.Generator, voices: Voices) -> np.ndarray:
    rumble = _shaped(generator.standard_normal(length), lambda f: 1 / np.maximum(f, 100))
    time = np.arange(length) / SAMPLE_RATE
    periods, phases = (
        generator.uniform(3, 9, 2),
        generator.uniform(0, 2 * np.pi, 2),
    )  # s, of how the engine's speed sways
    speed = 30 + 2.5 * np.sin(2 * np.pi * time / periods[:, None] + phases[:, None]).sum(axis=0)  # Hz
    turn = np.exp(2j * np.pi * np.cumsum(speed) / SAMPLE_RATE)
    engine, power = np.zeros(length), np.ones(length, complex)
    for harmonic, phase in enumerate(generator.uniform(0, 2 * np.pi, 20), 1):
        power = power * turn
        engine += (power * np.exp(1j * phase)).imag / harmonic
    return _unit(rumble) + _at(-6, engine) + _at(-26, generator.standard_normal(length))


def _office(length: int, generator: np.random.Generator, voices: Voices) -> np.ndarray:
    pink = _shaped(generator.standard_normal(length), lambda f: np.maximum(f, 50) ** -0.5)
    time = np.arange(length)[:, None] / SAMPLE_RATE
    fan = np.sin(2 * np.pi * np.array([100, 200, 300]) * time + generator.uniform(0, 2 * np.pi, 3)).sum(axis=1)
    keys = _bursts(length, generator, per_second=4, decay=0.005, band=(1000, 7000))
    far = _shaped(_babble(length, generator, voices, 8), lambda f: 1 / np.sqrt(1 + (f / 2000) ** 4))
    return _unit(pink) + _at(-10, fan) + _at(-10, keys) + _at(-6, far)


def _babble(length: int, generator: np.random.Generator, voices: Voices, talkers: int) -> np.ndarray:
    chosen = generator.permutation(np.resize(np.arange(len(voices)), max(talkers, len(voices))))[:talkers]
    together = np.zeros(length)
    for voice in (voices[index] for index in chosen):
        together += _circular(voice, length, int(generator.integers(len(voice))))
    return _unit(together)


def _bursts(
    length: int, generator: np.random.Generator, per_second: float, decay: float, band: tuple[float, float]
) -> np.ndarray:
    """Noise in a band of Hz whose bursts start at Poisson times and fall to 1/e in `decay` seconds; at least one."""
    sound = np.zeros(length)
    envelope = np.exp(-np.arange(round(7 * decay * SAMPLE_RATE)) / (decay * SAMPLE_RATE))
    for start in generator.integers(length, size=max(1, generator.poisson(per_second * length / SAMPLE_RATE))):
        burst = generator.uniform(0.3, 1) * envelope * generator.standard_normal(len(envelope))
        sound[start : start + len(burst)] += burst[: length - start]
    return _shaped(sound, lambda f: ((f >= band[0]) & (f <= band[1])).astype(float))


def _circular(sound: np.ndarray, length: int, start: int) -> np.ndarray:
    return np.take(sound, np.arange(start, start + length), mode="wrap")


def _shaped(sound: np.ndarray, magnitude: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Sound [N] with its spectrum multiplied by magnitude(Hz), without DC."""
    size = next_fast_len(len(sound), real=True)
    gain = magnitude(rfftfreq(size, 1 / SAMPLE_RATE))
    gain[0] = 0
    return np.asarray(irfft(np.asarray(rfft(sound, size)) * gain, size))[: len(sound)]


def _unit(sound: np.ndarray) -> np.ndarray:
    """Sound at an RMS of 1."""
    return sound / np.sqrt(np.mean(np.square(sound)))


def _at(level: float, sound: np.ndarray) -> np.ndarray:
    """Sound at an RMS of `level` dB."""
    return 10 ** (level / 20) * _unit(sound)


SURROGATES: dict[str, Callable[[int, np.random.Generator, Voices], np.ndarray]] = {
    "BFR": _restaurant, "Bus": _bus, "CCITT": _ccitt, "Office": _office,
}  # fmt: skip
WITH_VOICES = frozenset({"BFR", "Office"})
