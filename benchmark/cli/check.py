"""benchmark check: the contract, run on a plug-in."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .command import Command, Options, add_plugin_option, loading

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = """examples:
  benchmark check --quantizer nsvq --quantizer.codebook_bits 3
  benchmark check --plugin my_vq.py --quantizer my_vq"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--quantizer", metavar="NAME", help="the quantizer to check")
    subject.add_argument("--codec", metavar="NAME", help="the codec to check")
    parser.add_argument("--channels", type=int, metavar="C", help="of the latents of a quantizer (default: 5)")
    add_plugin_option(parser)


def _check(arguments: argparse.Namespace, options: Options) -> int:
    part = "quantizer" if arguments.quantizer else "codec"
    if arguments.channels is not None and part == "codec":
        raise UserError("check --codec takes no --channels; a codec gives its quantizers as many as it has")
    strange = [f"--{group}.{option}" for group in options if group != part for option in options[group]]
    if strange:
        raise UserError(f"check --{part} takes no {strange[0]}; its options are --{part}.OPTION")
    console = loading(arguments)
    return check(part, getattr(arguments, part), options.get(part, {}), console, arguments.channels)


def check(part: str, text: str, options: Mapping[str, Any], console: "Console", channels: int | None = None) -> int:
    """Run the contract's checks on a plug-in and print them; 1 if one fails."""
    from rich.markup import escape

    from ..specs.contract import CHANNELS, codec_results, quantizer_results
    from ..specs.options import named, resolve
    from ..specs.plugin import KINDS, Plugin
    from ..specs.registry import lookup

    (name, inline), *others = named(text)
    if others:
        raise UserError(f"check takes one {part} at a time, not {text}")
    cls, preset = lookup(KINDS[part], name)
    plugin: Plugin[Any] = Plugin(part, name, cls, resolve(part, name, cls, {**preset, **options, **inline}))
    try:
        if part == "codec":
            results = codec_results(plugin)
        else:
            results = quantizer_results(name, plugin.build, CHANNELS if channels is None else channels)
    except UserError as error:
        hinted = part == "quantizer" and channels is None and "channels=" in str(error)
        raise UserError(f"{error}{'; --channels N checks it on others' * hinted}") from error
    for result in results:
        mark, style = ("ok  ", "green") if result.passed else ("FAIL", "bold red")
        reason = f"\n     {escape(result.message)}" if result.message else ""
        console.print(f"[{style}]{mark}[/] {escape(result.name)} [dim]{result.seconds:.1f} s[/]{reason}")
    failed = sum(not result.passed for result in results)
    console.print(f"{escape(name)}: {len(results) - failed} of {len(results)} checks passed")
    return 1 if failed else 0


CHECK = Command(
    "check", "run the contract's checks on a plug-in", EXAMPLES, _add_arguments, _check, groups=("quantizer", "codec")
)
