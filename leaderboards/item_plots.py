"""Pictures of the items behind scores: box plots, score against rate, means at each value of a condition."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from .plots import MARKERS, new_figure, save_figure
from .statistics import bootstrap_mean

APART = 5.0  # points between names that share their abscissas
WIDEST = 8  # ratio of rates from which on their axis is logarithmic


class Point(NamedTuple):
    """A mean with its interval, at a place on the abscissa."""

    x: float
    mean: float
    low: float
    high: float


class Labels(NamedTuple):
    """What is written at a picture."""

    title: str
    x: str
    y: str
    reference: str = "uncoded"  # what the dashed line is


def boxes(values: Mapping[str, Sequence[float]], path: Path | str, labels: Labels, reference: float | None) -> None:
    """Draw a box for every name: median, quartiles, whiskers of 1.5 interquartile ranges, the mean as a triangle.

    A dashed line marks `reference`. ValueError: nothing to draw.
    """
    kept = {name: [value for value in series if np.isfinite(value)] for name, series in values.items()}
    kept = {name: series for name, series in kept.items() if series}
    if not kept:
        raise ValueError("no values to draw")
    figure = new_figure(max(5.0, 1.6 + 0.75 * len(kept)), 5.0)
    axis = figure.subplots()
    drawn = axis.boxplot(
        list(kept.values()), widths=0.6, showmeans=True, patch_artist=True, flierprops={"marker": ".", "markersize": 3}
    )
    for number, box in enumerate(drawn["boxes"]):
        box.set(facecolor=f"C{number % 10}", alpha=0.35)
    axis.set_xticks(range(1, len(kept) + 1), list(kept), rotation=35, ha="right")
    _finish(axis, labels, reference)
    if reference is not None:
        axis.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)
    save_figure(figure, path)


def curves(
    points: Mapping[str, Sequence[Point]],
    path: Path | str,
    labels: Labels,
    reference: float | None,
    apart: float = 0.0,
) -> None:
    """Draw a line through the points of every name, with their intervals; names `apart` typographic points sideways.

    ValueError: nothing to draw.
    """
    kept = {name: sorted(series) for name, series in points.items() if series}
    if not kept:
        raise ValueError("no points to draw")
    figure = new_figure(8.0, 4.8)
    axis = figure.subplots()
    for number, (name, series) in enumerate(kept.items()):
        x, mean, low, high = np.array(series, dtype=np.float64).T
        bars = np.nan_to_num([mean - low, high - mean]).clip(0)
        drawn = axis.errorbar(
            x, mean, yerr=bars, marker=MARKERS[number % len(MARKERS)], capsize=3, linewidth=1, markersize=5, label=name
        )
        aside = ScaledTranslation((number - (len(kept) - 1) / 2) * apart / 72, 0, figure.dpi_scale_trans)
        for artist in drawn.get_children() if apart else ():
            artist.set_transform(axis.transData + aside)
    places = [point.x for series in kept.values() for point in series]
    if min(places) > 0 and max(places) > WIDEST * min(places):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    _finish(axis, labels, reference)
    axis.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5))
    save_figure(figure, path)


def by_condition(
    values: Mapping[str, Sequence[tuple[float, float]]],
    path: Path | str,
    labels: Labels,
    reference: float | None,
) -> None:
    """Draw means and 95 % intervals at each value of a condition, from (condition, value) of every item."""
    curves({name: _means(series) for name, series in values.items()}, path, labels, reference, APART)


def _means(pairs: Sequence[tuple[float, float]]) -> list[Point]:
    there = sorted({condition for condition, _ in pairs})
    return [Point(at, *bootstrap_mean([value for condition, value in pairs if condition == at])) for at in there]


def _finish(axis: Axes, labels: Labels, reference: float | None) -> None:
    if reference is not None:
        axis.axhline(reference, linestyle="--", linewidth=1, color="0.4", label=labels.reference)
    axis.set_title(labels.title, loc="left", fontsize="medium")
    axis.set_xlabel(labels.x)
    axis.set_ylabel(labels.y)
    axis.grid(alpha=0.25)
