"""The record of a finished run."""

import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from ...codecs.base import Codec
from ...leaderboards.records import Record, Score
from ...leaderboards.statistics import bootstrap_mean
from ..metrics.base import RESAMPLER, declared, table_of
from ..metrics.quality import VISQOL_MODEL
from ..specs.spec import Spec
from ..tracks.base import Track
from .complexity import macs_per_second
from .evaluation import Evaluation

LIBRARIES = ("torch", "lightning", "numpy", "codecbench", "constriction", "pystoi", "pesq", "visqol-python")
MISSED = 0.05  # share of the asked bitrate


def make_record(
    spec: Spec, codec: Codec, track: Track, evaluation: Evaluation, training: dict[str, Any], notes: list[str]
) -> Record:
    """Everything that a leaderboard may show of a run; `notes` are those of its data."""
    seconds = evaluation.seconds
    return Record(
        spec=spec.recorded(),
        hash=spec.hash,
        name=spec.name,
        track=track.name,
        scores=scores_of(evaluation.rows),
        rate_kbps=rates_of(spec, evaluation),
        codebook=_codebook(evaluation),
        complexity=_complexity(codec, track, seconds),
        seconds={"train": training.pop("seconds"), **seconds},
        environment=environment(),
        training=training,
        files={"model": "model.safetensors", "items": "items.csv", "bitstreams": "bitstreams", "examples": "examples"},
        notes=[*track.notes, *notes],
        table=table_of(track.name),
    )


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


def _codebook(evaluation: Evaluation) -> dict[str, Any]:
    """Means and sums over streams, and the streams themselves."""
    streams = [
        dict(zip(use, values, strict=True)) for use in evaluation.codebook for values in zip(*use.values(), strict=True)
    ]
    closed = [stream for stream in streams if stream["size"] is not None]
    return {
        "perplexity": float(np.mean([stream["perplexity"] for stream in streams])),
        "size": sum(stream["size"] for stream in closed),
        "used": sum(stream["size"] - stream["dead"] for stream in closed),
        "dead": sum(stream["dead"] for stream in closed),
        "streams": streams,
    }


def _complexity(codec: Codec, track: Track, seconds: dict[str, float]) -> dict[str, Any]:
    trained = sum(p.numel() for p in codec.parameters())
    inside = sum(p.numel() for quantizer in codec.quantizers for p in quantizer.parameters())
    return {
        "parameters": trained,
        "quantizer_parameters": inside,
        "macs_per_second": macs_per_second(codec, track.signal_rate),
        "latency_s": codec.lookahead / track.signal_rate,
        "realtime_factor": (seconds["encode"] + seconds["decode"]) / seconds["audio"],
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
