"""The conditions of scenes: Table I of Hinrichs, Bilsky & Ostermann, and one item's share of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..base import Split
from ..errors import DataError
from .room import ROOMS

SCENARIOS = ("Anechoic", *ROOMS)
NOISES = ("BFR", "Bus", "CCITT", "Office")
LIMITS = {"snrs": 100.0, "azimuths": 180.0}  # dB; degrees
QUIET = "; without noise take the speech corpus itself, or 100"


class Lists(NamedTuple):
    """What scenes are drawn from."""

    snrs: Sequence[float]  # dB
    noises: Sequence[str]
    scenarios: Sequence[str]
    azimuths: Sequence[float]  # degrees, of speech and of noise; negative to the left


class Scene(NamedTuple):
    """What one item is heard in: SNR in dB, azimuths in degrees."""

    snr_db: float
    noise: str
    scenario: str
    speech_azimuth: float
    noise_azimuth: float


TRAIN = Lists((-5, 0, 5, 10, 15, 20, 30, 50), NOISES, ("Anechoic", "Office"), range(-90, 91, 15))
TEST = Lists((-2.5, 0, 2.5, 5, 7.5, 10, 20, 40), NOISES, ("Anechoic", "Office", "Cafeteria"), range(-90, 91, 5))
TABLE: dict[Split, Lists] = {"train": TRAIN, "validation": TRAIN, "test": TEST}


def draw(lists: Lists, generator: np.random.Generator) -> Scene:
    """One scene: each condition from one number of its own, so that it stays where another list is changed."""
    fields = (lists.snrs, lists.noises, lists.scenarios, lists.azimuths, lists.azimuths)
    drawn = [options[int(u * len(options))] for options, u in zip(fields, generator.random(5), strict=True)]
    return Scene(float(drawn[0]), str(drawn[1]), str(drawn[2]), float(drawn[3]), float(drawn[4]))


def check_numbers(option: str, numbers: Sequence[float] | None) -> None:
    """DataError where a list is empty, or a number too large, infinite or none at all."""
    limit = LIMITS[option]
    wrong = [number for number in numbers or () if not abs(number) <= limit]
    if wrong or (numbers is not None and not numbers):
        got = f"{wrong[0]:g} in {option}" if wrong else f"{option} is empty"
        raise DataError(f"{got}: write numbers from {-limit:g} to {limit:g}{QUIET if option == 'snrs' else ''}")


def check_names(option: str, names: Sequence[str] | None, known: Sequence[str]) -> None:
    """DataError where a list is empty or holds what is not known."""
    wrong = [name for name in names or () if name not in known]
    if wrong or (names is not None and not names):
        got = f"{wrong[0]!r} in {option}" if wrong else f"{option} is empty"
        raise DataError(f"{got}: there are {', '.join(known)}")
