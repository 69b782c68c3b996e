"""benchmark speed: how fast parts of the suite are, each against what else could do the same."""

import argparse
import math
import sys
from importlib import import_module
from typing import Any, NamedTuple

from .command import Command, Options, Parser

EXAMPLES = """examples:
  benchmark speed                      (what can be measured)
  benchmark speed stoi --batch 1,4
  benchmark speed frame_loop --quantizer nsvq,ste_vq --rounds 7
  benchmark speed stoi --help

Both sides take turns, on one thread. They are compared before that; what differs is not timed (exit code 1)."""


class Measurement(NamedTuple):
    """A file of benchmark/speed/, and the arguments of its `measure`."""

    summary: str
    options: dict[str, dict[str, Any]]


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


def _some(kind: Any, default: Any, metavar: str, text: str = "") -> dict[str, Any]:
    """An option, its default behind its text."""
    about = f"{text} (default: {default})".strip() if default is not None else text
    return {"type": kind, "default": default, "metavar": metavar, "help": about}


DATA = _some(str, None, "DIR", "the folder LibriSpeech/ (default: the demo voices)")
MEASUREMENTS = {
    "frame_loop": Measurement(
        "the feedback loop's training step: hand-written backward or autograd",
        {"quantizer": _some(_names, "identity,ste_vq,ema_vq,nsvq", "Q[,Q]"), "rounds": _some(_count, 9, "N")},
    ),
    "spsa": Measurement(
        "VSTOI of SPSA's variants: all at once or one by one",
        {
            "data": DATA,
            "quantizer": _some(_names, "kmeans_vq,identity", "Q[,Q]"),
            "batch": _some(_counts, "1,4", "N[,N]", "numbers of items in a step"),
            "seconds": _some(_seconds, 2.0, "S", "of an item"),
            "rounds": _some(_count, 3, "N"),
        },
    ),
    "stoi": Measurement(
        "STOI and ESTOI of a batch: ours or pystoi's",
        {
            "data": DATA,
            "batch": _some(_counts, "1,4,16", "N[,N]", "numbers of items"),
            "rounds": _some(_count, 15, "N"),
        },
    ),
    "scoring": Measurement(
        "a test set's scores: worker processes or a loop over libraries",
        {
            "data": DATA,
            "items": _some(_count, 40, "N", "utterances"),
            "rounds": _some(_count, 3, "N"),
            "workers": _some(_count, None, "N", "processes (default: as many as runs take)"),
        },
    ),
    "streaming": Measurement(
        "codecs: frame by frame or the whole file at once",
        {
            "codec": _some(_names, "stft,stft-small,seanet,seanet-small", "C[,C]"),
            "seconds": _some(_seconds, 4.0, "S", "of speech"),
            "rounds": _some(_count, 5, "N"),
        },
    ),
    "vector_quantizers": Measurement(
        "training steps: ours or vector-quantize-pytorch's",
        {
            "case": _some(_names, "ema,residual,large", "CASE[,CASE]"),
            "rounds": _some(_count, None, "N", "more or fewer than usual"),
        },
    ),
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(list_names=parser.print_help)
    names = parser.add_subparsers(dest="measurement", metavar="NAME", parser_class=Parser)
    for name, (summary, options) in MEASUREMENTS.items():
        example = f"examples:\n  benchmark speed {name}"
        single = names.add_parser(
            name, help=summary, description=summary, epilog=example, prog=f"benchmark speed {name}"
        )
        for option, settings in options.items():
            single.add_argument(f"--{option}", **settings)


def _speed(arguments: argparse.Namespace, _: Options) -> int:
    if arguments.measurement is None:
        arguments.list_names()
        return 0
    import torch

    from ..speed.harness import SidesDifferError

    torch.set_num_threads(1)
    measure = import_module(f"..speed.{arguments.measurement}", __package__).measure
    try:
        measure(**{option: getattr(arguments, option) for option in MEASUREMENTS[arguments.measurement].options})
    except SidesDifferError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    return 0


SPEED = Command(
    name="speed",
    summary="how fast parts of the suite are, against alternatives",
    examples=EXAMPLES,
    add_arguments=_add_arguments,
    run=_speed,
)
