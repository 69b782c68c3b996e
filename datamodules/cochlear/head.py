"""The left ear of a listener: head-related impulse responses by azimuth, of a sphere by default.

Azimuths are in degrees as Kayser et al. count them: 0 in front, -90 to the LEFT, 90 to the right, +-180 behind.
"""

from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from typing import final

import numpy as np
from scipy.special import eval_legendre, spherical_jn, spherical_yn

from ..base import SAMPLE_RATE, resample

RADIUS, SOUND = 0.0875, 343.0  # m, m/s
DISTANCE = 0.8  # m, of all sources: Hinrichs, Bilsky & Ostermann, section II-B
EAR = -100.0  # degrees of the left ear, where a device behind the ear sits
TAPS, BULK = 256, 64  # samples: 16 ms, of which 4 ms before the sound would reach the centre of the head
TERMS = 60  # orders of the series; enough for 16 kHz at any distance from 0.2 m on
LOWEST = 20.0  # Hz; below it the response is what it is there
TAPER = 7500.0  # Hz; from here to 8 kHz it fades like half a cosine, so that it rings for 2 ms instead of 16


class Head(ABC):
    """Where sound from every side arrives at the left ear."""

    @abstractmethod
    def response(self, azimuth: float) -> np.ndarray:
        """Impulse response [N] at 16 kHz of a source without a room; DataError where that side was not measured."""

    @abstractmethod
    def note(self) -> str:
        """What this head is, a sentence for readers of the scores."""

    def in_room(self, scenario: str, azimuth: float) -> np.ndarray | None:
        """Impulse response [N] measured in a room; None where that room is to be simulated around response()."""
        return None

    def files(self) -> list[Path]:
        """The files all this follows from."""
        return []


@final
class SphericalHead(Head):
    """A rigid sphere of 17.5 cm without pinna or torso, ears at +-100 degrees, source at 80 cm."""

    def response(self, azimuth: float) -> np.ndarray:
        """float64 [256]; sound would reach the centre of the absent head at sample 64 with amplitude 1."""
        return _impulse_response(wrapped(azimuth))

    def note(self) -> str:
        """That neither head nor rooms were measured."""
        return "the head is a spherical-head model (Duda & Martens 1998), its rooms are simulated by image sources"


def wrapped(azimuth: float) -> float:
    """The azimuth within -180 (not included) and 180 degrees."""
    return 180 - (180 - azimuth) % 360


def at_16_khz(response: np.ndarray, rate: int) -> np.ndarray:
    """A measured impulse response [N] at 16 kHz at the same gain, 1 ms later: resampling rings ahead."""
    return resample(np.pad(response, (rate // 1000, 0)), rate, SAMPLE_RATE) * (rate / SAMPLE_RATE)


def sphere_response(frequencies: np.ndarray, angle: float, distance: float = DISTANCE) -> np.ndarray:
    """Pressure on a rigid sphere over that at its centre without it: complex [F] at frequencies in Hz above 0.

    `angle` in degrees between the source, `distance` m from the centre, and the point. exp(j omega t) convention.
    Duda & Martens, Range dependence of the response of a spherical head model, JASA 104(5), 1998, equations 1 to 4,
    here with spherical Hankel functions of the second kind.
    """
    weights = _weights(tuple(frequencies.tolist()), distance)
    return eval_legendre(np.arange(TERMS), np.cos(np.radians(angle))) @ weights


@cache
def _weights(frequencies: tuple[float, ...], distance: float) -> np.ndarray:
    """What the Legendre polynomials are multiplied by: complex [TERMS, F]."""
    mu = 2 * np.pi * np.array(frequencies) * RADIUS / SOUND
    rho = distance / RADIUS
    order = np.arange(TERMS)[:, None]
    far = spherical_jn(order, mu * rho) - 1j * spherical_yn(order, mu * rho)
    slope = spherical_jn(order, mu, derivative=True) - 1j * spherical_yn(order, mu, derivative=True)
    return -(rho / mu) * np.exp(1j * mu * rho) * (2 * order + 1) * far / slope


@cache
def _impulse_response(azimuth: float) -> np.ndarray:
    frequencies = np.fft.rfftfreq(TAPS, 1 / SAMPLE_RATE)
    spectrum = sphere_response(np.maximum(frequencies, LOWEST), azimuth - EAR)
    spectrum[0] = abs(spectrum[0])
    spectrum *= (1 + np.cos(np.pi * np.clip((frequencies - TAPER) / (SAMPLE_RATE / 2 - TAPER), 0, 1))) / 2
    impulse = np.fft.irfft(spectrum * np.exp(-2j * np.pi * frequencies * BULK / SAMPLE_RATE), TAPS)
    impulse.flags.writeable = False  # it is handed out again
    return impulse
