"""G.722 at 64, 56 and 48 kbit/s: sub-band ADPCM of 16 kHz speech, a codeword for every two samples.

At 56 and 48 kbit/s the lowest one or two bits of the lower band's codewords are left out of the payload.
"""

from typing import ClassVar, final

import numpy as np

from .base import ClassicalCodec, Signal, TrackName, fitted
from .ffmpeg import decode_packets, encode_packets, sixteen_bit

RATE = 16_000
SAMPLES = 2  # of a codeword
LAG = 22  # samples, of the two quadrature mirror filters


@final
class G722(ClassicalCodec):
    """Sub-band ADPCM.

    Args:
        bitrate: 48, 56 or 64 kbit/s.
        track: where it is scored; by default that of the codecs it runs with, else that of the data's waveforms.
    """

    paper = "ITU-T G.722 (1988)"
    sample_rates = (RATE,)
    bitrates: ClassVar[tuple[float, ...]] = (48.0, 56.0, 64.0)
    default_bitrate = 64.0

    def __init__(self, bitrate: float | None = None, track: TrackName | None = None) -> None:
        super().__init__(bitrate, track)
        self.bits = round((self.bitrate or 0) / 8)  # of a codeword

    def encode(self, signal: Signal, rate: float) -> bytes:
        samples = np.pad(sixteen_bit(signal), (0, LAG + (LAG + len(signal)) % SAMPLES))
        codewords = np.frombuffer(b"".join(encode_packets("g722", samples, RATE)), np.uint8)
        return np.packbits(np.unpackbits(codewords[:, None], axis=1)[:, : self.bits]).tobytes()

    def decode(self, payload: bytes, length: int, rate: float) -> Signal:
        bits = np.unpackbits(np.frombuffer(payload, np.uint8))
        if len(bits) < self.bits * (length // SAMPLES):
            raise ValueError(f"{len(payload)} bytes are too few for {length} samples")
        kept = bits[: len(bits) // self.bits * self.bits].reshape(-1, self.bits)
        codewords = np.packbits(np.pad(kept, [(0, 0), (0, 8 - self.bits)]), axis=1)
        packets = [codewords.tobytes()]
        return fitted(decode_packets("g722", packets, RATE, {"bits_per_codeword": str(self.bits)}), length, LAG)

    def latency_s(self, rate: float) -> float:
        return (LAG + SAMPLES) / RATE
