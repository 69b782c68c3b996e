"""Scores at one bitrate: interpolated between measured rate-score points of a method, never extrapolated."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from .errors import RecordError
from .records import Score
from .rows import Row, comparable, metrics_of

EXACT = 0.01  # a point this near in rate stands for itself


def at_rate(rows: Iterable[Row], kbps: float) -> tuple[list[Row], list[str]]:
    """Rows at `kbps` measured, best first, and a line for every method that has no points on both sides.

    Points of one method are rows whose specs differ in nothing but the bitrate asked for. Between two neighbours a
    score, and its interval, is linear in the logarithm of the measured rate. RecordError: `kbps` is no bitrate.
    """
    if not 0 < kbps < math.inf:
        raise RecordError(f"{kbps:g} is no bitrate; write a positive number of kbit/s")
    shown, lacking = [], []
    for _, same in groupby(rows, key=comparable):
        methods: dict[str, list[Row]] = {}
        for row in same:
            spec = {key: value for key, value in row.spec.items() if key != "bitrate"}
            methods.setdefault(json.dumps(spec, sort_keys=True, default=str), []).append(row)
        matched = [(points[0], _between(points, kbps)) for points in methods.values()]
        met = [replace(row, quantizer=_plain(row.quantizer)) for _, row in matched if row is not None]
        shown += sorted(met, key=_order)
        lacking += [_lacking(methods[key], kbps) for key, (_, row) in zip(methods, matched, strict=True) if row is None]
    return shown, lacking


def _between(points: Sequence[Row], kbps: float) -> Row | None:
    measured = sorted((p for p in points if p.rate_kbps["measured"] > 0), key=lambda p: p.rate_kbps["measured"])
    near = [p for p in measured if abs(p.rate_kbps["measured"] / kbps - 1) <= EXACT]
    if near:
        return min(near, key=lambda p: abs(p.rate_kbps["measured"] - kbps))
    for low, high in pairwise(measured):
        first, second = low.rate_kbps["measured"], high.rate_kbps["measured"]
        if first < kbps < second:
            share = math.log(kbps / first) / math.log(second / first)
            marks = dict.fromkeys((*low.marks, *high.marks, f"interpolated from {first:.2f} and {second:.2f} kbit/s"))
            scores = {
                metric: _mixed(low.scores[metric], high.scores[metric], share)
                for metric in low.scores.keys() & high.scores.keys()
            }
            rate = {key: math.nan for key in low.rate_kbps} | {"measured": kbps}
            book = {key: math.nan for key in low.codebook}
            return replace(low, scores=scores, rate_kbps=rate, codebook=book, marks=tuple(marks), parameters=math.nan)
    return None


def _mixed(low: Score, high: Score, share: float) -> Score:
    mean, below, above = (a + share * (b - a) for a, b in zip(low[:3], high[:3], strict=True))
    return low._replace(mean=mean, low=below, high=above, n=min(low.n, high.n), failed=low.failed + high.failed)


def _lacking(points: Sequence[Row], kbps: float) -> str:
    rates = ", ".join(f"{rate:.2f}" for rate in sorted(p.rate_kbps["measured"] for p in points))
    name = f"{_plain(points[0].quantizer)} with {points[0].codec}"
    return f"{name} is left out: measured at {rates} kbit/s, which does not enclose {kbps:g}"


def _plain(name: str) -> str:
    return re.sub(r" bitrate=\S+", "", name)


def _order(row: Row) -> float:
    score = row.scores.get(metrics_of([row])[0])
    if score is None or math.isnan(score.mean):
        return math.inf
    return -score.mean if score.higher_is_better else score.mean
