"""The arguments of every command; nothing here loads torch."""

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..errors import UserError


class Parser(argparse.ArgumentParser):
    """Complains by UserError, in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Arguments of `benchmark run`."""
    what = parser.add_argument_group("what to run; several make a grid")
    what.add_argument("--quantizer", metavar="Q[,Q]", help="see benchmark ls quantizers (default: nsvq)")
    what.add_argument("--codec", metavar="C[,C]", help="see benchmark ls codecs (default: frae)")
    what.add_argument("--data", metavar="D[,D]", help="see benchmark ls data (default: demo)")
    what.add_argument("--bitrate", nargs="+", metavar="KBPS", help="measured kbit/s to aim at, 2.4 or 2.4,4.8")
    what.add_argument("--seed", nargs="+", metavar="N", help="0 or 0,1 or 0:5, which leaves 5 out (default: 0)")
    what.add_argument("--coder", metavar="CODER", help="range or huffman (default: the recipe's, or range)")
    _add_plugin_option(what)
    how = parser.add_argument_group("how")
    how.add_argument("--profile", metavar="RECIPE", help="start from a recipe, see benchmark ls recipes")
    how.add_argument("--config", type=Path, metavar="FILE.yaml", help="start from a file, such as a run's spec.yaml")
    how.add_argument("--print_config", "--print-config", action="store_true", help="print the settings and do not run")
    how.add_argument("--output-dir", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    how.add_argument("--force", action="store_true", help="run anew what has been run")
    how.add_argument("--wandb", nargs="?", const="offline", choices=("offline", "online"), help="log to wandb")
    how.add_argument("--quiet", action="store_true", help="print nothing but errors")
    how.add_argument(
        "-h", "--help", action="store_true", dest="show_help", help="show this, and options of those named"
    )


def _add_plugin_option(parser: Any) -> None:
    parser.add_argument("--plugin", action="append", default=[], type=Path, metavar="FILE.py", help="add this plug-in")


def add_ls(parser: argparse.ArgumentParser) -> None:
    """Arguments of `benchmark ls`."""
    parser.add_argument("what", nargs="?", metavar="WHAT", help="quantizers, codecs, data, metrics or recipes")
    parser.add_argument(
        "--complexity", action="store_true", help="of codecs: parameters, operations, latency (takes some seconds)"
    )
    _add_plugin_option(parser)


def add_check(parser: argparse.ArgumentParser) -> None:
    """Arguments of `benchmark check`."""
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--quantizer", metavar="NAME", help="the quantizer to check")
    subject.add_argument("--codec", metavar="NAME", help="the codec to check")
    parser.add_argument("--channels", type=int, metavar="C", help="of the latents of a quantizer (default: 5)")
    _add_plugin_option(parser)


def add_encode(parser: argparse.ArgumentParser) -> None:
    """Arguments of `benchmark encode`."""
    parser.add_argument("source", type=Path, metavar="SOUND", help="wav, flac, ogg, mp3, ...; any rate, length, level")
    parser.add_argument("target", type=Path, metavar="BITSTREAM", help="where to write the bitstream, such as out.cbs")
    parser.add_argument("--streams", type=int, metavar="N", help="code only the first N streams (default: all)")
    parser.add_argument("--coder", choices=("range", "huffman"), help="default: that of the run")
    _add_run_folder(parser)


def add_decode(parser: argparse.ArgumentParser) -> None:
    """Arguments of `benchmark decode`."""
    parser.add_argument("source", type=Path, metavar="BITSTREAM", help="a file that this run's codec encoded")
    parser.add_argument("target", type=Path, metavar="SOUND", help="where to write the sound: .wav, .flac or .aiff")
    _add_run_folder(parser)


def _add_run_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="the folder of a finished run: its codec"
    )
    _add_plugin_option(parser)


def add_leaderboard(parser: argparse.ArgumentParser) -> None:
    """Arguments of `benchmark leaderboard`."""
    parser.add_argument(
        "--output-dir", type=Path, default=Path("runs"), metavar="DIR", help="of the runs (default: runs)"
    )
    parser.add_argument("--records", type=Path, metavar="DIR", help="a folder of records, or one record, instead")
    parser.add_argument("--at", type=float, metavar="KBPS", help="compare at this rate, between measured points")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here as Markdown")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw VSTOI against measured kbit/s here")
    parser.add_argument("--export", type=Path, metavar="DIR", help="copy the records and their items here, to commit")


def add_gate(parser: argparse.ArgumentParser) -> None:
    """Arguments of `benchmark gate`."""
    parser.add_argument("--baseline", type=Path, required=True, metavar="RECORDS", help="a record or a folder of them")
    parser.add_argument(
        "--max-drop", action="append", required=True, metavar="METRIC=DROP", help="as vstoi=0.02; repeat for more"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    _add_plugin_option(parser)


def add_score(parser: argparse.ArgumentParser) -> None:
    """Arguments of `benchmark score`."""
    parser.add_argument(
        "--reference", type=Path, required=True, metavar="DIR", help="what was coded: WAV, FLAC, ... in any subfolders"
    )
    parser.add_argument(
        "--decoded", type=Path, required=True, metavar="DIR", help="what came out, under the same names"
    )
    parser.add_argument("--bitstreams", type=Path, metavar="DIR", help="the coded files, whose bytes are the rate")
    parser.add_argument("--name", metavar="NAME", help="of the codec in tables (default: the decoded folder's)")
    parser.add_argument(
        "--track", choices=("speech", "audio", "cochlear"), help="default: speech below 32 kHz, audio from there on"
    )
    parser.add_argument("--align", action="store_true", help="take out the delay that all decoded files share")
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")


def add_references(parser: argparse.ArgumentParser) -> None:
    """Arguments of `benchmark references`."""
    parser.add_argument("target", type=Path, metavar="DIR", help="an empty or new folder")
    parser.add_argument("--data", metavar="D", default="demo", help="see benchmark ls data (default: demo)")
    _add_plugin_option(parser)


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    """Arguments of `benchmark reproduce`."""
    parser.add_argument("claims", nargs="?", metavar="CLAIMS", help="a name, or a .yaml of yours (default: list them)")
    parser.add_argument("--profile", metavar="PROFILE", help="how much is run (default: the first, such as quick)")
    parser.add_argument("--data", metavar="D", help="in place of the data of the claims; --data.OPTION sets theirs")
    parser.add_argument("--seed", nargs="+", metavar="N", help="0 or 0,1 or 0:5 (default: that of the claims, or 0)")
    parser.add_argument("--only", metavar="LABEL[,LABEL]", help="run these alone; * and ? stand for anything")
    parser.add_argument("--dry-run", action="store_true", help="list the runs, which are done, and what they cost")
    parser.add_argument(
        "--report-only", action="store_true", help="the report of what has been run, from records alone"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    _add_plugin_option(parser)


def add_tune(parser: argparse.ArgumentParser) -> None:
    """Arguments of `benchmark tune`."""
    what = parser.add_argument_group("what is tuned, as in benchmark run; one of each")
    what.add_argument("--quantizer", metavar="Q", help="see benchmark ls quantizers (default: nsvq)")
    what.add_argument("--codec", metavar="C", help="see benchmark ls codecs (default: frae)")
    what.add_argument("--data", metavar="D", help="see benchmark ls data (default: demo)")
    what.add_argument("--bitrate", metavar="KBPS", help="kbit/s of the codes before they are compressed")
    what.add_argument("--seed", metavar="N", help="of every training, and of the search (default: 0)")
    what.add_argument(
        "--coder", metavar="CODER", help="of the recipe: range or huffman (default: that it starts from, or range)"
    )
    what.add_argument("--profile", metavar="RECIPE", help="start from a recipe, see benchmark ls recipes")
    what.add_argument("--config", type=Path, metavar="FILE.yaml", help="start from a file, such as a run's spec.yaml")
    _add_plugin_option(what)
    goal = parser.add_argument_group("what is a good trial")
    goal.add_argument(
        "--objective",
        choices=("pattern", "validation"),
        help="VSTOI of one training pattern, learned alone; or of a training, its validation VSTOI or loss "
        "(default: pattern for codecs of stimulation patterns)",
    )
    goal.add_argument("--item", metavar="NAME", help="pattern: which training item (default: of median length)")
    goal.add_argument("--adam-steps", type=int, metavar="N", help="pattern: steps of Adam on it (default: 500)")
    goal.add_argument("--spsa-steps", type=int, metavar="N", help="pattern: of SPSA on its VSTOI (default: 100)")
    goal.add_argument("--quantized", action="store_true", help="pattern: SPSA and score with the quantizer")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--space", type=Path, metavar="FILE.yaml", help="option: {type, low, high} or [choices], one a line"
    )
    how.add_argument("--trials", type=int, default=50, metavar="N", help="in the study in all (default: 50)")
    how.add_argument("--study", type=Path, default=Path("study.db"), metavar="FILE.db", help="default: study.db")
    how.add_argument("--workers", type=int, default=1, metavar="N", help="processes, one thread each (default: 1)")
    how.add_argument(
        "--pruner", choices=("median", "hyperband", "none"), default="median", help="ends poor trials early"
    )
    how.add_argument("--out", type=Path, metavar="FILE.yaml", help="the recipe (default: the study's name, .yaml)")
    how.add_argument("--quiet", action="store_true", help="print nothing but errors")


def tune_command(asked: argparse.Namespace, options: Mapping[str, Mapping[str, str]]) -> str:
    """The line that asks for the same search."""
    parser = argparse.ArgumentParser(add_help=False)
    add_tune(parser)
    words = ["benchmark", "tune"]
    for name, default in vars(parser.parse_args([])).items():
        value = getattr(asked, name)
        for each in value if isinstance(value, list) else [value] * (value != default):
            words += [f"--{name.replace('_', '-')}", *([] if each is True else [str(each)])]
    dotted = [(f"--{group}.{option}", value) for group, given in options.items() for option, value in given.items()]
    return shlex.join([*words, *(word for pair in dotted for word in pair)])
