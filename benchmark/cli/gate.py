"""benchmark gate: exit code 1 where a score regressed beyond noise, for CI."""

import argparse
from pathlib import Path

from ..errors import UserError
from .command import Command, Options, add_output_option, add_plugin_option, loading

EXAMPLES = """examples:
  benchmark gate --baseline leaderboards/results/ci --max-drop vstoi=0.02 --max-drop estoi=0.03"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--baseline", type=Path, required=True, metavar="RECORDS", help="a record or a folder of them")
    parser.add_argument(
        "--max-drop", action="append", required=True, metavar="METRIC=DROP", help="as vstoi=0.02; repeat for more"
    )
    add_output_option(parser)
    add_plugin_option(parser)


def _gate(arguments: argparse.Namespace, _: Options) -> int:
    if not arguments.baseline.exists():
        raise UserError(f"--baseline {arguments.baseline}: no such file or folder")
    console = loading(arguments)
    from ..studies.gate import gate

    return gate(arguments.baseline, arguments.max_drop, arguments.output_dir, console)


GATE = Command(
    "gate", "train the ci recipe; exit 1 if a score dropped below the baseline's", EXAMPLES, _add_arguments, _gate
)
