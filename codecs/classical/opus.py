"""Opus by libopus: restricted low delay (CELT alone) or speech (SILK and hybrid), constant or variable rate.

waveform -> libopus -> packets -> libopus at 48 kHz -> resampled

Constant rate: packets of one size, without lengths. Variable rate: each is preceded by its length in one or two bytes,
those of RFC 6716, section 3.2.1, and they count.
"""

from typing import Any, ClassVar, Literal, final

import numpy as np
import soxr

from .base import ClassicalCodec, Signal, TrackName, fitted
from .ffmpeg import decode_packets, encode_packets

RATE = 48_000  # Hz, of the decoder
NATIVE_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # Hz that the encoder takes
FRAMES_MS = (2.5, 5.0, 10.0, 20.0)
LOOKAHEAD = {"lowdelay": 120, "voip": 312}  # samples at 48 kHz, libopus' own: 2.5 and 6.5 ms
LAG = {"lowdelay": 120, "voip": 310}  # from 12 kbit/s on SILK is 2 to 3 samples faster than libopus says
LONG_PACKET = 252  # bytes from which on a length takes two


@final
class Opus(ClassicalCodec):
    """libopus by FFmpeg; packets of whole bytes put 2.5 ms frames on steps of 3.2 kbit/s, 5 ms frames on steps of 1.6.

    Args:
        bitrate: kbit/s.
        application: "lowdelay" (RESTRICTED_LOWDELAY: 2.5 ms on top of a frame) or "voip" (6.5 ms).
        frame_ms: 2.5, 5, 10 or 20.
        vbr: variable rate, which need not meet the one asked for.
        track: where it is scored; by default that of the codecs it runs with, else that of the data's waveforms.
    """

    paper = "RFC 6716 (Valin, Vos & Terriberry 2012)"
    bitrates: ClassVar[tuple[float, ...]] = (6.0, 64.0)
    between = True
    default_bitrate = 24.0
    presets: ClassVar[dict[str, dict[str, Any]]] = {  # named by their latency, the last by its frames
        "opus-5ms": {"application": "lowdelay", "frame_ms": 2.5},
        "opus-7.5ms": {"application": "lowdelay", "frame_ms": 5.0},
        "opus-20ms": {"application": "voip", "frame_ms": 20.0},
    }

    def __init__(
        self,
        bitrate: float | None = None,
        application: Literal["lowdelay", "voip"] = "lowdelay",
        frame_ms: float = 5.0,
        vbr: bool = False,
        track: TrackName | None = None,
    ) -> None:
        super().__init__(bitrate, track)
        if frame_ms not in FRAMES_MS:
            raise ValueError(f"frame_ms={frame_ms:g} is no length of its frames; write 2.5, 5, 10 or 20")
        self.application, self.frame_ms, self.vbr = application, frame_ms, vbr

    def encode(self, signal: Signal, rate: float) -> bytes:
        taken = round(rate) if rate in NATIVE_RATES else RATE
        options = {
            "application": self.application,
            "frame_duration": f"{self.frame_ms:g}",
            "vbr": "on" if self.vbr else "off",
        }
        waveform = signal if taken == rate else soxr.resample(signal, rate, taken, quality="HQ")
        packets = encode_packets("libopus", waveform.astype(np.float32), taken, self.bitrate, options)
        return b"".join(_length(packet) + packet for packet in packets) if self.vbr else b"".join(packets)

    def decode(self, payload: bytes, length: int, rate: float) -> Signal:
        packets = _delimited(payload) if self.vbr else self._equal(payload, length, rate)
        head = b"OpusHead\x01\x01" + LAG[self.application].to_bytes(2, "little") + RATE.to_bytes(4, "little")
        options = {"request_sample_fmt": "flt"}
        waveform = decode_packets("libopus", packets, RATE, options, head + b"\x00\x00\x00")
        return fitted(soxr.resample(waveform, RATE, rate, quality="HQ"), length)

    def latency_s(self, rate: float) -> float:
        return self.frame_ms / 1000 + LOOKAHEAD[self.application] / RATE

    def _equal(self, payload: bytes, length: int, rate: float) -> list[bytes]:
        """Packets of one size; how many there are follows from the length of the signal, in integers alone."""
        rate, frame = round(rate), round(self.frame_ms * RATE / 1000)
        count = max(1, -(-(length * RATE + LOOKAHEAD[self.application] * rate) // (rate * frame)))
        near = (number for number in (count, count - 1, count + 1) if number and len(payload) % number == 0)
        size = max(1, len(payload) // next(near, count))  # resampling may add a packet, or take one
        return [payload[begin : begin + size] for begin in range(0, len(payload), size)]


def _length(packet: bytes) -> bytes:
    """Of RFC 6716, section 3.2.1: one byte below 252, else two: 4 * second + first."""
    if len(packet) < LONG_PACKET:
        return bytes([len(packet)])
    first = LONG_PACKET + (len(packet) & 3)
    return bytes([first, (len(packet) - first) >> 2])


def _delimited(payload: bytes) -> list[bytes]:
    packets, place = [], 0
    while place < len(payload):
        size, place = payload[place], place + 1
        if size >= LONG_PACKET:
            size, place = size + 4 * payload[place], place + 1
        packets.append(payload[place : place + size])
        place += size
    return packets
