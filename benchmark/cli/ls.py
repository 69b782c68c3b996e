"""benchmark ls: what there is, with its papers, rates, licences and costs.

To list plug-ins is to load them all, which takes seconds: what was listed is kept until a file or a package changes.
"""

import argparse
import contextlib
import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...datamodules.parts.memory import cache_folder
from ...leaderboards.errors import RecordError, nearest
from ..errors import UserError
from ..specs.registry import BASES, PACKAGE, Kind, all_loaded, found, origin, presets
from .command import Command, Options, add_plugin_option, add_plugins, console_of

if TYPE_CHECKING:
    from rich.table import Table

SLOW = ("quantizers", "codecs", "data")
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
    if arguments.complexity:
        console.print(complexities())
        return 0
    for listing in listings(what, kept=not arguments.plugin):
        console.print(_filled(listing))
    return 0


class Listing(NamedTuple):
    """A table, as text."""

    title: str
    columns: list[str]
    lines: list[list[str]]
    caption: str | None = None


def listings(what: str | None = None, kept: bool = False) -> list[Listing]:
    """Those of one topic, or of all; `kept`: as they were made before, where that serves."""
    makers = {
        "quantizers": [_quantizers],
        "codecs": [_codecs, _classical],
        "data": [_corpora],
        "metrics": [_metrics],
        "recipes": [_recipes],
    }
    chosen = {topic: makers[topic] for topic in TOPICS if what in (None, topic)}
    return [
        listing
        for topic, made in chosen.items()
        for listing in (_kept(topic, made) if kept and topic in SLOW else [make() for make in made])
    ]


def _kept(topic: str, makers: Sequence[Callable[[], Listing]]) -> list[Listing]:
    """The listings of an earlier call, while no file of the package and no installed plug-in has changed since."""
    root, state = Path(__file__).parents[2], hashlib.sha256(sys.version.encode())
    for path in sorted(root.rglob("*.py")):
        state.update(f"{path}{path.stat().st_mtime_ns}{path.stat().st_size}".encode())
    for point in (point for kind in BASES for point in entry_points(group=f"{PACKAGE}.{kind}")):
        state.update(f"{point.group}{point.name}{point.value}{point.dist and point.dist.version}".encode())
    path = cache_folder() / f"ls-{topic}-{state.hexdigest()[:16]}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return [Listing(*listing) for listing in json.loads(path.read_text(encoding="utf-8"))]
    made = [make() for make in makers]
    if all_loaded():
        from ...leaderboards.records import write_whole

        with contextlib.suppress(OSError, RecordError):  # it is made anew the next time
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(made))
    return made


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
    listing = _listing(
        "codecs", ("name", "parameters", "MMAC/s", "positions/s", "latency ms", "causal"), lines, caption
    )
    table = _filled(listing)
    for column in table.columns[1:5]:
        column.justify = "right"
    return table


def _quantizers() -> Listing:
    lines = [
        (name, _about(cls), _rates(cls), *_source("quantizers", name, cls)) for name, cls in found("quantizers").items()
    ]
    rated = f"bit: per position of {RATED_CHANNELS} channels, as --bitrate can ask for"
    caption = "\n".join([rated, *_presets("quantizers")])
    return _listing("quantizers", ("name", "what", "bit", "paper", "from"), lines, caption)


def _codecs() -> Listing:
    lines = [(name, _about(cls), *_source("codecs", name, cls)) for name, cls in found("codecs").items()]
    return _listing("codecs", ("name", "what", "paper", "from"), lines, *_presets("codecs"))


def _classical() -> Listing:
    """Codecs with nothing to train, which take no quantizer."""
    lines = [
        (name, _about(cls), _offered(cls), *_source("classical", name, cls)) for name, cls in found("classical").items()
    ]
    columns = ("name", "what", "kbit/s", "paper", "from")
    return _listing("codecs with nothing to train", columns, lines, *_presets("classical"))


def _corpora() -> Listing:
    lines = [
        (name, getattr(cls, "title", _about(cls)), getattr(cls, "kind", ""), _hours(cls), getattr(cls, "licence", ""),
         origin("datamodules", name)) for name, cls in found("datamodules").items()
    ]  # fmt: skip
    caption = "how to cite one, and its options: benchmark run --data NAME --help"
    return _listing("data", ("name", "what", "kind", "hours", "licence", "from"), lines, caption)


def _metrics() -> Listing:
    from ..metrics.base import declared

    lines = [(m.name, m.title, m.unit, "higher" if m.higher_is_better else "lower") for m in declared().values()]
    return _listing("metrics", ("name", "metric", "unit", "better"), lines)


def _recipes() -> Listing:
    from ..specs.recipes import recipes

    lines = [(name, _first_line(path.read_text(encoding="utf-8"))) for name, path in recipes().items()]
    return _listing("recipes", ("name", "what"), lines)


def _listing(title: str, columns: Any, lines: list[tuple[str, ...]], caption: str | None = None) -> Listing:
    return Listing(title, list(columns), [list(line) for line in lines], caption)


def _filled(listing: Listing) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    style: dict[str, Any] = {"title_justify": "left", "box": None, "pad_edge": False, "padding": (0, 2, 0, 0)}
    table = Table(*listing.columns, title=listing.title, **style)
    table.columns[0].no_wrap = True
    for column in table.columns:
        column.justify = "right" if column.header == "hours" else "left"
    for line in listing.lines:
        table.add_row(*map(escape, line))
    table.caption, table.caption_justify = listing.caption, "left"
    return table


def _source(kind: Kind, name: str, cls: type) -> tuple[str, str]:
    return getattr(cls, "paper", ""), origin(kind, name)


def _presets(kind: Kind) -> list[str]:
    """The line of a caption, if there are any."""
    return ["presets: " + ", ".join(presets(kind))] * bool(presets(kind))


def _offered(cls: Any) -> str:
    rates = [f"{rate:g}" for rate in cls.bitrates]
    return ("-" if cls.between else ", ").join(rates) or "open"


def _hours(cls: type) -> str:
    hours = getattr(cls, "hours", None)
    return "" if hours is None else f"{hours:.3g}"


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
