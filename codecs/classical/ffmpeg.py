"""Codecs of FFmpeg through PyAV: packets of a mono waveform, and back. ValueError where PyAV or a codec is missing."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float, Int16

FULL_SCALE = 32768.0
Samples = Float[np.ndarray, " N"] | Int16[np.ndarray, " N"]


def sixteen_bit(waveform: Float[np.ndarray, " N"]) -> Int16[np.ndarray, " N"]:
    """As 16-bit integers; what exceeds full scale is clipped, as such codecs must."""
    return np.clip(np.round(waveform * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def encode_packets(
    name: str, samples: Samples, rate: int, kbps: float | None = None, options: Mapping[str, str] | None = None
) -> list[bytes]:
    """The packets that an encoder makes of samples in the type it takes: 16-bit integers or float32."""
    av = _av()
    encoder = _context(name, "w", rate, options)
    sample_format = "s16" if samples.dtype == np.int16 else "flt" if name == "libopus" else "fltp"
    encoder.format = sample_format
    encoder.time_base = Fraction(1, rate)
    if kbps is not None:
        encoder.bit_rate = round(1000 * kbps)
    encoder.open()
    packets, size = [], encoder.frame_size or len(samples)
    for begin in range(0, len(samples), size):
        frame = av.AudioFrame.from_ndarray(samples[None, begin : begin + size], sample_format, "mono")
        frame.sample_rate, frame.pts = rate, begin
        packets += encoder.encode(frame)
    return [bytes(packet) for packet in [*packets, *encoder.encode(None)]]


def decode_packets(
    name: str,
    packets: Iterable[bytes],
    rate: int,
    options: Mapping[str, str] | None = None,
    extradata: bytes | None = None,
) -> Float[np.ndarray, " N"]:
    """The float32 waveform that a decoder makes of packets."""
    av = _av()
    decoder = _context(name, "r", rate, options)
    if extradata is not None:
        decoder.extradata = extradata
    frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))]
    parts = [frame.to_ndarray()[0] for frame in [*frames, *decoder.decode(None)]]
    waveform = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return waveform.astype(np.float32) / (FULL_SCALE if waveform.dtype == np.int16 else 1)


def split_frames(name: str, data: bytes) -> list[bytes]:
    """The frames of a stream whose own headers say where each begins."""
    parser = _context(name, "r", None, None)
    return [bytes(packet) for packet in [*parser.parse(data), *parser.parse(None)]]


def _context(name: str, mode: str, rate: int | None, options: Mapping[str, str] | None) -> Any:
    try:
        context: Any = _av().CodecContext.create(name, mode)
    except ValueError as error:  # PyAV's UnknownCodecError is one
        raise ValueError(f"this build of PyAV has no {name}; install av from PyPI") from error
    context.options = dict(options or {})
    if rate is not None:
        context.sample_rate, context.layout = rate, "mono"
    return context


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ValueError("PyAV is missing; pip install av") from error
    return av
