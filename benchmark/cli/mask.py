"""benchmark mask: the picture of what a frame of a sound masks."""

import argparse
import math
from pathlib import Path

from ..errors import UserError
from .command import Command, Options

EXAMPLES = """examples:
  benchmark mask speech.wav --at 1.2 --plot mask.png"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE.wav", help="sound file; channels are mixed to one")
    parser.add_argument("--at", type=float, default=0.0, metavar="SECONDS", help="where the frame starts (default: 0)")
    parser.add_argument("--plot", type=Path, required=True, metavar="FILE.png", help="the picture to write")
    parser.add_argument("--frame", type=int, default=512, metavar="N", help="samples (default: 512)")


def _mask(arguments: argparse.Namespace, _: Options) -> int:
    print(draw(arguments.file, arguments.at, arguments.plot, arguments.frame))
    return 0


def draw(path: Path, at: float, target: Path, frame: int) -> str:
    """Draw a frame's maskers and masking threshold; the line that says so."""
    import torch

    from ...datamodules.base import read_audio, shown
    from ..metrics.hearing.psychoacoustics import PsychoacousticModel
    from ..tracks.pictures import masking as picture

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
    psd, threshold, tonal, noise = (part[0, 0].numpy() for part in masking[:4])
    picture(torch.arange(len(psd)).numpy() * rate / frame, psd, tonal, noise, threshold, masking.quiet.numpy(), target)
    kinds = [int((part > -math.inf).sum()) for part in masking[2:4]]
    return f"{shown(target)}: {frame} samples from {at:g} s; {kinds[0]} tonal and {kinds[1]} noise maskers"


MASK = Command("mask", "draw what a frame of a sound masks", EXAMPLES, _add_arguments, _mask)
