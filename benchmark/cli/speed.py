"""benchmark speed: how fast parts of the suite are, each against what else could do the same."""

import argparse
import math
import sys
from importlib import import_module

from .command import Command, Options, Parser

EXAMPLES = """examples:
  benchmark speed                      (what can be measured)
  benchmark speed stoi --batch 1,4
  benchmark speed frame_loop --quantizer nsvq,ste_vq --rounds 7
  benchmark speed stoi --help

Both sides take turns, on one thread. They are compared before that; what differs is not timed (exit code 1)."""


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _counts(text: str) -> list[int]:
    return [_count(part.strip()) for part in text.split(",")]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds")
    return seconds


OPTIONS = {  # name: how it is read, its placeholder, what it says
    "data": (str, "DIR", "the folder LibriSpeech/; else the demo voices"),
    "quantizer": (_names, "Q[,Q]", "see benchmark ls quantizers"),
    "codec": (_names, "C[,C]", "see benchmark ls codecs"),
    "case": (_names, "CASE[,CASE]", "shapes of the codebooks"),
    "batch": (_counts, "N[,N]", "numbers of items"),
    "items": (_count, "N", "utterances"),
    "seconds": (_seconds, "S", "of speech"),
    "rounds": (_count, "N", "how often each side is timed"),
    "workers": (_count, "N", "processes; else as many as runs take"),
}
MEASUREMENTS = {  # name: what it measures, its options and their defaults
    "frame_loop": (
        "the feedback loop's training step: hand-written backward or autograd",
        {"quantizer": "identity,ste_vq,ema_vq,nsvq", "rounds": 9},
    ),
    "spsa": (
        "VSTOI of SPSA's variants: all at once or one by one",
        {"data": None, "quantizer": "kmeans_vq,identity", "batch": "1,4", "seconds": 2.0, "rounds": 3},
    ),
    "stoi": ("STOI and ESTOI of a batch: ours or pystoi's", {"data": None, "batch": "1,4,16", "rounds": 15}),
    "scoring": (
        "a test set's scores: worker processes or a loop over libraries",
        {"data": None, "items": 40, "rounds": 3, "workers": None},
    ),
    "streaming": (
        "codecs: frame by frame or the whole file at once",
        {"codec": "stft,stft-small,seanet,seanet-small", "seconds": 4.0, "rounds": 5},
    ),
    "vector_quantizers": (
        "training steps: ours or vector-quantize-pytorch's",
        {"case": "ema,residual,large", "rounds": None},
    ),
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(list_names=parser.print_help)
    names = parser.add_subparsers(dest="measurement", metavar="NAME", parser_class=Parser)
    for name, (summary, options) in MEASUREMENTS.items():
        example = f"examples:\n  benchmark speed {name} --rounds 5"
        single = names.add_parser(
            name, prog=f"benchmark speed {name}", help=summary, description=summary, epilog=example
        )
        for option, default in options.items():
            read, placeholder, text = OPTIONS[option]
            text += "" if default is None else f" (default: {default})"
            single.add_argument(f"--{option}", type=read, default=default, metavar=placeholder, help=text)


def _speed(arguments: argparse.Namespace, _: Options) -> int:
    if arguments.measurement is None:
        arguments.list_names()
        return 0
    import torch

    from ..speed.harness import SidesDifferError

    torch.set_num_threads(1)
    measure = import_module(f"..speed.{arguments.measurement}", __package__).measure
    try:
        measure(**{option: getattr(arguments, option) for option in MEASUREMENTS[arguments.measurement][1]})
    except SidesDifferError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    return 0


SPEED = Command("speed", "how fast parts of the suite are, against alternatives", EXAMPLES, _add_arguments, _speed)
