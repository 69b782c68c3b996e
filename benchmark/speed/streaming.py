"""Codecs frame by frame against the whole file.

For every codec with a streamer(), untrained, around a scalar quantizer: encoding and decoding one position at a time,
and the same signal at once. Before anything is timed the codes are compared, which must be the same, and the signals,
which must be within 1e-5. A real-time factor is CPU time over the signal's duration: below 1 keeps up with a call. The
least of the rounds is printed, for what else runs on the machine only adds to it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...codecs.base import Codec
from ...datamodules.base import SAMPLE_RATE
from ...quantizers.base import Codes, Quantizer
from ...quantizers.noise_sq import NoiseSQ
from ..errors import UserError
from ..specs.registry import lookup
from .harness import SidesDifferError, Table, cuts, in_turn, within

CODECS = "stft,stft-small,seanet,seanet-small"
LIMIT = 1e-5  # of the difference of a sample
TIMES = {"position ms": 13, "frame by frame": 16, "whole file": 12, "ratio": 8}
COLUMNS = {"codec": 14, "difference": 12, **TIMES}


class Result(NamedTuple):
    """Codes and signal of one way to code."""

    codes: Codes
    signal: Tensor


def quantizer(channels: int, share: float) -> Quantizer:
    """Eight levels in each of ten projections of the latents."""
    return NoiseSQ(channels, levels=8, dims=min(10, channels))


def build(name: str, signal: Tensor) -> Any:
    """A codec fitted on the signal, in evaluation; UserError where it has no streamer."""
    cls, options = lookup("codecs", name)
    torch.manual_seed(0)
    codec: Codec = cls(quantizer, **options)
    if not hasattr(codec, "streamer"):
        raise UserError(f"{name} cannot be streamed; choose of {CODECS}")
    codec.fit(signal)
    return codec.eval()


def frame_by_frame(codec: Any, signal: Tensor) -> Result:
    """One position at a time through both ends of a call."""
    sender, receiver = codec.streamer(), codec.streamer()
    codes, pieces = [], []
    for piece in signal.split(codec.stride, 1):
        codes.append(sender.encode(piece))
        pieces.append(receiver.decode(codes[-1]))
    whole = torch.cat([*pieces, receiver.flush()], 1)
    return Result(torch.cat(codes, 2), whole[:, whole.shape[1] - signal.shape[1] :])


def at_once(codec: Any, signal: Tensor) -> Result:
    """The whole signal."""
    codes = codec.encode(signal)
    return Result(codes, codec.decode(codes, tuple(signal.shape[1:])))


def compare(codec: Any, signal: Tensor, limit: float = LIMIT) -> float:
    """The largest difference of a sample; SidesDifferError where it is above the limit or codes differ."""
    stream, whole, name = frame_by_frame(codec, signal), at_once(codec, signal), type(codec).__name__
    wrong = int((stream.codes != whole.codes).sum())
    if wrong:
        raise SidesDifferError(f"{name}: {wrong} codes of {whole.codes.numel()} differ between stream and whole file")
    return within(float((stream.signal - whole.signal).abs().max()), limit, f"{name}: samples differ")


def measure(codec: Sequence[str], seconds: float, rounds: int) -> None:
    """Print one line per codec."""
    speech, table = cuts(None, 1, seconds, "train"), Table(COLUMNS)
    for name in codec:
        built = build(name, speech)
        signal = speech[:, : speech.shape[1] // built.stride * built.stride]
        difference = compare(built, signal)
        sides = {way.__name__: partial(way, built, signal) for way in (frame_by_frame, at_once)}
        duration = signal.shape[1] / SAMPLE_RATE
        stream, whole = (min(spent) / duration for spent in in_turn(sides, rounds).values())
        position = 1000 * stream * built.stride / SAMPLE_RATE
        table.line(
            *(name, f"{difference:.1e}", f"{position:.2f}", f"{stream:.4f}", f"{whole:.4f}", f"{stream / whole:.1f}")
        )
