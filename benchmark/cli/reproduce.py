"""benchmark reproduce: a paper's published claims, tested one by one."""

import argparse

from .command import Command, Options, add_output_option, add_plugin_option, loading

EXAMPLES = """examples:
  benchmark reproduce                                      (whose claims there are)
  benchmark reproduce frae                                 (the quick profile: demo voices, a few minutes)
  benchmark reproduce frae --profile full --data.root LibriSpeech --dry-run
  benchmark reproduce frae --profile full --data.root LibriSpeech --seed 0:3
  benchmark reproduce frae --profile full --report-only    (the report again, from the records)

Finished runs are found, one that was cut off goes on. The report, report.md with pictures, lies in the output folder
under reproduce-CLAIMS-PROFILE; a claims file of your own is YAML like codecbench's leaderboards/claims/frae.yaml."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("claims", nargs="?", metavar="CLAIMS", help="a name, or a .yaml of yours (default: list them)")
    parser.add_argument("--profile", metavar="PROFILE", help="how much is run (default: the first, such as quick)")
    parser.add_argument("--data", metavar="D", help="in place of the data of the claims; --data.OPTION sets theirs")
    parser.add_argument("--seed", nargs="+", metavar="N", help="0 or 0,1 or 0:5 (default: that of the claims, or 0)")
    parser.add_argument("--only", metavar="LABEL[,LABEL]", help="run these alone; * and ? stand for anything")
    parser.add_argument("--dry-run", action="store_true", help="list the runs, which are done, and what they cost")
    parser.add_argument(
        "--report-only", action="store_true", help="the report of what has been run, from records alone"
    )
    add_output_option(parser)
    add_plugin_option(parser)


def _reproduce(arguments: argparse.Namespace, options: Options) -> int:
    console = loading(arguments)
    from ..studies.reproduce import Reproduction, reproduce

    plain = {key: getattr(arguments, key) for key in Reproduction._fields if key != "data_options"}
    return reproduce(Reproduction(**plain, data_options=options.get("data", {})), console)


REPRODUCE = Command(
    "reproduce", "test a paper's published claims", EXAMPLES, _add_arguments, _reproduce, groups=("data",), resumes=""
)
