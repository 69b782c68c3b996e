"""benchmark check: the contract, run on a plug-in."""

import argparse
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .command import Command, Options, add_plugin_option, loading

if TYPE_CHECKING:
    from rich.console import Console

CHECKED_CHANNELS = 5

EXAMPLES = """examples:
  benchmark check --quantizer nsvq --quantizer.codebook_bits 3
  benchmark check --plugin my_vq.py --quantizer my_vq"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--quantizer", metavar="NAME", help="the quantizer to check")
    subject.add_argument("--codec", metavar="NAME", help="the codec to check")
    add_plugin_option(parser)


def _check(arguments: argparse.Namespace, options: Options) -> int:
    part = "quantizer" if arguments.quantizer else "codec"
    strange = [f"--{group}.{option}" for group in options if group != part for option in options[group]]
    if strange:
        raise UserError(f"check --{part} takes no {strange[0]}; its options are --{part}.OPTION")
    console = loading(arguments)
    return check(part, getattr(arguments, part), options.get(part, {}), console)


def check(part: str, text: str, given: Mapping[str, Any], console: "Console") -> int:
    """Run the contract's checks on a plug-in and print them; 1 if one fails."""
    from rich.markup import escape

    from ..specs.options import create, named, resolve
    from ..specs.registry import lookup

    (name, inline), *others = named(text)
    if others:
        raise UserError(f"check takes one {part} at a time, not {text}")
    cls, preset = lookup("quantizers" if part == "quantizer" else "codecs", name)
    make = partial(create, part, name, cls, resolve(part, name, cls, {**preset, **given, **inline}))
    results = _results(part, name, cls, make)
    for result in results:
        mark, style = ("ok  ", "green") if result.passed else ("FAIL", "bold red")
        reason = f"\n     {escape(result.message)}" if result.message else ""
        console.print(f"[{style}]{mark}[/] {escape(result.name)} [dim]{result.seconds:.1f} s[/]{reason}")
    failed = sum(not result.passed for result in results)
    console.print(f"{escape(name)}: {len(results) - failed} of {len(results)} checks passed")
    return 1 if failed else 0


def _results(part: str, name: str, cls: type, make: Any) -> list[Any]:
    """What the checks of the plug-in's kind found."""
    from ..specs.options import told_by
    from ..specs.registry import registered_name

    if registered_name("baselines", cls):
        from ...codecs.classical.checks import run_checks

        with told_by(name):
            return run_checks(make)
    if part == "quantizer":
        from ...quantizers.checks.coding import coder_checks
        from ...quantizers.checks.contract import run_checks
        from ...quantizers.coding.entropy import decode_codes, encode_codes, information

        make(CHECKED_CHANNELS)  # a refused option is the user's mistake, not a failed check
        fresh = partial(make, CHECKED_CHANNELS)
        return run_checks(fresh) + coder_checks(fresh, encode_codes, decode_codes, information)
    from ...codecs.checks import run_checks
    from ...quantizers.identity import Identity

    make(lambda channels, share: Identity(channels))
    return run_checks(make)


CHECK = Command(
    "check", "run the contract's checks on a plug-in", EXAMPLES, _add_arguments, _check, groups=("quantizer", "codec")
)
