"""Rooms around a head: image sources in a shoebox, every image heard from the side where it lies.

source -> direct path through the head, and images: |order| reflections, 1/distance, delay, azimuth -> the same head

Office and Cafeteria stand for the office I and the cafeteria of Kayser et al. (2009), whose reverberation times of
0.3 s and 1.25 s they share; sizes, places and materials are ours. Elevations and what the air absorbs are left out.
"""

from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from ..base import SAMPLE_RATE
from .head import DISTANCE, SOUND, Head, wrapped

STEP = 10  # degrees
SIDES = [wrapped(side) for side in range(0, 360, STEP)]  # from which images are heard
JITTER = 0.08  # m by which images are moved at random, De Sena et al. 2015: a perfect lattice would chirp


class Room(NamedTuple):
    """A shoebox, a head in it, and what all its walls reflect."""

    size: tuple[float, float, float]  # m
    head: tuple[float, float, float]  # m from one corner: the centre of the head
    facing: float  # degrees clockwise from the first axis
    rt60: float  # s, by Schroeder integration from -5 to -35 dB
    reflection: float  # of the pressure, chosen for rt60


ROOMS = {
    "Office": Room((5.2, 3.6, 2.8), (2.3, 1.6, 1.25), 25.0, 0.3, 0.826),
    "Cafeteria": Room((16.0, 11.0, 3.6), (6.1, 4.7, 1.25), 25.0, 1.25, 0.882),
}


def room_response(head: Head, room: Room, azimuth: float) -> np.ndarray:
    """Impulse response [N] at 16 kHz from a source at 80 cm to the left ear, until the room has decayed by 60 dB.

    Allen & Berkley, Image method for efficiently simulating small-room acoustics, JASA 65(4), 1979, with walls that
    invert (Lehmann & Johansson 2008), so that nothing builds up at the lowest frequencies.
    """
    direct = head.response(azimuth)
    length = round(room.rt60 * SAMPLE_RATE)
    trains = _image_trains(room, azimuth, length)
    responses = [head.response(side) for side in SIDES]
    longest = max(len(response) for response in (direct, *responses))
    size = next_fast_len(length + longest, real=True)
    filters = np.stack([np.pad(response, (0, longest - len(response))) for response in responses])
    heard = np.asarray(irfft((np.asarray(rfft(trains, size)) * rfft(filters, size)).sum(axis=0), size))
    heard[: len(direct)] += direct
    return heard[:length]


def _image_trains(room: Room, azimuth: float, length: int) -> np.ndarray:
    """Impulses of all images but the source itself, by the side they come from: [sides, length].

    Delays count from the direct path, amplitudes are relative to it.
    """
    bearing = np.radians(room.facing + azimuth)
    source = np.array(room.head) + DISTANCE * np.array([np.cos(bearing), np.sin(bearing), 0.0])
    reach = DISTANCE + length / SAMPLE_RATE * SOUND
    (x, a), (y, b), (z, c) = (_along(*axis, reach) for axis in zip(room.size, source, room.head, strict=True))
    orders = (a[:, None, None] + b[:, None] + c).ravel()
    distances = np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + z**2).ravel()
    sides = np.degrees(np.arctan2(y, x[:, None])) - room.facing
    sides = np.broadcast_to(sides[:, :, None], (len(x), len(y), len(z))).ravel()
    shaken = distances + np.random.default_rng(0).uniform(-JITTER, JITTER, len(distances))
    delays = np.rint((shaken - DISTANCE) / SOUND * SAMPLE_RATE).astype(int)
    kept = (orders > 0) & (delays > 0) & (delays < length)
    orders, delays, distances, sides = orders[kept], delays[kept], distances[kept], sides[kept]
    gains = (-room.reflection) ** orders * DISTANCE / distances
    bins = np.rint(sides / STEP).astype(int) % len(SIDES)
    trains = np.bincount(bins * length + delays, gains, minlength=len(SIDES) * length)
    return trains.reshape(-1, length)


def _along(size: float, source: float, head: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """One axis: where the images of a source lie as seen from the head, and how many reflections lead there."""
    index = np.arange(-int(reach / size) - 1, int(reach / size) + 2)
    places = index * size + np.where(index % 2, size - source, source)
    return places - head, np.abs(index)


def reverberation_time(response: np.ndarray) -> float:
    """Seconds to decay by 60 dB, from the line through -5 to -35 dB of the backward integral (Schroeder 1965)."""
    decay = 10 * np.log10(np.cumsum(np.square(response)[::-1])[::-1] / np.square(response).sum() + 1e-12)
    fitted = np.flatnonzero((decay <= -5) & (decay >= -35))
    return -60 / float(np.polyfit(fitted / SAMPLE_RATE, decay[fitted], 1)[0])
