"""What there is and whether it holds: the tables of `benchmark ls`, the options of a plug-in, its checks."""

import contextlib
import inspect
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...leaderboards.errors import nearest
from ..errors import UserError
from ..metrics.base import declared
from ..specs.options import create, named, options_of, parser_of, resolve, stages_of
from ..specs.recipes import recipes
from ..specs.registry import Kind, found, lookup, origin, presets, registered_name

KINDS: dict[str, Kind] = {"quantizers": "quantizers", "codecs": "codecs", "data": "datamodules"}
PARTS: dict[str, Kind] = {"quantizer": "quantizers", "codec": "codecs", "data": "datamodules"}
TOPICS = (*KINDS, "metrics", "recipes")
RATED_CHANNELS = 32
RATES = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 30, 40, 60, 80, 100)


def check_topic(what: str | None) -> None:
    """UserError where `benchmark ls` knows no such list."""
    if what is not None and what not in TOPICS:
        raise UserError(f"ls has no list of {what!r}{nearest(what, list(TOPICS))} There are: {', '.join(TOPICS)}")


def tables(what: str | None = None) -> list[Table]:
    """The tables of one topic, or of all."""
    several = {"codecs": [_table("codecs"), _classical()]} if what in (None, "codecs") else {}
    return [table for topic in TOPICS if what in (None, topic) for table in several.get(topic) or [_table(topic)]]


def complexities() -> Table:
    """What every codec and preset costs without its quantizer."""
    from ..runs.complexity import classical_latency, complexity_of

    lines = []
    for name in sorted([*found("codecs"), *presets("codecs")]):
        cost = complexity_of(name)
        numbers = f"{cost.parameters:,}", f"{cost.macs_per_second / 1e6:,.2f}", f"{cost.positions_per_second:.2f}"
        lines.append((name, *numbers, f"{1000 * cost.latency_s:.1f}", "yes" if cost.causal else "no"))
    for name in sorted([*found("classical"), *presets("classical")]):
        lines.append((name, "0", "", "", f"{1000 * classical_latency(name):.1f}", ""))
    table = _filled("codecs", ("name", "parameters", "MMAC/s", "positions/s", "latency ms", "causal"), lines)
    for column in table.columns[1:5]:
        column.justify = "right"
    table.caption = "encoder and decoder, without quantizer; sound at 16 kHz, 1,000 vectors or 1,000 pixels a second"
    table.caption_justify = "left"
    return table


def options_help(chosen: Mapping[str, str | None]) -> str:
    """The options of the plug-ins named as on the command line, of training and of the front end, a section each."""
    from ..specs.spec import AceConfig
    from ..specs.training import Training

    sections = []
    for part, text in chosen.items():
        for name, _ in named(text) if text else ():
            sections.append(_options_help(part, name, *lookup(PARTS[part], name)))
    text = chosen.get("codec")
    codec = named(text)[0].name if text else ""
    declared = getattr(lookup("codecs", codec)[0], "training_options", {}) if codec else {}
    if not (codec and registered_name("classical", lookup("codecs", codec)[0])):  # those are not trained
        sections.append(_options_help("training", "", Training, declared))
    sections.append(_options_help("ace", "", AceConfig, {}))
    return "\n".join(sections)


def check(part: str, text: str, given: Mapping[str, Any], console: Console, channels: int | None = None) -> int:
    """Run the contract's checks on a plug-in and print them; 1 if one fails."""
    from ..specs.contract import CHANNELS, codec_results, quantizer_results

    (name, own), *others = named(text)
    if others:
        raise UserError(f"check takes one {part} at a time, not {text}")
    cls, preset = lookup(PARTS[part], name)
    options = resolve(part, name, cls, {**preset, **given, **own})
    if part == "quantizer":
        make = partial(create, part, name, cls, options)
        try:
            results = quantizer_results(name, make, CHANNELS if channels is None else channels)
        except UserError as error:
            hint = "; --channels N checks it on others" if channels is None and "channels=" in str(error) else ""
            raise UserError(f"{error}{hint}") from error
    else:
        results = codec_results(name, cls, options)
    for result in results:
        mark, style = ("ok  ", "green") if result.passed else ("FAIL", "bold red")
        reason = f"\n     {escape(result.message)}" if result.message else ""
        console.print(f"[{style}]{mark}[/] {escape(result.name)} [dim]{result.seconds:.1f} s[/]{reason}")
    failed = sum(not result.passed for result in results)
    console.print(f"{escape(name)}: {len(results) - failed} of {len(results)} checks passed")
    return 1 if failed else 0


def _options_help(part: str, name: str, cls: type, preset: Mapping[str, Any]) -> str:
    title = f"{part} {name}".strip()
    about = {field: getattr(cls, field, "") for field in ("title", "revision", "licence", "citation", "url")}
    source = "".join(f"  {field}: {text}\n" for field, text in about.items() if text) if part == "data" else ""
    if not options_of(part, cls):
        return f"{title}: no options\n{source}"
    parser = parser_of(part, name, cls)
    parser.set_defaults({f"{part}.{option}": value for option, value in preset.items()})
    text = parser.format_help().partition("\n")[2].strip()
    text = re.sub(r"\s+--\S+ CONFIG\s+Path to a configuration file\.", "", text)
    text = re.sub(r", --\S+\+ \S+", "", text)  # jsonargparse's way to append to a list
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text)
    for option, stage in stages_of(part, cls).items():
        name = registered_name("quantizers", stage.cls) or stage.cls.__name__
        text += f"\n  --{part}.{option} QUANTIZER\n" + " " * 24
        text += f"(default: {name}); its options: --{part}.{option}.OPTION"
    return f"{title}: {text}\n{source}"


def _table(topic: str) -> Table:
    if topic == "metrics":
        lines = [(m.name, m.title, m.unit, "higher" if m.higher_is_better else "lower") for m in declared().values()]
        return _filled(topic, ("name", "metric", "unit", "better"), lines)
    if topic == "recipes":
        lines = [(name, _first_line(path.read_text(encoding="utf-8"))) for name, path in recipes().items()]
        return _filled(topic, ("name", "what"), lines)
    if topic == "data":
        return _corpora()
    kind = KINDS[topic]
    columns = ("name", "what", *(("bit",) if topic == "quantizers" else ()), "paper", "from")
    lines = [
        (name, _about(cls), *((_rates(cls),) if topic == "quantizers" else ()), getattr(cls, "paper", ""),
         origin(kind, name)) for name, cls in found(kind).items()
    ]  # fmt: skip
    table = _filled(topic, columns, lines)
    said = [f"bit: per position of {RATED_CHANNELS} channels, as --bitrate can ask for"] * (topic == "quantizers")
    said += ["presets: " + ", ".join(presets(kind))] * bool(presets(kind))
    table.caption, table.caption_justify = "\n".join(said) or None, "left"
    return table


def _classical() -> Table:
    """Codecs with nothing to train, which take no quantizer."""
    lines = [
        (name, _about(cls), _offered(cls), getattr(cls, "paper", ""), origin("classical", name))
        for name, cls in found("classical").items()
    ]
    table = _filled("codecs with nothing to train", ("name", "what", "kbit/s", "paper", "from"), lines)
    table.caption, table.caption_justify = "presets: " + ", ".join(presets("classical")), "left"
    return table


def _offered(cls: Any) -> str:
    rates = [f"{rate:g}" for rate in cls.bitrates]
    return ("-" if cls.between else ", ").join(rates) or "open"


def _corpora() -> Table:
    lines = [
        (name, getattr(cls, "title", _about(cls)), getattr(cls, "kind", ""), _hours(cls), getattr(cls, "licence", ""),
         origin("datamodules", name)) for name, cls in found("datamodules").items()
    ]  # fmt: skip
    table = _filled("data", ("name", "what", "kind", "hours", "licence", "from"), lines)
    table.columns[3].justify = "right"
    table.caption, table.caption_justify = "how to cite one, and its options: benchmark run --data NAME --help", "left"
    return table


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


def _filled(title: str, columns: tuple[str, ...], lines: list[tuple[str, ...]]) -> Table:
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[0].no_wrap = True
    for line in lines:
        table.add_row(*map(escape, line))
    return table


def _about(cls: type) -> str:
    """The first line of the plug-in's file, else of its class."""
    return _first_line(getattr(inspect.getmodule(cls), "__doc__", None) or cls.__doc__ or "")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].lstrip("# ").strip()
