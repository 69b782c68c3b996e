"""Pictures of runs, as PNG files: electrodograms, score against rate, training curves."""

import io
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from .records import Record, write_whole
from .rows import Row, name_of, rows
from .tables import SAME_RATE, label_of

DPI = 150
MARKERS = "osD^vP*Xhd<>"


def rate_score(records: Iterable[Record], path: Path | str, metric: str = "vstoi") -> None:
    """Draw a metric against measured kbit/s with its intervals: a marker a quantizer, the uncoded level dashed.

    Curves are set a few points apart sideways, so that runs at one rate do not hide each other. Runs without the
    metric or without a measured rate are left out. ValueError: all are.
    """
    shown = [row for row in rows(records) if metric in row.scores and row.rate_kbps["measured"] > 0]
    shown = [row for row in shown if np.isfinite(row.scores[metric].mean)]
    if not shown:
        raise ValueError(f"no record has both {metric} and a measured rate")
    figure = new_figure(7.0, 4.6)
    axis = figure.subplots()
    _curves(axis, shown, metric)
    _uncoded(axis, shown, metric)
    _rate_axis(axis, [row.rate_kbps["measured"] for row in shown])
    score = shown[0].scores[metric]
    unit = f" ({score.unit})" if score.unit else ""
    axis.set_ylabel(
        f"{label_of(metric, shown)}{unit}, 95 % interval, {'higher' if score.higher_is_better else 'lower'} is better"
    )
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5))
    save_figure(figure, path)


def _curves(axis: Axes, shown: list[Row], metric: str) -> None:
    """Every curve along its rates; markers by quantizer, colours by curve."""
    quantizers = list(dict.fromkeys(name_of(row.spec, "quantizer") for row in shown))
    curves = sorted(_joined(shown).items())
    for i, (label, points) in enumerate(curves):
        aside = ScaledTranslation((i - (len(curves) - 1) / 2) * 4 / 72, 0, axis.figure.dpi_scale_trans)
        scores = [row.scores[metric] for row in points]
        errors = np.nan_to_num([[s.mean - s.low for s in scores], [s.high - s.mean for s in scores]])
        curve = axis.errorbar(
            [row.rate_kbps["measured"] for row in points],
            [score.mean for score in scores],
            yerr=np.maximum(errors, 0),
            marker=MARKERS[quantizers.index(name_of(points[0].spec, "quantizer")) % len(MARKERS)],
            capsize=3,
            linewidth=1,
            label=label,
        )
        for artist in curve.get_children():  # after it has set the limits
            artist.set_transform(axis.transData + aside)


def _joined(shown: list[Row]) -> dict[str, list[Row]]:
    """Rows of one quantizer, codec and data set by rising rate; apart where two have one rate, being variants."""
    parts = [part for part in ("codec", "data") if len({name_of(row.spec, part) for row in shown}) > 1]
    curves: dict[str, list[Row]] = {}
    for row in sorted(shown, key=lambda row: row.rate_kbps["measured"]):
        curves.setdefault(" · ".join(name_of(row.spec, part) for part in ("quantizer", *parts)), []).append(row)
    for label, points in list(curves.items()):
        rates = [row.rate_kbps["measured"] for row in points]
        if any(after < SAME_RATE * before for before, after in pairwise(rates)):
            del curves[label]
            for row in points:
                curves.setdefault(" · ".join([row.quantizer, *(getattr(row, part) for part in parts)]), []).append(row)
    return curves


def _rate_axis(axis: Axes, rates: list[float]) -> None:
    axis.set_xlabel("measured rate (kbit/s); curves set apart sideways")
    if max(rates) > 8 * min(rates):
        axis.set_xscale("log")
    else:  # rates that are nearly one must not look far apart
        axis.set_xlim(min(axis.get_xlim()[0], 0.9 * min(rates)), max(axis.get_xlim()[1], 1.1 * max(rates)))


def _uncoded(axis: Axes, shown: list[Row], metric: str) -> None:
    levels = {}
    for row in shown:
        if f"{metric}_uncoded" in row.scores:
            levels[round(row.scores[f"{metric}_uncoded"].mean, 6)] = name_of(row.spec, "data")
    for level, data in levels.items():
        label = "uncoded" if len(levels) == 1 else f"uncoded, {data}"
        axis.axhline(level, linestyle="--", linewidth=1, color="0.4", label=label)


def new_figure(width: float, height: float) -> Figure:
    """An empty picture, width and height in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a picture as PNG, whole or not at all. RecordError where it cannot be written."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_whole(path, picture.getvalue())
