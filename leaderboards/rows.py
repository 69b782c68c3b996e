"""The rows of a leaderboard: runs that differ in their seed alone, made one."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from .records import Record, Score
from .statistics import across_seeds

COLUMNS = {  # the metrics a track shows where its records do not say it; it is sorted by the first
    "cochlear": ("vstoi", "dvstoi", "estoi"),
    "speech": ("estoi", "pesq_wb", "si_sdr"),
    "audio": ("nmr", "snr"),
    "image": ("ssim", "psnr"),
    "vector": ("mse",),
}
PLACES = ("root", "download", "mirror")  # options of the data that say where it lies, not what it is
UNKNOWN = "–"
NONE = "none"  # the quantizer of a codec that has none; its rows are told apart by their codecs


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seed alone: scores with intervals over items and seeds, the rest averaged."""

    track: str
    quantizer: str  # with the options that tell it from its namesakes
    codec: str
    data: str
    seeds: tuple[Any, ...]
    scores: dict[str, Score]
    rate_kbps: dict[str, float]  # nominal, entropy, measured; NaN where unknown
    codebook: dict[str, float]  # perplexity, size, dead; NaN where unknown
    parameters: float
    marks: tuple[str, ...]  # what to know before believing it
    spec: dict[str, Any]  # without the seed and the place of the data
    columns: tuple[str, ...] = ()  # the metrics its table shows, the main one first
    labels: dict[str, str] = field(default_factory=dict)  # of metrics that are not written like their name


def rows(records: Iterable[Record]) -> list[Row]:
    """One row for all seeds of a spec, by track and data, best main score first; a spec and seed twice: the last."""
    groups: dict[str, dict[str, Record]] = {}
    for record in records:
        same = groups.setdefault(_canonical([record.track, _identity(record.spec)]), {})
        same[_canonical(record.spec.get("seed"))] = record
    ordered = sorted((_row([same[seed] for seed in sorted(same)]) for same in groups.values()), key=_order)
    return [row for _, same in groupby(ordered, key=comparable) for row in _told_apart(list(same))]


def name_of(spec: dict[str, Any], part: str) -> str:
    """The name of a spec's "quantizer", "codec" or "data"."""
    value = spec.get(part)
    return str(value.get("name") or UNKNOWN) if isinstance(value, dict) else str(value or UNKNOWN)


def metrics_of(same: Sequence[Row]) -> Sequence[str]:
    """The metrics that rows of one track show, the main one first."""
    if columns := list(dict.fromkeys(metric for row in same for metric in row.columns)):
        return columns
    return [metric for metric in same[0].scores if not metric.endswith("_uncoded")][:3] or ["score"]


def comparable(row: Row) -> tuple[int, str, str, str]:
    """What rows of one table have in common: track and data."""
    place = list(COLUMNS).index(row.track) if row.track in COLUMNS else len(COLUMNS)
    return place, row.track, row.data, _canonical([row.spec.get(key) for key in ("data", "data_fingerprint")])


def flattened(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested dictionaries as one, keys joined by dots, values as text."""
    if not isinstance(value, dict):
        return {prefix: str(value)}
    joined = {f"{prefix}.{key}" if prefix else str(key): entry for key, entry in value.items()}
    return {leaf: text for key, entry in joined.items() for leaf, text in flattened(entry, key).items()}


def _row(records: Sequence[Record]) -> Row:
    first = records[0]
    return Row(
        track=first.track,
        quantizer=name_of(first.spec, "quantizer"),
        codec=name_of(first.spec, "codec"),
        data=name_of(first.spec, "data"),
        seeds=tuple(record.spec.get("seed") for record in records),
        scores=_scores(records),
        rate_kbps={key: _mean(r.rate_kbps.get(key) for r in records) for key in ("nominal", "entropy", "measured")},
        codebook={key: _mean(r.codebook.get(key) for r in records) for key in ("perplexity", "size", "dead")},
        parameters=_mean(record.complexity.get("parameters") for record in records),
        marks=tuple(_marks(records)),
        spec=_identity(first.spec),
        columns=tuple(dict.fromkeys(metric for record in records for metric in _columns(record))),
        labels={metric: text for record in records for metric, text in record.table.get("labels", {}).items()},
    )


def _columns(record: Record) -> Sequence[str]:
    return record.table.get("columns") or COLUMNS.get(record.track, ())


def _scores(records: Sequence[Record]) -> dict[str, Score]:
    scores = {}
    for metric, first in records[0].scores.items():
        same = [record.scores[metric] for record in records if metric in record.scores]
        if len(same) == len(records):
            interval = across_seeds([s.mean for s in same], [s.low for s in same], [s.high for s in same])
            n, failed = min(s.n for s in same), sum(s.failed for s in same)
            scores[metric] = Score(*interval, n, failed, first.unit, first.higher_is_better)
    if "dvstoi" not in scores and {"vstoi", "vstoi_uncoded"} <= scores.keys():
        change = scores["vstoi"].mean - scores["vstoi_uncoded"].mean
        scores["dvstoi"] = scores["vstoi"]._replace(mean=change, low=math.nan, high=math.nan)
    return scores


def _marks(records: Sequence[Record]) -> list[str]:
    """The marks of all seeds; one that not all seeds bear names those that do."""
    seeds: dict[str, list[str]] = {}
    for record in records:
        for mark in dict.fromkeys(_marks_of(record)):
            seeds.setdefault(mark, []).append(str(record.spec.get("seed")))
    return [m if len(who) == len(records) else f"{m} (seed {', '.join(who)})" for m, who in seeds.items()]


def _marks_of(record: Record) -> Iterable[str]:
    if record.training.get("converged") is False:
        yield "not converged"
    if record.rate_kbps.get("missed"):
        target = record.rate_kbps.get("target")
        yield "rate missed" if target is None else f"rate missed: {target:g} kbit/s asked"
    if name_of(record.spec, "data") == "demo":
        yield "demo data: smoke test"
    for metric, score in record.scores.items():
        if score.failed:
            yield f"{metric}: {score.failed} of {score.n + score.failed} items failed"
    yield from record.notes


def _told_apart(same: list[Row]) -> list[Row]:
    """Rows of one section whose names say the options in which they differ; other differences become marks."""
    flat = [flattened(row.spec) for row in same]
    for part, further in (("quantizer", "bitrate"), ("codec", None)):
        names = [name if (name := getattr(row, part)) != NONE else f"{name} {row.codec}" for row in same]
        differences = _differences(
            flat, names, lambda key, part=part, also=further: key == also or key.startswith(f"{part}.")
        )
        same = [
            replace(row, **{part: " ".join([getattr(row, part), *d])}) for row, d in zip(same, differences, strict=True)
        ]
    labels = [f"{row.quantizer}\n{row.codec}" for row in same]
    differences = _differences(
        flat, labels, lambda key: key != "bitrate" and not key.startswith(("quantizer.", "codec."))
    )
    return [replace(row, marks=(*row.marks, *d)) for row, d in zip(same, differences, strict=True)]


def _differences(flat: list[dict[str, str]], labels: list[str], wanted: Callable[[str], bool]) -> list[list[str]]:
    differences = []
    for options, label in zip(flat, labels, strict=True):
        peers = [other for other, name in zip(flat, labels, strict=True) if name == label]
        keys = [key for key in options if wanted(key) and any(peer.get(key) != options[key] for peer in peers)]
        differences.append([f"{key.rsplit('.', 1)[-1]}={options[key]}" for key in keys])
    return differences


def _identity(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec without its seed and without the place of its data."""
    kept = {key: value for key, value in spec.items() if key != "seed"}
    if isinstance(kept.get("data"), dict):
        kept["data"] = {key: _without_places(value) for key, value in _without_places(kept["data"]).items()}
    if isinstance(kept.get("plugins"), list):  # one entry a plug-in, short enough for a footnote
        kept["plugins"] = {f"{name} file": str(digest)[:8] for name, digest in kept["plugins"]}
    return kept


def _without_places(value: Any) -> Any:
    return {k: v for k, v in value.items() if k not in PLACES} if isinstance(value, dict) else value


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _order(row: Row) -> tuple[Any, ...]:
    score = row.scores.get(metrics_of([row])[0])
    if score is None or math.isnan(score.mean):
        return *comparable(row), 1, 0.0
    return *comparable(row), 0, -score.mean if score.higher_is_better else score.mean


def _mean(values: Iterable[Any]) -> float:
    numbers = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan
