"""The command `benchmark`: reads what was asked, hands it on, prints a user's mistake in one line (exit code 2)."""

import errno
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version

from ...leaderboards.errors import nearest
from ..errors import UserError
from .command import Command, Parser, split_dotted

FILES = (  # of commands, in the order of --help; each holds what is about them
    *("run", "tune", "ls", "check", "files", "score", "reproduce"),
    *("leaderboard", "gate", "controls", "mask", "speed"),
)
LOADED = [import_module(f".{name}", __package__) for name in FILES]
EVERY = [value for module in LOADED for value in vars(module).values() if isinstance(value, Command)]
COMMANDS = {command.name: command for command in EVERY}
INTERRUPTED = 130
ERRORS = ("benchmark", "datamodules", "leaderboards", "quantizers.coding")  # where the user's mistakes have names
THE_USERS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a check or the gate failed, 2 the user's mistake."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            return int(stop.code or 0)  # argparse after --help and --version
        change = COMMANDS[words[0]].resumes if words and words[0] in COMMANDS else None
        resumes = "" if change is None else f"; the same command{change} resumes where this one stopped"
        print(f"\nbenchmark: stopped{resumes}", file=sys.stderr)
        return INTERRUPTED  # Lightning turns Ctrl-C during training into SystemExit(1)
    except OSError as error:
        if error.errno not in THE_USERS:
            raise
        return _complain(f"{error.filename or 'writing'}: {error.strerror}")
    except ValueError as error:
        if not isinstance(error, _named_errors()):
            raise
        return _complain(str(error))


def _dispatch(words: list[str]) -> int:
    parser, parsers = _parsers()
    if not words:
        parser.print_help()
        return 2
    if not words[0].startswith("-") and words[0] not in COMMANDS:
        raise UserError(f"no command is called {words[0]!r}{nearest(words[0], list(COMMANDS))} See benchmark --help")
    groups = COMMANDS[words[0]].groups if words[0] in COMMANDS else ()
    plain, options = split_dotted(words, groups)
    arguments, unknown = parser.parse_known_args(plain)
    if unknown:
        name, command = unknown[0].partition("=")[0], arguments.command
        known = [*parsers[command]._option_string_actions, *(f"--{group}." for group in groups)] if command else []
        called = f"benchmark {command}" if command else "benchmark"
        raise UserError(f"{command or called} has no argument {name!r}{nearest(name, known)} See {called} --help")
    if not arguments.command:
        parser.error("a COMMAND is missing")
    return COMMANDS[arguments.command].run(arguments, options)


def _parsers() -> tuple[Parser, Mapping[str, Parser]]:
    """The parser of all, and that of every command."""
    parser = Parser(
        prog="benchmark",
        description="Any quantizer, in any codec, at the same bitrate, scored on real decoded bitstreams.",
        epilog="Start with: benchmark run --quantizer nsvq --codec frae\nEvery command's --help has examples.",
    )
    parser.add_argument("--version", action="version", version=f"codecbench {version('codecbench')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, command in COMMANDS.items():
        about, ending, helped = command.summary, command.examples, not command.helps
        arguments = {"help": about, "description": about, "epilog": ending, "add_help": helped}
        command.add_arguments(commands.add_parser(name, prog=f"benchmark {name}", **arguments))
    return parser, commands.choices


def _named_errors() -> tuple[type[Exception], ...]:
    """Errors that are the user's; a module that was not imported cannot have raised its own."""
    places = (f"{__name__.split('.')[0]}.{place}.errors" for place in ERRORS)
    classes = [value for place in places if place in sys.modules for value in vars(sys.modules[place]).values()]
    return tuple(value for value in classes if isinstance(value, type) and issubclass(value, ValueError))


def _complain(line: str) -> int:
    print(f"benchmark: {line}", file=sys.stderr)
    return 2
