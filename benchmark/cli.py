"""The command `benchmark`: reads what was asked, hands it on, prints a user's mistake in one line (exit code 2).

torch and what needs it are imported within the commands, after their arguments are known to be sane.
"""

import argparse
import errno
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import examples
from .errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130
THE_USERS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST)
SPEC_ARGUMENTS = ("quantizer", "codec", "data", "seed", "bitrate", "coder", "profile", "config")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a check or the gate failed, 2 the user's mistake."""
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            return int(stop.code or 0)  # argparse after --help and --version
        print(
            "\nbenchmark: stopped; the same command, without --force, resumes where this one stopped", file=sys.stderr
        )
        return INTERRUPTED  # Lightning turns Ctrl-C during training into SystemExit(1)
    except OSError as error:
        if error.errno not in THE_USERS:
            raise
        return _complain(f"{error.filename or 'writing'}: {error.strerror}")
    except ValueError as error:
        if not isinstance(error, _named_errors()):
            raise
        return _complain(str(error))


class _Parser(argparse.ArgumentParser):
    """Complains by UserError, in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def _dispatch(argv: list[str]) -> int:
    from .arguments import GROUPS, split_dotted
    from .plugins import nearest

    parser = _parser()
    if not argv:
        parser.print_help()
        return 2
    if not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise UserError(f"no command is called {argv[0]!r}{nearest(argv[0], list(COMMANDS))} See benchmark --help")
    plain, options = split_dotted(argv)
    arguments, unknown = parser.parse_known_args(plain)
    command = arguments.command
    if unknown:
        name = unknown[0].partition("=")[0]
        near = nearest(name, [*_options_of(command), *(f"--{group}." for group in GROUPS)])
        raise UserError(f"{command} has no argument {name!r}{near} See benchmark {command} --help")
    if options and "quantizer" not in vars(arguments):
        group, option = next((group, option) for group in options for option in options[group])
        raise UserError(f"{command} has no argument '--{group}.{option}'. See benchmark {command} --help")
    return COMMANDS[command][1](arguments, options)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="benchmark",
        description="Any quantizer, in any codec, at the same bitrate, scored on real decoded bitstreams.",
        epilog="Start with: benchmark run --quantizer nsvq --codec frae\nEvery command's --help has examples.",
    )
    parser.add_argument("--version", action="version", version=f"codecbench {version('codecbench')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, (add, _, summary, epilog) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary, epilog=epilog, add_help=name != "run", prog=f"benchmark {name}"
        )
        add(command)
    return parser


def _options_of(command: str) -> list[str]:
    alone = _Parser(add_help=False)
    COMMANDS[command][0](alone)
    return [option for action in alone._actions for option in action.option_strings]


def _add_run(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to run; several make a grid")
    what.add_argument("--quantizer", metavar="Q[,Q]", help="see benchmark ls quantizers (default: nsvq)")
    what.add_argument("--codec", metavar="C[,C]", help="see benchmark ls codecs (default: frae)")
    what.add_argument("--data", metavar="D[,D]", help="see benchmark ls data (default: demo)")
    what.add_argument("--bitrate", nargs="+", metavar="KBPS", help="measured kbit/s to aim at, 2.4 or 2.4,4.8")
    what.add_argument("--seed", nargs="+", metavar="N", help="0 or 0,1 or 0:5, which leaves 5 out (default: 0)")
    what.add_argument("--coder", metavar="CODER", help="range or huffman (default: range)")
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


def _add_ls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", metavar="WHAT", help="quantizers, codecs, data, metrics or recipes")
    _add_plugin_option(parser)


def _add_check(parser: argparse.ArgumentParser) -> None:
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--quantizer", metavar="NAME", help="the quantizer to check")
    subject.add_argument("--codec", metavar="NAME", help="the codec to check")
    _add_plugin_option(parser)


def _add_encode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SOUND", help="wav, flac, ogg, mp3, ...; any rate, length, level")
    parser.add_argument("target", type=Path, metavar="BITSTREAM", help="where to write the bitstream, such as out.cbs")
    parser.add_argument("--streams", type=int, metavar="N", help="code only the first N streams (default: all)")
    parser.add_argument("--coder", choices=("range", "huffman"), help="default: that of the run")
    _add_run_folder(parser)


def _add_decode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="BITSTREAM", help="a file that this run's model encoded")
    parser.add_argument("target", type=Path, metavar="SOUND", help="where to write the sound: .wav, .flac or .aiff")
    _add_run_folder(parser)


def _add_run_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="the folder of a finished run: the model"
    )
    _add_plugin_option(parser)


def _add_leaderboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output-dir", type=Path, default=Path("runs"), metavar="DIR", help="of the runs (default: runs)"
    )
    parser.add_argument("--records", type=Path, metavar="DIR", help="a folder of records, or one record, instead")
    parser.add_argument("--at", type=float, metavar="KBPS", help="compare at this rate, between measured points")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here as Markdown")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw VSTOI against measured kbit/s here")
    parser.add_argument("--export", type=Path, metavar="DIR", help="copy the records and their items here, to commit")


def _add_gate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--baseline", type=Path, required=True, metavar="RECORDS", help="a record or a folder of them")
    parser.add_argument(
        "--max-drop", action="append", required=True, metavar="METRIC=DROP", help="as vstoi=0.02; repeat for more"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    _add_plugin_option(parser)


def _run(arguments: argparse.Namespace, options: dict[str, dict[str, str]]) -> int:
    if arguments.show_help:
        return _run_help(arguments)
    from .arguments import bitrates, seeds

    seeds(arguments.seed or 0)  # these two before torch is loaded
    bitrates(arguments.bitrate)
    console = _loading(arguments, quiet=arguments.quiet or arguments.print_config)
    from .spec import make_specs

    asked = {key: getattr(arguments, key) for key in SPEC_ARGUMENTS}
    asked |= {f"{part}_options": options.get(part) for part in ("quantizer", "codec", "data")}
    specs = make_specs(**asked, training=options.get("training"), ace=options.get("ace"))
    if arguments.print_config:
        if len(specs) > 1:
            raise UserError(f"--print_config prints the settings of one run, not of {len(specs)}; name one of each")
        print("---\n".join(spec.to_yaml() for spec in specs), end="")
        return 0
    from .run import run_grid

    run_grid(specs, arguments.output_dir, arguments.force, arguments.wandb, console)
    return 0


def _run_help(arguments: argparse.Namespace) -> int:
    parser = _Parser(prog="benchmark run", description=COMMANDS["run"][2], epilog=examples.RUN, add_help=False)
    _add_run(parser)
    parser.print_help()
    chosen = {part: getattr(arguments, part) for part in ("quantizer", "codec", "data")}
    if any(chosen.values()):
        _add_plugins(arguments)
        from .listing import options_help

        print("\n" + options_help(chosen), end="")
    return 0


def _ls(arguments: argparse.Namespace, _: Any) -> int:
    from .listing import check_topic, tables

    check_topic(arguments.what)
    _add_plugins(arguments)
    console = _console()
    for table in tables(arguments.what):
        console.print(table)
    return 0


def _check(arguments: argparse.Namespace, options: dict[str, dict[str, str]]) -> int:
    part = "quantizer" if arguments.quantizer else "codec"
    strange = [f"--{group}.{option}" for group in options if group != part for option in options[group]]
    if strange:
        raise UserError(f"check --{part} takes no {strange[0]}; its options are --{part}.OPTION")
    console = _loading(arguments)
    from .listing import check

    return check(part, getattr(arguments, part), options.get(part, {}), console)


def _transcode(arguments: argparse.Namespace, _: Any) -> int:
    console = _loading(arguments)
    from .transcode import decode, encode

    paths = (arguments.source, arguments.target, arguments.run)
    lines = decode(*paths) if arguments.command == "decode" else encode(*paths, arguments.streams, arguments.coder)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    return 0


def _leaderboard(arguments: argparse.Namespace, _: Any) -> int:
    from ..leaderboards.plots import rate_score
    from ..leaderboards.records import export, find, write_whole
    from ..leaderboards.tables import markdown_table, terminal_table

    root = arguments.records or arguments.output_dir
    records = find(root)
    if not records:
        raise UserError(f"{root}: no records there; make some with benchmark run, or name their folder by --records")
    _console().print(terminal_table(records, arguments.at))
    if arguments.markdown:
        write_whole(arguments.markdown, markdown_table(records, arguments.at))
    if arguments.plot:
        rate_score(records, arguments.plot)
    if arguments.export:
        export(records, arguments.export)
    return 0


def _gate(arguments: argparse.Namespace, _: Any) -> int:
    if not arguments.baseline.exists():
        raise UserError(f"--baseline {arguments.baseline}: no such file or folder")
    console = _loading(arguments)
    from .gating import gate

    return gate(arguments.baseline, arguments.max_drop, arguments.output_dir, console)


def _loading(arguments: argparse.Namespace, quiet: bool = False) -> "Console":
    """Say what takes the next seconds, then load the strangers' plug-ins, and torch with them."""
    console = _console(quiet)
    console.print("Loading torch and the plug-ins ...", style="dim")
    _add_plugins(arguments)
    return console


def _add_plugins(arguments: argparse.Namespace) -> None:
    from .plugins import add_file

    for path in arguments.plugin:
        add_file(path)


def _console(quiet: bool = False) -> "Console":
    from rich.console import Console

    return Console(quiet=quiet, highlight=False)


def _named_errors() -> tuple[type[Exception], ...]:
    """Errors that are the user's; a module that was not imported cannot have raised its own."""
    names = (("datamodules.base", "DataError"), ("leaderboards.records", "RecordError"))
    modules = [(sys.modules.get(f"{__name__.split('.')[0]}.{module}"), name) for module, name in names]
    return (UserError, *(getattr(module, name) for module, name in modules if module is not None))


def _complain(line: str) -> int:
    print(f"benchmark: {line}", file=sys.stderr)
    return 2


Command = tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace, Any], int], str, str]
COMMANDS: dict[str, Command] = {
    "run": (_add_run, _run, "train and score every combination on real decoded bitstreams", examples.RUN),
    "ls": (_add_ls, _ls, "what there is: quantizers, codecs, data, metrics, recipes", examples.LS),
    "check": (_add_check, _check, "run the contract's checks on a plug-in", examples.CHECK),
    "encode": (_add_encode, _transcode, "a sound file to a bitstream, by the model of a run", examples.ENCODE),
    "decode": (_add_decode, _transcode, "a bitstream to a sound file of the same length and rate", examples.DECODE),
    "leaderboard": (_add_leaderboard, _leaderboard, "the tables of all records", examples.LEADERBOARD),
    "gate": (_add_gate, _gate, "train the ci recipe; exit 1 if a score dropped below the baseline's", examples.GATE),
}
