"""The command `benchmark`: reads what was asked, hands it on, prints a user's mistake in one line (exit code 2).

torch and what needs it are imported within the commands, after their arguments are known to be sane.
"""

import argparse
import errno
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn

from . import command_arguments, examples
from .errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130
THE_USERS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST)
SPEC_ARGUMENTS = ("quantizer", "codec", "data", "seed", "bitrate", "coder", "profile", "config")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a check or the gate failed, 2 the user's mistake."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            return int(stop.code or 0)  # argparse after --help and --version
        without = {"run": ", without --force,", "tune": "", "reproduce": ""}
        resumes = [
            f"; the same command{without[word]} resumes where this one stopped" for word in words[:1] if word in without
        ]
        print(f"\nbenchmark: stopped{''.join(resumes)}", file=sys.stderr)
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
    only_data = command in ("references", "reproduce") and options.keys() == {"data"}
    if options and "quantizer" not in vars(arguments) and not only_data:
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


def _run(arguments: argparse.Namespace, options: dict[str, dict[str, str]]) -> int:
    if arguments.show_help:
        return _run_help(arguments)
    from .arguments import bitrates, seeds

    seeds(arguments.seed or 0)  # these two before torch is loaded
    bitrates(arguments.bitrate)
    console = _loading(arguments, quiet=arguments.quiet or arguments.print_config)
    from .grid import make_specs

    specs = make_specs(**_asked(arguments, options))
    if arguments.print_config:
        if len(specs) > 1:
            raise UserError(f"--print_config prints the settings of one run, not of {len(specs)}; name one of each")
        print("---\n".join(spec.to_yaml() for spec in specs), end="")
        return 0
    from .run import run_grid

    run_grid(specs, arguments.output_dir, arguments.force, arguments.wandb, console)
    return 0


def _asked(arguments: argparse.Namespace, options: dict[str, dict[str, str]]) -> dict[str, Any]:
    """What make_specs() takes."""
    asked: dict[str, Any] = {key: getattr(arguments, key) for key in SPEC_ARGUMENTS}
    asked |= {f"{part}_options": options.get(part) for part in ("quantizer", "codec", "data")}
    return asked | {"training": options.get("training"), "ace": options.get("ace")}


def _tune(arguments: argparse.Namespace, options: dict[str, dict[str, str]]) -> int:
    console = _loading(arguments, arguments.quiet)
    from .grid import make_specs
    from .tune import tune

    specs = make_specs(**_asked(arguments, options))
    tune(specs, arguments, command_arguments.tune_command(arguments, options), console)
    return 0


def _run_help(arguments: argparse.Namespace) -> int:
    parser = _Parser(prog="benchmark run", description=COMMANDS["run"][2], epilog=examples.RUN, add_help=False)
    command_arguments.add_run(parser)
    parser.print_help()
    chosen = {part: getattr(arguments, part) for part in ("quantizer", "codec", "data")}
    if any(chosen.values()):
        _add_plugins(arguments)
        from .listing import options_help

        print("\n" + options_help(chosen), end="")
    return 0


def _ls(arguments: argparse.Namespace, _: Any) -> int:
    from .listing import check_topic, complexities, tables

    check_topic(arguments.what)
    if arguments.complexity and arguments.what != "codecs":
        raise UserError("--complexity is for benchmark ls codecs")
    _add_plugins(arguments)
    console = _console()
    for table in [complexities()] if arguments.complexity else tables(arguments.what):
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


def _score(arguments: argparse.Namespace, _: Any) -> int:
    for option in ("reference", "decoded", "bitstreams"):
        folder = getattr(arguments, option)
        if folder is not None and not folder.is_dir():
            raise UserError(f"--{option} {folder}: no such folder")
    console = _loading(arguments)
    from .scoring import Request, score

    asked = {key: getattr(arguments, key) for key in Request._fields}
    score(Request(**asked), arguments.output_dir, console)
    return 0


def _references(arguments: argparse.Namespace, options: dict[str, dict[str, str]]) -> int:
    console = _loading(arguments)
    from .references import write_references

    write_references(arguments.data, options.get("data", {}), arguments.target, console)
    return 0


def _reproduce(arguments: argparse.Namespace, options: dict[str, dict[str, str]]) -> int:
    console = _loading(arguments)
    from .reproduce import Request, reproduce

    asked = {key: getattr(arguments, key) for key in Request._fields if key != "data_options"}
    return reproduce(Request(**asked, data_options=options.get("data", {})), console)


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

    for path in getattr(arguments, "plugin", []):
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
    "run": (command_arguments.add_run, _run, "train, code and score every combination on real files", examples.RUN),
    "tune": (command_arguments.add_tune, _tune, "search for a codec's hyper-parameters", examples.TUNE),
    "ls": (command_arguments.add_ls, _ls, "what there is: quantizers, codecs, data, metrics, recipes", examples.LS),
    "check": (command_arguments.add_check, _check, "run the contract's checks on a plug-in", examples.CHECK),
    "encode": (
        command_arguments.add_encode,
        _transcode,
        "a sound file to a bitstream, by the model of a run",
        examples.ENCODE,
    ),
    "decode": (
        command_arguments.add_decode,
        _transcode,
        "a bitstream to a sound file of the same length and rate",
        examples.DECODE,
    ),
    "score": (
        command_arguments.add_score,
        _score,
        "score what another codec decoded, as a run is scored",
        examples.SCORE,
    ),
    "references": (
        command_arguments.add_references,
        _references,
        "write a corpus's test items as files for other codecs to code",
        examples.REFERENCES,
    ),
    "reproduce": (command_arguments.add_reproduce, _reproduce, "test a paper's published claims", examples.REPRODUCE),
    "leaderboard": (command_arguments.add_leaderboard, _leaderboard, "the tables of all records", examples.LEADERBOARD),
    "gate": (
        command_arguments.add_gate,
        _gate,
        "train the ci recipe; exit 1 if a score dropped below the baseline's",
        examples.GATE,
    ),
}
