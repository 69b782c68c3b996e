"""The command `benchmark`: reads what was asked, hands it on, prints a user's mistake in one line (exit code 2).

torch and what needs it are imported within the commands, after their arguments are known to be sane.
"""

import argparse
import errno
import sys
from collections.abc import Sequence
from importlib.metadata import version

from ..errors import UserError
from .arguments import Parser
from .commands import COMMANDS

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


def _dispatch(argv: list[str]) -> int:
    from ...leaderboards.errors import nearest
    from ..specs.options import GROUPS, split_dotted

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
    return COMMANDS[command].run(arguments, options)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="benchmark",
        description="Any quantizer, in any codec, at the same bitrate, scored on real decoded bitstreams.",
        epilog="Start with: benchmark run --quantizer nsvq --codec frae\nEvery command's --help has examples.",
    )
    parser.add_argument("--version", action="version", version=f"codecbench {version('codecbench')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, (add_arguments, _, summary, examples) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary, epilog=examples, add_help=name != "run", prog=f"benchmark {name}"
        )
        add_arguments(command)
    return parser


def _options_of(command: str) -> list[str]:
    alone = Parser(add_help=False)
    COMMANDS[command].add_arguments(alone)
    return [option for action in alone._actions for option in action.option_strings]


def _named_errors() -> tuple[type[Exception], ...]:
    """Errors that are the user's; a module that was not imported cannot have raised its own."""
    places = (f"{__name__.split('.')[0]}.{place}.errors" for place in ERRORS)
    classes = [each for place in places if place in sys.modules for each in vars(sys.modules[place]).values()]
    return tuple(each for each in classes if isinstance(each, type) and issubclass(each, ValueError))


def _complain(line: str) -> int:
    print(f"benchmark: {line}", file=sys.stderr)
    return 2
