"""benchmark controls: do a run's codes matter?"""

import argparse
from pathlib import Path

from .command import Command, Options, add_plugin_option, loading

EXAMPLES = """examples:
  benchmark controls runs/seanet_fem_librispeech_s0_0123456789ab
  benchmark controls --items 12 runs/*

Printed for every run of a waveform codec is the mean ESTOI over its test items of: what it decodes; what it decodes
from its own codes in a random order of positions, the same for all streams; and what the same codec decodes before its
training, with quantizers fitted on training crops. A model that ignores its codes scores alike with both orders."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--items", type=int, metavar="N", help="the first N of the test set (default: all)")
    add_plugin_option(parser)


def _controls(arguments: argparse.Namespace, _: Options) -> int:
    console = loading(arguments)
    import torch

    from ..studies.controls import COLUMNS, controls

    torch.set_num_threads(1)
    console.print("".join(f"{name:>10}" for name in COLUMNS), "  ESTOI of")
    for run in arguments.runs:
        line = "".join(f"{value:10.3f}" for value in controls(run, arguments.items))
        console.print(line, f"  {run.name}", markup=False, soft_wrap=True)
    return 0


CONTROLS = Command(
    "controls", "do a run's codes matter? its ESTOI with codes shuffled", EXAMPLES, _add_arguments, _controls
)
