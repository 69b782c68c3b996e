"""The scores of one decoded item: every metric of its track, by functions of which each is called once."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....datamodules.parts.sound import resample
from ..base import Metric, Pending, Scores, Submit, by_name, load, metrics_of

Signals = Mapping[str, Tensor]


def score_item(
    track: str, signals: Signals, submit: Submit, rate: int | None = None, others: Mapping[str, Any] | None = None
) -> Pending:
    """Begin to score one item by every metric of its track; what is returned waits for what `submit` computes.

    `signals` are without B, at `rate` Hz where they are sounds: functions have them with B, at their own sample rate,
    to which each signal is resampled once (soxr HQ). `others` are handed over as they are. LookupError: a function
    gives a score that nobody declared, or lacks one that is declared.
    """
    metrics = metrics_of(track)
    at = functools.cache(functools.partial(resampled, signals, rate))
    apart: dict[int | None, list[str]] = {}
    for metric in metrics:
        if metric.apart:
            apart.setdefault(metric.sample_rate, []).append(metric.name)
    waiting = [submit(names, at(wanted)["reference"], at(wanted)["decoded"]) for wanted, names in apart.items()]
    groups: dict[Any, list[Metric]] = {}
    for metric in metrics:
        if not metric.apart:
            groups.setdefault(metric.function, []).append(metric)
    scores: Scores = {}
    for same in groups.values():
        scores |= _scores(same, at, {"rate": rate, **(others or {})})
    return lambda: functools.reduce(lambda known, more: known | more.result(), waiting, scores)


def _scores(same: list[Metric], at: Callable[[int | None], Signals], others: Mapping[str, Any]) -> Scores:
    """Those of one function."""
    function = load(same[0].function)
    parameters = inspect.signature(function).parameters
    signals = at(None if "rate" in parameters else same[0].sample_rate)
    offered = {**{name: signal[None] for name, signal in signals.items()}, **others}
    given = function(**{name: offered[name] for name in parameters if name in offered})
    return {name: float(score) for name, score in by_name(given, [metric.name for metric in same]).items()}


def resampled(signals: Signals, rate: int | None, wanted: int | None) -> Signals:
    """At another rate where that has to be; what is not finite stays as it is, to be scored NaN."""
    if None in (rate, wanted) or rate == wanted or not all(bool(s.isfinite().all()) for s in signals.values()):
        return signals
    sounds = {name: resample(signal.numpy(), rate, wanted) for name, signal in signals.items()}  # type: ignore[arg-type]
    return {name: torch.from_numpy(np.ascontiguousarray(sound)) for name, sound in sounds.items()}
