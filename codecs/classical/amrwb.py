"""AMR-WB (G.722.2): ACELP of 20 ms frames at nine rates; the encoder is a library that the user installs.

waveform -> libvo-amrwbenc -> 132 to 477 bits a frame -> FFmpeg's decoder, with the type of frame put back in front

No Python package holds an encoder. libvo-amrwbenc (Debian and Ubuntu: libvo-amrwbenc0; Homebrew: vo-amrwbenc) is looked
for where the system keeps its libraries, or at the path in CODECBENCH_AMRWB.
"""

import ctypes
import ctypes.util
import os
from functools import cache
from typing import Any, ClassVar, final

import numpy as np

from .base import ClassicalCodec, Signal, TrackName, fitted
from .ffmpeg import decode_packets, sixteen_bit

RATE = 16_000
FRAME, LAG = 320, 95  # samples; the lag: 5 ms look-ahead and 0.94 ms of the two resamplers
BITS = (132, 177, 253, 285, 317, 365, 397, 461, 477)  # of a frame, by mode
LONGEST = 64  # bytes that the library may write for a frame
VARIABLE = "CODECBENCH_AMRWB"


@final
class AMRWB(ClassicalCodec):
    """ACELP without discontinuous transmission, so that the mode says the length of every frame.

    Args:
        bitrate: 6.6, 8.85, 12.65, 14.25, 15.85, 18.25, 19.85, 23.05 or 23.85 kbit/s.
        track: where it is scored; by default that of the codecs it runs with, else that of the data's waveforms.
    """

    paper = "3GPP TS 26.190, ITU-T G.722.2 (2002)"
    sample_rates = (RATE,)
    bitrates: ClassVar[tuple[float, ...]] = (6.6, 8.85, 12.65, 14.25, 15.85, 18.25, 19.85, 23.05, 23.85)
    default_bitrate = 12.65

    def __init__(self, bitrate: float | None = None, track: TrackName | None = None) -> None:
        super().__init__(bitrate, track)
        self.mode = self.bitrates.index(self.bitrate or 0)

    def check(self, rate: float) -> None:
        super().check(rate)
        _library(os.environ.get(VARIABLE))

    def encode(self, signal: Signal, rate: float) -> bytes:
        padded = np.pad(sixteen_bit(signal), (0, LAG + -(LAG + len(signal)) % FRAME))
        return pack(_encoded(padded.reshape(-1, FRAME), self.mode), self.mode)

    def decode(self, payload: bytes, length: int, rate: float) -> Signal:
        return fitted(decode_packets("amrwb", unpack(payload, self.mode), RATE), length, LAG)

    def latency_s(self, rate: float) -> float:
        return (FRAME + LAG) / RATE


def pack(packets: list[bytes], mode: int) -> bytes:
    """Packets of the storage format (a byte of type, then bits padded to bytes) as bits without gaps."""
    frames = np.frombuffer(b"".join(packet[1:] for packet in packets), np.uint8).reshape(len(packets), -1)
    return np.packbits(np.unpackbits(frames, axis=1)[:, : BITS[mode]]).tobytes()


def unpack(payload: bytes, mode: int) -> list[bytes]:
    """The inverse of pack()."""
    bits = np.unpackbits(np.frombuffer(payload, np.uint8))
    frames = np.packbits(bits[: len(bits) // BITS[mode] * BITS[mode]].reshape(-1, BITS[mode]), axis=1)
    kind = bytes([mode << 3 | 4])  # 4: a frame of good quality
    return [kind + frame.tobytes() for frame in frames]


def _encoded(frames: np.ndarray, mode: int) -> list[bytes]:
    library, packets = _library(os.environ.get(VARIABLE)), []
    state, buffer = library.E_IF_init(), ctypes.create_string_buffer(LONGEST)
    try:
        for frame in np.ascontiguousarray(frames):
            size = library.E_IF_encode(state, mode, frame.ctypes.data, buffer, 0)
            packets.append(buffer.raw[:size])
    finally:
        library.E_IF_exit(state)
    return packets


@cache
def _library(path: str | None) -> Any:
    library_name = path or ctypes.util.find_library("vo-amrwbenc")
    if library_name is None:
        raise ValueError(
            f"needs the library libvo-amrwbenc (Debian, Ubuntu: apt install libvo-amrwbenc0); "
            f"install it, or set {VARIABLE} to its path"
        )
    try:
        library = ctypes.CDLL(library_name)
        library.E_IF_init.restype = ctypes.c_void_p
        state, number, place = ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
        library.E_IF_encode.argtypes = [state, number, place, ctypes.c_char_p, number]
        library.E_IF_exit.argtypes = [state]
    except (OSError, AttributeError) as error:
        raise ValueError(f"{library_name} is no libvo-amrwbenc ({error}); set {VARIABLE} to its path") from error
    return library
