"""What the commands share: how one is declared, its parser, the console, strangers' plug-ins. It loads nothing slow."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

SPEC_GROUPS = ("quantizer", "codec", "data", "training", "ace")  # what settings() reads
SPEC_ARGUMENTS = ("quantizer", "codec", "data", "seed", "bitrate", "coder", "profile", "config")

Options = dict[str, dict[str, str]]  # group -> option -> text


class Parser(argparse.ArgumentParser):
    """Complains by UserError, in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


@dataclass(frozen=True)
class Command:
    """One word after `benchmark`. Its file loads torch and what needs it within `run` alone."""

    name: str
    summary: str
    examples: str  # what its --help ends with
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Options], int]  # gives the exit code
    groups: tuple[str, ...] = ()  # takes --GROUP.OPTION of these
    resumes: str | None = None  # how its line must be changed to go on after a stop: "" for not at all, None: it cannot
    helps: bool = False  # it adds its --help itself


def split_dotted(words: Sequence[str], groups: Sequence[str]) -> tuple[list[str], Options]:
    """Take options of the form --group.option out of a command line: (the rest, group -> option -> text)."""
    rest: list[str] = []
    options: Options = {}
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        match = re.fullmatch(r"--(\w+)\.([^=]+)(?:=(.*))?", word, re.DOTALL)
        if match is None or match[1] not in groups:
            rest.append(word)
            continue
        group, option, value = match.groups()
        if value is None:  # without a value it is a switch
            value = waiting.pop() if waiting and not waiting[-1].startswith("--") else "true"
        if option == "name":
            rest.append(f"--{group}={value}")
        else:
            options.setdefault(group, {})[option.replace("-", "_")] = value
    return rest, options


def settings(arguments: argparse.Namespace, options: Options) -> dict[str, Any]:
    """What make_specs() takes."""
    plain = {key: getattr(arguments, key) for key in SPEC_ARGUMENTS}
    plain |= {f"{part}_options": options.get(part) for part in ("quantizer", "codec", "data")}
    return plain | {"training": options.get("training"), "ace": options.get("ace")}


def add_plugin_option(parser: Any) -> None:
    """--plugin, of every command that looks plug-ins up."""
    parser.add_argument("--plugin", action="append", default=[], type=Path, metavar="FILE.py", help="add this plug-in")


def add_output_option(parser: Any, text: str = "default: runs") -> None:
    """--output-dir, where runs lie."""
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), metavar="DIR", help=text)


def add_plugins(arguments: argparse.Namespace) -> None:
    """Register the files that --plugin names."""
    if getattr(arguments, "plugin", None):  # not every command takes them
        from ..specs.registry import add_file

        for path in arguments.plugin:
            add_file(path)


def console_of(quiet: bool = False) -> "Console":
    """What is printed to."""
    from rich.console import Console

    return Console(quiet=quiet, highlight=False)


def loading(arguments: argparse.Namespace, quiet: bool = False) -> "Console":
    """Say what takes the next seconds, then load the strangers' plug-ins, and torch with them."""
    console = console_of(quiet)
    console.print("Loading torch and the plug-ins ...", style="dim")
    add_plugins(arguments)
    return console
