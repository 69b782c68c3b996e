"""The picture of what a frame of a sound masks."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ...datamodules.base import read_audio, shown
from ...datamodules.errors import DataError
from ..errors import UserError
from ..metrics.hearing.psychoacoustics import PsychoacousticModel


def main(argv: Sequence[str] | None = None) -> int:
    """Draw one frame of a sound file; 0, or 2 where the user is wrong."""
    from ...leaderboards.errors import RecordError

    parser = argparse.ArgumentParser(prog="psychoacoustics", description="A frame's maskers and masking threshold.")
    parser.add_argument("file", type=Path, help="sound file; channels are mixed to one")
    parser.add_argument("--at", type=float, default=0.0, help="where the frame starts, in seconds")
    parser.add_argument("--plot", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--frame", type=int, default=512, help="samples (default 512)")
    arguments = parser.parse_args(argv)
    try:
        print(_picture(arguments.file, arguments.at, arguments.plot, arguments.frame))
    except (UserError, DataError, RecordError) as error:
        print(f"psychoacoustics: {error}", file=sys.stderr)
        return 2
    return 0


def _picture(path: Path, at: float, target: Path, frame: int) -> str:
    waveform, rate = read_audio(path)
    seconds = len(waveform) / rate
    if not 0 <= at < seconds:
        raise UserError(f"--at {at:g}: {shown(path)} lasts {seconds:.3f} s; name a time within it")
    try:
        model = PsychoacousticModel(rate, frame)
    except ValueError as error:
        raise UserError(str(error)) from error
    start = round(at * rate)
    masking = model(torch.from_numpy(waveform[start : start + frame]).double()[None])
    from ..tracks.pictures import masking as draw

    psd, threshold, tonal, noise = (part[0, 0].numpy() for part in masking[:4])
    draw(torch.arange(len(psd)).numpy() * rate / frame, psd, tonal, noise, threshold, masking.quiet.numpy(), target)
    kinds = [int((part > -math.inf).sum()) for part in masking[2:4]]
    return f"{shown(target)}: {frame} samples from {at:g} s; {kinds[0]} tonal and {kinds[1]} noise maskers"


if __name__ == "__main__":
    sys.exit(main())
