"""No coding: the stimulation pattern as float32, or the waveform as 16-bit PCM; what every codec aims at."""

from typing import final

import numpy as np

from .base import ClassicalCodec, Signal, TrackName, fitted
from .ffmpeg import FULL_SCALE, sixteen_bit


@final
class Uncoded(ClassicalCodec):
    """What no coding costs and scores.

    Args:
        track: where it is scored; by default that of the codecs it runs with, else that of the data's waveforms.
    """

    domains = ("waveform", "stimulation")

    def __init__(self, bitrate: float | None = None, track: TrackName | None = None) -> None:
        super().__init__(bitrate, track)

    def encode(self, signal: Signal, rate: float) -> bytes:
        samples = sixteen_bit(signal).astype("<i2") if signal.ndim == 1 else signal.T.astype("<f4")
        return samples.tobytes()

    def decode(self, payload: bytes, length: int, rate: float) -> Signal:
        if self.track == "cochlear":
            frames = np.frombuffer(payload, "<f4").reshape(length, -1)
            return np.ascontiguousarray(frames.T)
        return fitted(np.frombuffer(payload, "<i2") / FULL_SCALE, length)

    def latency_s(self, rate: float) -> float:
        return 0.0
