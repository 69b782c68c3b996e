"""The record of a finished run."""

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...leaderboards import records
from ...leaderboards.records import Record, Score
from ...leaderboards.statistics import bootstrap_mean
from ..metrics.base import RESAMPLER, declared, table_of
from ..metrics.quality import VISQOL_MODEL
from ..specs.spec import Spec, statistics_version
from ..tracks.base import Scorer
from .evaluation import Evaluation

LIBRARIES = ("torch", "lightning", "numpy", "codecbench", "constriction", "pystoi", "pesq", "visqol-python")
ITEMS = "items.csv"
MISSED = 0.05  # share of the asked bitrate


def make_record(
    spec: Mapping[str, Any],
    digest: str,
    name: str,
    scorer: Scorer,
    evaluation: Evaluation,
    rates: Mapping[str, Any],
    notes: Iterable[str],
    **further: Any,
) -> Record:
    """The record of whatever was evaluated; `further` fields are those that not all of it has."""
    return Record(
        spec=dict(spec),
        hash=digest,
        name=name,
        track=scorer.name,
        scores=scores_of(evaluation.rows),
        rate_kbps=dict(rates),
        notes=[*scorer.notes, *notes],
        table=table_of(scorer.name),
        **{"environment": environment(), **further},
    )


def read_record(folder: Path) -> Record:
    """The record of a finished run; its intervals are made anew, from its items, if other statistics made them."""
    record = records.read(folder / records.RECORD_FILE)
    if record.environment.get("statistics") != statistics_version():
        record.scores = scores_of(records.read_items(folder / ITEMS))
        record.environment["statistics"] = statistics_version()
        records.write(record, folder / records.RECORD_FILE)
    return record


def scores_of(rows: list[dict[str, Any]]) -> dict[str, Score]:
    """Mean and interval of every metric over the items; those that are NaN are counted."""
    found, metrics = {}, declared()
    for name in [name for name in metrics if name in rows[0]]:
        values = np.array([row[name] for row in rows], dtype=np.float64)
        failed = int(np.isnan(values).sum())
        metric = metrics[name]
        interval = bootstrap_mean(values)
        found[name] = Score(*interval, len(values) - failed, failed, metric.unit, metric.higher_is_better)
    return found


def rates_of(spec: Spec, evaluation: Evaluation) -> dict[str, Any]:
    """Bits over seconds of the whole test set, in kbit/s."""
    audio = evaluation.seconds["audio"]
    rates: dict[str, Any] = {
        kind: sum(row[f"{kind}_kbps"] * row["seconds"] for row in evaluation.rows) / audio
        for kind in ("nominal", "entropy", "payload", "measured")
    }
    missed = spec.bitrate is not None and abs(rates["measured"] / spec.bitrate - 1) > MISSED
    return rates | {"coder": spec.coder, "target": spec.bitrate, "missed": missed}


def codebook_summary(used: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and sums over streams, and the streams themselves."""
    streams = [dict(zip(use, values, strict=True)) for use in used for values in zip(*use.values(), strict=True)]
    closed = [stream for stream in streams if stream["size"] is not None]
    return {
        "perplexity": float(np.mean([stream["perplexity"] for stream in streams])),
        "size": sum(stream["size"] for stream in closed),
        "used": sum(stream["size"] - stream["dead"] for stream in closed),
        "dead": sum(stream["dead"] for stream in closed),
        "streams": streams,
    }


def environment() -> dict[str, Any]:
    """What the scores were made with."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": 1,
        "visqol": VISQOL_MODEL,
        "resampler": RESAMPLER,
        "statistics": statistics_version(),
        **{library: version(library) for library in LIBRARIES},
    }


def _cpu() -> str:
    """The CPU's model, as the operating system names it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            facts = dict(line.split(":", 1) for line in lines if ":" in line)
        pieces = {key.strip(): value.strip() for key, value in facts.items()}
        return f"{pieces['model name']} family {pieces['cpu family']} model {pieces['model']}"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()
