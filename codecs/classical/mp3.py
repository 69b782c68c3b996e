"""MP3 at constant rates by LAME: MPEG-1 layer III from 32 kHz on, MPEG-2 and 2.5 below.

The frames' own headers say where each begins; they are part of the payload.
"""

from typing import ClassVar, final

import numpy as np

from .base import ClassicalCodec, Signal, TrackName, fitted
from .ffmpeg import decode_packets, encode_packets, split_frames

LAG = 1105  # samples: 576 of LAME's encoder, 529 of every decoder
MPEG_1_FROM, MPEG_2_FROM = 32_000, 16_000  # Hz
MPEG_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # kbit/s
MPEG_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
MPEG_2_5_RATES = 8  # the first of these: up to 64 kbit/s


@final
class MP3(ClassicalCodec):
    """LAME through FFmpeg, at its own settings.

    Args:
        bitrate: kbit/s, of those that MPEG has at the sample rate of the data.
        track: where it is scored; by default that of the codecs it runs with, else that of the data's waveforms.
    """

    paper = "ISO/IEC 11172-3 (1993), 13818-3 (1995)"
    sample_rates = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
    bitrates: ClassVar[tuple[float, ...]] = tuple(float(rate) for rate in sorted({*MPEG_1, *MPEG_2}))
    default_bitrate = 32.0

    def __init__(self, bitrate: float | None = None, track: TrackName | None = None) -> None:
        super().__init__(bitrate, track)

    def check(self, rate: float) -> None:
        super().check(rate)
        there = MPEG_1 if rate >= MPEG_1_FROM else MPEG_2 if rate >= MPEG_2_FROM else MPEG_2[:MPEG_2_5_RATES]
        if self.bitrate not in there:
            raise ValueError(
                f"has no {self.bitrate:g} kbit/s at {rate:g} Hz; there it has {', '.join(map(str, there))}"
            )

    def encode(self, signal: Signal, rate: float) -> bytes:
        return b"".join(encode_packets("libmp3lame", signal.astype(np.float32), round(rate), self.bitrate))

    def decode(self, payload: bytes, length: int, rate: float) -> Signal:
        frames = split_frames("mp3float", payload)
        return fitted(decode_packets("mp3float", frames, round(rate)), length, LAG)

    def latency_s(self, rate: float) -> float:
        """Of a frame and the lag; the bit reservoir may add to it."""
        return ((1152 if rate >= MPEG_1_FROM else 576) + LAG) / rate
