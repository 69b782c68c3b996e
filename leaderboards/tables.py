"""Leaderboards of many runs, for the terminal and as Markdown: drawn from records, with nothing that is not in them."""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from .matching import at_rate
from .records import Record, Score
from .rows import UNKNOWN, Row, comparable, flattened, metrics_of, rows

PROTOCOL = "What is held equal, and what these words mean: docs/protocol.md"
MANY = 1e6  # symbols of an alphabet beyond which its unused ones say nothing, such as all floats
SAME_RATE = 1.05  # measured rates within this ratio count as one
NAMES = 2  # columns of text, left-aligned; the rest are numbers
LONGEST = 13  # characters of a name before it folds: frae-l5-h3-r4
SPREAD = 100  # characters over which a table spreads where the terminal has them
DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
LABELS = {"dvstoi": "dVSTOI", "two_f": "2f", "visqol": "ViSQOL", "visqol_audio": "ViSQOL-AUDIO"}  # of older records


class Section(NamedTuple):
    """One table: rows of one track on the same data, as text; a cell may have a second, lesser line."""

    title: str
    header: list[str]
    cells: list[list[str]]
    notes: list[str]


def label_of(metric: str, shown: Iterable[Row] = ()) -> str:
    """How a metric is written in tables and pictures, as the records of rows say: "VSTOI", "dVSTOI", "PESQ-WB"."""
    label = next((row.labels[metric] for row in shown if metric in row.labels), None)
    return label or LABELS.get(metric) or metric.upper().replace("_", "-")


def sections(records: Iterable[Record], at: float | None = None) -> list[Section]:
    """The tables of a leaderboard, one for each track and data set; at one bitrate in kbit/s where it is given."""
    shown, lacking = rows(records), []
    if at is not None:
        shown, lacking = at_rate(shown, at)
    same_data = [list(same) for _, same in groupby(shown, key=comparable)]
    titles = [_title(same) for same in same_data]
    for i in [i for i, title in enumerate(titles) if titles.count(title) > 1]:  # such as two folders
        titles[i] += f" · data {str(same_data[i][0].spec.get('data_fingerprint'))[:8]}"
    made = [_section(title, same) for title, same in zip(titles, same_data, strict=True)]
    if at is None:
        return made
    return [
        section._replace(title=f"{section.title} · at {at:g} kbit/s", notes=[*section.notes, *lacking])
        for section in made or [Section("no method is measured on both sides", [], [], [])]
    ]


def terminal_table(records: Iterable[Record], at: float | None = None) -> Table:
    """The leaderboard for rich: a table for each track and data set, one below the other."""
    grid = Table.grid()
    for section in sections(records, at):
        table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, min_width=SPREAD)
        for column, header in enumerate(section.header):
            side, most = ("left", LONGEST) if column < NAMES else ("right", None)
            table.add_column(_two_lines(header, "bold"), justify=side, max_width=most, overflow="fold")
        for cells in section.cells:
            table.add_row(*map(_two_lines, cells))
        for part in (Text(section.title, "bold"), "", table, "", *(Text(note, "dim") for note in section.notes), ""):
            grid.add_row(part)
    if not grid.row_count:
        grid.add_row("no records")
    else:
        grid.add_row(Text(PROTOCOL, "dim"))
    return grid


def markdown_table(records: Iterable[Record], at: float | None = None) -> str:
    """The leaderboard as Markdown: the same cells in aligned columns, the notes as a list below."""
    parts = []
    for section in sections(records, at):
        if not section.header:
            parts += [f"### {section.title}\n", *(f"- {note}" for note in section.notes), ""]
            continue
        lines = [
            [cell.replace("\n", " ").replace("|", "\\|") for cell in line] for line in (section.header, *section.cells)
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rule = ["-" * w if i < NAMES else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
        table = [_padded(line, widths) for line in (lines[0], rule, *lines[1:])]
        parts += [f"### {section.title}\n", *table, ""]
        parts += [*(f"- {note}" for note in section.notes), ""] if section.notes else []
    parts += [f"{PROTOCOL}\n"] if parts else []
    return "\n".join(parts) or "No records.\n"


# -- cells -------------------------------------------------------------------------------------------------------------


def _two_lines(cell: str, style: str = "") -> Text:
    first, _, second = cell.partition("\n")
    return Text(first, style).append(f"\n{second}" if second else "", "not bold dim")


def _padded(line: list[str], widths: list[int]) -> str:
    sides = ["<" if column < NAMES else ">" for column in range(len(line))]
    return "| " + " | ".join(f"{cell:{side}{w}}" for cell, side, w in zip(line, sides, widths, strict=True)) + " |"


def _title(same: list[Row]) -> str:
    options = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in flattened(same[0].spec.get("data")).items()]
    options = [option for option in options if not option.startswith(("name=", "="))]
    items = {row.scores[metric].n for row in same for metric in metrics_of(same)[:1] if metric in row.scores}
    counted = [f"{'/'.join(map(str, sorted(items)))} items"] if items else []
    return " · ".join([same[0].track, " ".join([same[0].data, *options]), *counted])


def _section(title: str, same: list[Row]) -> Section:
    metrics = metrics_of(same)
    distinct = list(dict.fromkeys(mark for row in same for mark in row.marks))
    common = [mark for mark in distinct if all(mark in row.marks for row in same)]
    marks = [mark for mark in distinct if mark not in common]
    header = ["quantizer", "codec", "seeds", *(_head(metric, same) for metric in metrics)]
    header[NAMES + 1] += " [95 %]"
    header += ["kbit/s ↓\nmeasured\n(entropy,\nnominal)", "perplexity\n(dead/size)", "weights"]
    notes = [f"{_sign(i)} {mark}" for i, mark in enumerate(marks, 1)]
    notes += [f"all rows: {mark}" if len(same) > 1 else mark for mark in common]
    return Section(title, header, [_cells(row, metrics, marks) for row in same], [*notes, *_notes(same, metrics[0])])


def _cells(row: Row, metrics: Sequence[str], marks: list[str]) -> list[str]:
    signs = [_sign(marks.index(mark) + 1) for mark in row.marks if mark in marks]
    scores = [_score(row.scores.get(metric), metric, metric == metrics[0]) for metric in metrics]
    rate = {key: UNKNOWN if math.isnan(kbps) else f"{kbps:.2f}" for key, kbps in row.rate_kbps.items()}
    book = {key: UNKNOWN if math.isnan(value) else f"{value:.3g}" for key, value in row.codebook.items()}
    dead = f"\n({book['dead']}/{book['size']})" if 0 < row.codebook["size"] < MANY else ""  # open: 0
    name, _, options = row.quantizer.partition(" ")
    return [
        "\n".join(filter(None, [" ".join([name, *signs]), options])),
        row.codec.replace(" ", "\n", 1),
        str(len(row.seeds)),
        *scores,
        f"{rate['measured']}\n({rate['entropy']}, {rate['nominal']})",
        f"{book['perplexity']}{dead}",
        UNKNOWN if math.isnan(row.parameters) else f"{row.parameters:,.0f}",
    ]


def _notes(same: list[Row], main: str) -> list[str]:
    notes = []
    levels = [row.scores[f"{main}_uncoded"].mean for row in same if f"{main}_uncoded" in row.scores]
    if levels and not math.isnan(sum(levels)):
        low, high = _number(min(levels)), _number(max(levels))
        notes.append(f"uncoded {label_of(main, same)}: {low if low == high else f'{low} to {high}'}")
    rates = [row.rate_kbps["measured"] for row in same if row.rate_kbps["measured"] > 0]
    if rates and max(rates) > SAME_RATE * min(rates):
        notes.append(f"measured rates differ ({min(rates):.2f} to {max(rates):.2f} kbit/s): compare rows of like rate")
    if len(same) > 1 and any(row.scores[main].low <= row.scores[main].high for row in same if main in row.scores):
        notes.append("rows share their items: intervals that overlap do not mean that two rows are alike")
    return notes


def _head(metric: str, same: list[Row]) -> str:
    score = next((row.scores[metric] for row in same if metric in row.scores), None)
    if score is None:
        return label_of(metric, same)
    return f"{label_of(metric, same)}\n{score.unit} {'↑' if score.higher_is_better else '↓'}".replace("\n ", "\n")


def _score(score: Score | None, metric: str, interval: bool) -> str:
    if score is None or math.isnan(score.mean):
        return UNKNOWN
    mean = _number(score.mean, "+" if metric == "dvstoi" else "")
    if not interval or math.isnan(score.low + score.high):
        return mean
    return f"{mean}\n[{_number(score.low)}, {_number(score.high)}]"


def _number(value: float, sign: str = "") -> str:
    if 0 < value < 0.1 and not sign:  # such as a squared error
        return f"{value:.3g}"
    return f"{value:{sign}.3f}" if abs(value) < 10 else f"{value:{sign}.1f}"


def _sign(number: int) -> str:
    return str(number).translate(DIGITS)
