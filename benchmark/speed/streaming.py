"""Codecs frame by frame against the whole file, on one thread: `python -m codecbench.benchmark.streaming_speed`.

For every codec with a streamer(), untrained, around a scalar quantizer: encoding and decoding one position at a time,
and the same signal at once. Before anything is timed the codes are compared, which must be the same, and the signals,
which must be within 1e-5. A real-time factor is CPU time over the signal's duration: below 1 keeps up with a call. The
least of the rounds is printed, for what else runs on the machine only adds to it.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...codecs.base import Codec
from ...datamodules.base import SAMPLE_RATE
from ...datamodules.demo import Demo
from ...quantizers.base import Codes, Quantizer
from ...quantizers.noise_sq import NoiseSQ
from ..specs.registry import lookup

CODECS = "stft,stft-small,seanet,seanet-small"
LIMIT = 1e-5  # of the difference of a sample
HEADER = ["codec", "difference", "position ms", "frame by frame", "whole file", "ratio"]
WIDTHS = [14, 12, 13, 16, 12, 8]


class Result(NamedTuple):
    """Codes and signal of one way to code."""

    codes: Codes
    signal: Tensor


def quantizer(channels: int, share: float) -> Quantizer:
    """Eight levels in each of ten projections of the latents."""
    return NoiseSQ(channels, levels=8, dims=min(10, channels))


def build(name: str, signal: Tensor) -> Any:
    """A codec fitted on the signal, in evaluation; SystemExit where it has no streamer."""
    cls, options = lookup("codecs", name)
    torch.manual_seed(0)
    codec: Codec = cls(quantizer, **options)
    if not hasattr(codec, "streamer"):
        sys.exit(f"{name} cannot be streamed; choose of {CODECS}")
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
    """The largest difference of a sample; SystemExit where it is above the limit or codes differ."""
    stream, whole = frame_by_frame(codec, signal), at_once(codec, signal)
    wrong = int((stream.codes != whole.codes).sum())
    if wrong:
        sys.exit(f"{type(codec).__name__}: {wrong} codes of {whole.codes.numel()} differ between stream and whole file")
    difference = float((stream.signal - whole.signal).abs().max())
    if not difference <= limit:
        sys.exit(f"{type(codec).__name__}: samples differ by {difference:.1e}, more than {limit:.0e}")
    return difference


def seconds(sides: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The least CPU time of each side, run in turn."""
    least = [float("inf")] * len(sides)
    for _ in range(rounds):
        for number, side in enumerate(sides):
            begin = time.process_time()
            side()
            least[number] = min(least[number], time.process_time() - begin)
    return least


def speech(duration: float) -> Tensor:
    """The demo corpus's training recordings one after another, "1 N"; SystemExit where they do not last."""
    corpus = Demo()
    samples = round(duration * SAMPLE_RATE)
    whole = torch.cat([torch.from_numpy(corpus.load(item)) for item in corpus.items("train")])
    if len(whole) < samples:
        sys.exit(f"{duration} s are asked for; the demo corpus has {len(whole) / SAMPLE_RATE:.1f} s")
    return whole[None, :samples]


def main() -> None:
    """Print one line per codec."""
    parser = argparse.ArgumentParser(description="Codecs frame by frame against the whole file, on one thread.")
    parser.add_argument("--codec", default=CODECS, help="names, with commas between them")
    parser.add_argument("--seconds", type=float, default=4.0, help="of speech")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(_row(HEADER))
    for name in arguments.codec.split(","):
        signal = speech(arguments.seconds)
        codec = build(name, signal)
        signal = signal[:, : signal.shape[1] // codec.stride * codec.stride]
        difference = compare(codec, signal)
        sides = [partial(way, codec, signal) for way in (frame_by_frame, at_once)]
        stream, whole = (spent * SAMPLE_RATE / signal.shape[1] for spent in seconds(sides, arguments.rounds))
        position = 1000 * stream * codec.stride / SAMPLE_RATE
        cells = [f"{difference:.1e}", f"{position:.2f}", f"{stream:.4f}", f"{whole:.4f}", f"{stream / whole:.1f}"]
        print(_row([name, *cells]), flush=True)


def _row(cells: list[str]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


if __name__ == "__main__":
    main()
