"""benchmark leaderboard: tables, plots and exports, drawn from records alone."""

import argparse
from pathlib import Path

from ..errors import UserError
from .command import Command, Options, add_output_option, console_of

EXAMPLES = """examples:
  benchmark leaderboard
  benchmark leaderboard --records results --markdown results.md --plot results.png
  benchmark leaderboard --export leaderboards/results/mine"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_output_option(parser, "of the runs (default: runs)")
    parser.add_argument("--records", type=Path, metavar="DIR", help="a folder of records, or one record, instead")
    parser.add_argument("--at", type=float, metavar="KBPS", help="compare at this rate, between measured points")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here as Markdown")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw VSTOI against measured kbit/s here")
    parser.add_argument("--export", type=Path, metavar="DIR", help="copy the records and their items here, to commit")


def _leaderboard(arguments: argparse.Namespace, _: Options) -> int:
    from ...leaderboards.plots import rate_score
    from ...leaderboards.records import export, find, write_whole
    from ...leaderboards.tables import markdown_table, terminal_table

    root = arguments.records or arguments.output_dir
    records = find(root)
    if not records:
        raise UserError(f"{root}: no records there; make some with benchmark run, or name their folder by --records")
    console_of().print(terminal_table(records, arguments.at))
    if arguments.markdown:
        write_whole(arguments.markdown, markdown_table(records, arguments.at))
    if arguments.plot:
        rate_score(records, arguments.plot)
    if arguments.export:
        export(records, arguments.export)
    return 0


LEADERBOARD = Command("leaderboard", "the tables of all records", EXAMPLES, _add_arguments, _leaderboard)
