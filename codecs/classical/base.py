"""The contract of a codec with nothing to train: a signal to the bytes that a receiver needs, and back.

waveform "N" or stimulation pattern "22 T" -> encode -> payload -> decode -> the same shape, in time with the input

What is declared as data (domains, sample_rates, bitrates, between) is known before anything is coded.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, final

import numpy as np
from jaxtyping import Float

Signal = Float[np.ndarray, "*leading samples"]  # float32
TrackName = Literal["cochlear", "speech", "audio"]


class ClassicalCodec(ABC):
    """A baseline plug-in at one bitrate; `track` says where the benchmark scores it.

    ValueError, one line: a bitrate that the codec does not have, options that cannot be.
    """

    paper: ClassVar[str] = ""
    domains: ClassVar[tuple[str, ...]] = ("waveform",)  # what encode() takes: "waveform", "stimulation"
    sample_rates: ClassVar[tuple[int, ...]] = ()  # Hz of the waveforms it takes; (): any
    bitrates: ClassVar[tuple[float, ...]] = ()  # kbit/s it can be set to; (): the rate follows from signal and options
    between: ClassVar[bool] = False  # whether it also has every rate between the lowest and the highest of them
    default_bitrate: ClassVar[float | None] = None
    notes: ClassVar[tuple[str, ...]] = ()  # what every reader of its scores must know
    presets: ClassVar[dict[str, dict[str, Any]]] = {}  # further names: constructor options

    def __init__(self, bitrate: float | None = None, track: TrackName | None = None) -> None:
        self.bitrate, self.track = self.default_bitrate if bitrate is None else bitrate, track
        if not self.has(self.bitrate):
            raise ValueError(f"has no {self.bitrate:g} kbit/s; {self.offer()}")

    def check(self, rate: float) -> None:
        """ValueError where signals of `rate` samples per second cannot be coded here; asked before any is."""
        if self.sample_rates and rate not in self.sample_rates:
            there = ", ".join(map(str, self.sample_rates))
            raise ValueError(f"takes sound at {there} Hz, not at {rate:g} Hz; choose other data")

    @abstractmethod
    def encode(self, signal: Signal, rate: float) -> bytes:
        """All that decode() needs besides length, rate and this codec's options; `rate` is in samples per second."""

    @abstractmethod
    def decode(self, payload: bytes, length: int, rate: float) -> Signal:
        """`length` samples (along the last axis), the codec's own lag removed."""

    @abstractmethod
    def latency_s(self, rate: float) -> float:
        """Algorithmic latency in seconds: what the encoder collects before it codes, and the lag of both sides."""

    # -- final ------------------------------------------------------------------------------------------------------

    @classmethod
    @final
    def has(cls, bitrate: float | None) -> bool:
        """Whether there is such a bitrate; None belongs to codecs that have none to choose."""
        if bitrate is None or not cls.bitrates:
            return bitrate is None and not cls.bitrates
        return bitrate in cls.bitrates or (cls.between and cls.bitrates[0] <= bitrate <= cls.bitrates[-1])

    @classmethod
    @final
    def offer(cls) -> str:
        """The bitrates that there are, in words."""
        if not cls.bitrates:
            return "its rate follows from the signal and its options; leave --bitrate out"
        if cls.between:
            return f"it has every one from {cls.bitrates[0]:g} to {cls.bitrates[-1]:g} kbit/s"
        return f"it has {', '.join(f'{rate:g}' for rate in cls.bitrates)} kbit/s"


def fitted(
    signal: Float[np.ndarray, "*leading decoded"], length: int, lag: int = 0
) -> Float[np.ndarray, "*leading {length}"]:
    """`length` samples of a decoded signal from its sample `lag` on, zeros where it has ended."""
    kept = signal[..., lag : lag + length]
    return np.pad(kept, [(0, 0)] * (kept.ndim - 1) + [(0, length - kept.shape[-1])]).astype(np.float32)
