"""benchmark run: train, code and score; its --help also shows the options of the plug-ins that are named."""

import argparse
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from ..errors import UserError
from .command import SPEC_GROUPS, Command, Options, add_output_option, add_plugin_option, add_plugins, loading, settings

ABOUT = ("title", "revision", "licence", "citation", "url")  # of a corpus

EXAMPLES = """examples:
  benchmark run --quantizer nsvq --codec frae
  benchmark run --quantizer nsvq --quantizer.codebook_bits 8 --codec frae-l3-h2-r2 --training.steps 500
  benchmark run --quantizer nsvq:codebook_bits=8,ste_vq,ema_vq --codec frae,aec --seed 0:3
  benchmark run --data librispeech --data.root LibriSpeech --bitrate 2.4,4.8
  benchmark run --plugin my_vq.py --quantizer my_vq
  benchmark run --quantizer nsvq --print_config > run.yaml && benchmark run --config run.yaml
  benchmark run --quantizer nsvq --codec frae --help        (also shows the options of these two)

A plug-in's options are its constructor's arguments: --quantizer.OPTION, --codec.OPTION, --data.OPTION; likewise
--training.OPTION and --ace.OPTION (the cochlear front end). `name:option=value` sets one plug-in's own in a grid."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to run; several make a grid")
    what.add_argument("--quantizer", metavar="Q[,Q]", help="see benchmark ls quantizers (default: nsvq)")
    what.add_argument("--codec", metavar="C[,C]", help="see benchmark ls codecs (default: frae)")
    what.add_argument("--data", metavar="D[,D]", help="see benchmark ls data (default: demo)")
    what.add_argument("--bitrate", nargs="+", metavar="KBPS", help="measured kbit/s to aim at, 2.4 or 2.4,4.8")
    what.add_argument("--seed", nargs="+", metavar="N", help="0 or 0,1 or 0:5, which leaves 5 out (default: 0)")
    what.add_argument("--coder", metavar="CODER", help="range or huffman (default: the recipe's, or range)")
    add_plugin_option(what)
    how = parser.add_argument_group("how")
    how.add_argument("--profile", metavar="RECIPE", help="start from a recipe, see benchmark ls recipes")
    how.add_argument("--config", type=Path, metavar="FILE.yaml", help="start from a file, such as a run's spec.yaml")
    how.add_argument("--print_config", "--print-config", action="store_true", help="print the settings and do not run")
    add_output_option(how)
    how.add_argument("--force", action="store_true", help="run anew what has been run")
    how.add_argument("--wandb", nargs="?", const="offline", choices=("offline", "online"), help="log to wandb")
    how.add_argument("--quiet", action="store_true", help="print nothing but errors")
    how.add_argument(
        *("-h", "--help"),
        dest="print_help",
        action="store_const",
        const=parser.print_help,  # called when all words are read: the plug-ins may be named after it
        help="show this, and options of those named",
    )


def _run(arguments: argparse.Namespace, options: Options) -> int:
    if arguments.print_help:
        return _help(arguments)
    from ..specs.options import bitrates, seeds

    seeds(arguments.seed or 0)  # these two before torch is loaded
    bitrates(arguments.bitrate)
    console = loading(arguments, quiet=arguments.quiet or arguments.print_config)
    from ..specs.grid import make_specs

    specs = make_specs(**settings(arguments, options))
    if arguments.print_config:
        if len(specs) > 1:
            raise UserError(f"--print_config prints the settings of one run, not of {len(specs)}; name one of each")
        print("---\n".join(spec.to_yaml() for spec in specs), end="")
        return 0
    from ..runs.run import run_grid

    run_grid(specs, arguments.output_dir, arguments.force, arguments.wandb, console)
    return 0


def _help(arguments: argparse.Namespace) -> int:
    arguments.print_help()
    chosen = {part: getattr(arguments, part) for part in ("quantizer", "codec", "data")}
    if any(chosen.values()):
        add_plugins(arguments)
        print("\n" + options_help(chosen), end="")
    return 0


def options_help(chosen: Mapping[str, str | None]) -> str:
    """The options of the plug-ins named as on the command line, of training and of the front end, a section each."""
    from ..specs.options import named
    from ..specs.plugin import KINDS
    from ..specs.registry import lookup, registered_name
    from ..specs.spec import AceConfig
    from ..specs.training import Training

    names = {part: [name for name, _ in named(text)] for part, text in chosen.items() if text}
    sections = [_section(part, name, *lookup(KINDS[part], name)) for part in names for name in names[part]]
    codec = lookup("codecs", names["codec"][0])[0] if "codec" in names else None
    if codec is None or not registered_name("classical", codec):  # those are not trained
        sections.append(_section("training", "", Training, getattr(codec, "training_options", {})))
    sections.append(_section("ace", "", AceConfig, {}))
    return "\n".join(sections)


def _section(part: str, name: str, cls: type, preset: Mapping[str, Any]) -> str:
    """The options of one class, read from its constructor's signature and from docstrings."""
    from docstring_parser import parse

    from ..specs.options import options_of

    title = f"{part} {name}".strip()
    about = {key: getattr(cls, key, "") for key in ABOUT if part == "data"}
    source = "".join(f"  {key}: {text}\n" for key, text in about.items() if text)
    options = options_of(part, cls)
    if not options:
        return f"{title}: no options\n{source}"
    docstrings = [parse(base.__doc__ or "") for base in reversed(cls.__mro__)]
    texts = {entry.arg_name: entry.description for docstring in docstrings for entry in docstring.params}
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, add_help=False)
    group = parser.add_argument_group(f"{title}: {(docstrings[-1].short_description or '').rstrip('.')}")
    for option, parameter in options.items():
        place, default = f"--{part}.{option}", preset.get(option, parameter.default)
        metavar, kind = _value(place, parameter.annotation, default)
        group.add_argument(place, metavar=metavar, help=f"{texts.get(option) or ''} {kind}".strip().replace("%", "%%"))
    return f"{parser.format_help().strip()}\n{source}"


def _value(place: str, annotation: Any, default: Any) -> tuple[str, str]:
    """What an option's value is: as a placeholder, and in words."""
    from ...quantizers.base import Nested
    from ..specs.registry import registered_name

    if isinstance(default, Nested):
        name = registered_name("quantizers", default.cls) or default.cls.__name__
        return "QUANTIZER", f"(default: {name}); its options: {place}.OPTION"
    literal = get_origin(annotation) is Literal
    choices = ("true", "false") if annotation is bool else get_args(annotation) if literal else ()
    end = "required" if default is inspect.Parameter.empty else f"default: {'null' if default is None else default}"
    metavar = f"{{{','.join(map(str, choices))}}}" if choices else place.rpartition(".")[2].upper()
    return metavar, f"(type: {inspect.formatannotation(annotation)}, {end})"


RUN = Command(
    "run",
    "train, code and score every combination on real files",
    EXAMPLES,
    _add_arguments,
    _run,
    groups=SPEC_GROUPS,
    resumes=", without --force,",
    helps=True,
)
