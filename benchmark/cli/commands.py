"""What every command does with its arguments, and the table of them all; torch is imported within the commands."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UserError
from . import arguments as command_arguments
from . import help as examples

if TYPE_CHECKING:
    from rich.console import Console

SPEC_ARGUMENTS = ("quantizer", "codec", "data", "seed", "bitrate", "coder", "profile", "config")


class Command(NamedTuple):
    """One word after `benchmark`."""

    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Any], int]  # gives the exit code
    summary: str
    examples: str


def _run(arguments: argparse.Namespace, options: dict[str, dict[str, str]]) -> int:
    if arguments.show_help:
        return _run_help(arguments)
    from ..specs.options import bitrates, seeds

    seeds(arguments.seed or 0)  # these two before torch is loaded
    bitrates(arguments.bitrate)
    console = _loading(arguments, quiet=arguments.quiet or arguments.print_config)
    from ..specs.grid import make_specs

    specs = make_specs(**_asked(arguments, options))
    if arguments.print_config:
        if len(specs) > 1:
            raise UserError(f"--print_config prints the settings of one run, not of {len(specs)}; name one of each")
        print("---\n".join(spec.to_yaml() for spec in specs), end="")
        return 0
    from ..runs.run import run_grid

    run_grid(specs, arguments.output_dir, arguments.force, arguments.wandb, console)
    return 0


def _asked(arguments: argparse.Namespace, options: dict[str, dict[str, str]]) -> dict[str, Any]:
    """What make_specs() takes."""
    asked: dict[str, Any] = {key: getattr(arguments, key) for key in SPEC_ARGUMENTS}
    asked |= {f"{part}_options": options.get(part) for part in ("quantizer", "codec", "data")}
    return asked | {"training": options.get("training"), "ace": options.get("ace")}


def _tune(arguments: argparse.Namespace, options: dict[str, dict[str, str]]) -> int:
    console = _loading(arguments, arguments.quiet)
    from ..specs.grid import make_specs
    from ..studies.tuning.search import tune

    specs = make_specs(**_asked(arguments, options))
    tune(specs, arguments, command_arguments.tune_command(arguments, options), console)
    return 0


def _run_help(arguments: argparse.Namespace) -> int:
    summary = COMMANDS["run"].summary
    parser = command_arguments.Parser(prog="benchmark run", description=summary, epilog=examples.RUN, add_help=False)
    command_arguments.add_run(parser)
    parser.print_help()
    chosen = {part: getattr(arguments, part) for part in ("quantizer", "codec", "data")}
    if any(chosen.values()):
        _add_plugins(arguments)
        from .inspect import options_help

        print("\n" + options_help(chosen), end="")
    return 0


def _ls(arguments: argparse.Namespace, _: Any) -> int:
    from .inspect import check_topic, complexities, tables

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
    if arguments.channels is not None and part == "codec":
        raise UserError("check --codec takes no --channels; a codec gives its quantizers as many as it has")
    strange = [f"--{group}.{option}" for group in options if group != part for option in options[group]]
    if strange:
        raise UserError(f"check --{part} takes no {strange[0]}; its options are --{part}.OPTION")
    console = _loading(arguments)
    from .inspect import check

    return check(part, getattr(arguments, part), options.get(part, {}), console, arguments.channels)


def _transcode(arguments: argparse.Namespace, _: Any) -> int:
    console = _loading(arguments)
    from ..runs.transcode import decode, encode

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
    from ..runs.outside.scoring import Request, score

    asked = {key: getattr(arguments, key) for key in Request._fields}
    score(Request(**asked), arguments.output_dir, console)
    return 0


def _references(arguments: argparse.Namespace, options: dict[str, dict[str, str]]) -> int:
    console = _loading(arguments)
    from ..runs.outside.references import write_references

    write_references(arguments.data, options.get("data", {}), arguments.target, console)
    return 0


def _reproduce(arguments: argparse.Namespace, options: dict[str, dict[str, str]]) -> int:
    console = _loading(arguments)
    from ..studies.reproduce import Request, reproduce

    asked = {key: getattr(arguments, key) for key in Request._fields if key != "data_options"}
    return reproduce(Request(**asked, data_options=options.get("data", {})), console)


def _leaderboard(arguments: argparse.Namespace, _: Any) -> int:
    from ...leaderboards.plots import rate_score
    from ...leaderboards.records import export, find, write_whole
    from ...leaderboards.tables import markdown_table, terminal_table

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
    from ..studies.gate import gate

    return gate(arguments.baseline, arguments.max_drop, arguments.output_dir, console)


def _loading(arguments: argparse.Namespace, quiet: bool = False) -> "Console":
    """Say what takes the next seconds, then load the strangers' plug-ins, and torch with them."""
    console = _console(quiet)
    console.print("Loading torch and the plug-ins ...", style="dim")
    _add_plugins(arguments)
    return console


def _add_plugins(arguments: argparse.Namespace) -> None:
    from ..specs.registry import add_file

    for path in getattr(arguments, "plugin", []):
        add_file(path)


def _console(quiet: bool = False) -> "Console":
    from rich.console import Console

    return Console(quiet=quiet, highlight=False)


COMMANDS = {
    "run": Command(
        command_arguments.add_run, _run, "train, code and score every combination on real files", examples.RUN
    ),
    "tune": Command(command_arguments.add_tune, _tune, "search for a codec's hyper-parameters", examples.TUNE),
    "ls": Command(
        command_arguments.add_ls, _ls, "what there is: quantizers, codecs, data, metrics, recipes", examples.LS
    ),
    "check": Command(command_arguments.add_check, _check, "run the contract's checks on a plug-in", examples.CHECK),
    "encode": Command(
        command_arguments.add_encode,
        _transcode,
        "a sound file to a bitstream, by the codec of a run",
        examples.ENCODE,
    ),
    "decode": Command(
        command_arguments.add_decode,
        _transcode,
        "a bitstream to a sound file of the same length and rate",
        examples.DECODE,
    ),
    "score": Command(
        command_arguments.add_score,
        _score,
        "score what another codec decoded, as a run is scored",
        examples.SCORE,
    ),
    "references": Command(
        command_arguments.add_references,
        _references,
        "write a corpus's test items as files for other codecs to code",
        examples.REFERENCES,
    ),
    "reproduce": Command(
        command_arguments.add_reproduce, _reproduce, "test a paper's published claims", examples.REPRODUCE
    ),
    "leaderboard": Command(
        command_arguments.add_leaderboard, _leaderboard, "the tables of all records", examples.LEADERBOARD
    ),
    "gate": Command(
        command_arguments.add_gate,
        _gate,
        "train the ci recipe; exit 1 if a score dropped below the baseline's",
        examples.GATE,
    ),
}
