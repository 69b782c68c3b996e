"""benchmark ls: what there is, with its papers, rates, licences and costs; a topic loads no more than it lists."""

import argparse
import contextlib
import inspect
from typing import TYPE_CHECKING, Any

from ...leaderboards.errors import nearest
from ..errors import UserError
from ..specs.registry import Kind, found, origin, presets
from .command import Command, Options, add_plugin_option, add_plugins, console_of

if TYPE_CHECKING:
    from rich.table import Table

TOPICS = ("quantizers", "codecs", "data", "metrics", "recipes")
RATED_CHANNELS = 32
RATES = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 30, 40, 60, 80, 100)

EXAMPLES = """examples:
  benchmark ls
  benchmark ls codecs
  benchmark ls codecs --complexity        (parameters, operations and latency of every codec and preset)"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", metavar="WHAT", help="quantizers, codecs, data, metrics or recipes")
    parser.add_argument(
        "--complexity", action="store_true", help="of codecs: parameters, operations, latency (takes some seconds)"
    )
    add_plugin_option(parser)


def _ls(arguments: argparse.Namespace, _: Options) -> int:
    what = arguments.what
    if what is not None and what not in TOPICS:
        raise UserError(f"ls has no list of {what!r}{nearest(what, list(TOPICS))} There are: {', '.join(TOPICS)}")
    if arguments.complexity and what != "codecs":
        raise UserError("--complexity is for benchmark ls codecs")
    add_plugins(arguments)
    console = console_of()
    for table in [complexities()] if arguments.complexity else tables(what):
        console.print(table)
    return 0


def tables(what: str | None = None) -> "list[Table]":
    """The tables of one topic, or of all."""
    makers = ((_quantizers,), (_codecs, _classical), (_corpora,), (_metrics,), (_recipes,))
    return [make() for topic, some in zip(TOPICS, makers, strict=True) if what in (None, topic) for make in some]


def complexities() -> "Table":
    """What every codec and preset costs without its quantizer."""
    from ..runs.complexity import classical_latency, complexity_of

    lines = []
    for name in sorted([*found("codecs"), *presets("codecs")]):
        cost = complexity_of(name)
        numbers = f"{cost.parameters:,}", f"{cost.macs_per_second / 1e6:,.2f}", f"{cost.positions_per_second:.2f}"
        lines.append((name, *numbers, f"{1000 * cost.latency_s:.1f}", "yes" if cost.causal else "no"))
    for name in sorted([*found("classical"), *presets("classical")]):
        lines.append((name, "0", "", "", f"{1000 * classical_latency(name):.1f}", ""))
    caption = "encoder and decoder, without quantizer; sound at 16 kHz, 1,000 vectors or 1,000 pixels a second"
    table = _filled("codecs", ("name", "parameters", "MMAC/s", "positions/s", "latency ms", "causal"), lines, caption)
    for column in table.columns[1:5]:
        column.justify = "right"
    return table


def _quantizers() -> "Table":
    lines = [
        (name, _about(cls), _rates(cls), *_source("quantizers", name, cls)) for name, cls in found("quantizers").items()
    ]
    rated = f"bit: per position of {RATED_CHANNELS} channels, as --bitrate can ask for"
    caption = "\n".join([rated, *_presets("quantizers")])
    return _filled("quantizers", ("name", "what", "bit", "paper", "from"), lines, caption)


def _codecs() -> "Table":
    lines = [(name, _about(cls), *_source("codecs", name, cls)) for name, cls in found("codecs").items()]
    return _filled("codecs", ("name", "what", "paper", "from"), lines, *_presets("codecs"))


def _classical() -> "Table":
    """Codecs with nothing to train, which take no quantizer."""
    lines = []
    for name, cls in found("classical").items():
        rates = ("-" if cls.between else ", ").join(f"{rate:g}" for rate in cls.bitrates)  # type: ignore[attr-defined]
        lines.append((name, _about(cls), rates or "open", *_source("classical", name, cls)))
    columns = ("name", "what", "kbit/s", "paper", "from")
    return _filled("codecs with nothing to train", columns, lines, *_presets("classical"))


def _corpora() -> "Table":
    lines = []
    for name, cls in found("datamodules").items():
        kind, licence, hours = (getattr(cls, key, "") for key in ("kind", "licence", "hours"))
        duration = "" if hours in ("", None) else f"{hours:.3g}"
        title = getattr(cls, "title", _about(cls))
        lines.append((name, title, kind, duration, licence, origin("datamodules", name)))
    caption = "how to cite one, and its options: benchmark run --data NAME --help"
    table = _filled("data", ("name", "what", "kind", "hours", "licence", "from"), lines, caption)
    table.columns[3].justify = "right"
    return table


def _metrics() -> "Table":
    from ..metrics.base import declared

    lines = [(m.name, m.title, m.unit, "higher" if m.higher_is_better else "lower") for m in declared().values()]
    return _filled("metrics", ("name", "metric", "unit", "better"), lines)


def _recipes() -> "Table":
    from ..specs.recipes import recipes

    lines = [(name, _first_line(path.read_text(encoding="utf-8"))) for name, path in recipes().items()]
    return _filled("recipes", ("name", "what"), lines)


def _filled(title: str, columns: tuple[str, ...], lines: list[tuple[str, ...]], caption: str | None = None) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[0].no_wrap = True
    for line in lines:
        table.add_row(*map(escape, line))
    table.caption, table.caption_justify = caption, "left"
    return table


def _source(kind: Kind, name: str, cls: type) -> tuple[str, str]:
    return getattr(cls, "paper", ""), origin(kind, name)


def _presets(kind: Kind) -> list[str]:
    """The line of a caption, if there are any."""
    return ["presets: " + ", ".join(presets(kind))] * bool(presets(kind))


def _rates(cls: Any) -> str:
    """The rates that a quantizer can be asked for, among RATES."""
    met = []
    for bits in RATES:
        with contextlib.suppress(ValueError):
            cls.for_rate(RATED_CHANNELS, float(bits))
            met.append(bits)
    return f"{met[0]}-{met[-1]}{'+' * (met[-1] == RATES[-1])}" if met else "fixed"


def _about(cls: type) -> str:
    """The first line of the plug-in's file, else of its class."""
    return _first_line(getattr(inspect.getmodule(cls), "__doc__", None) or cls.__doc__ or "")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].lstrip("# ").strip()


LS = Command("ls", "what there is: quantizers, codecs, data, metrics, recipes", EXAMPLES, _add_arguments, _ls)
