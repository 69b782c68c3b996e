"""Whether records bear a claim out: every quantity with its interval over items and seeds, against the claim's bound.

A mean of weighted items (rates weigh by seconds, a subset leaves items out) is linearised, u_i = r + n w_i (x_i - r) /
sum(w), so that differences and ratios of several runs are one number an item, and one paired bootstrap
(leaderboards/statistics.py) gives the interval. Plain paired differences are that bootstrap as it is.

A claim about every one of k comparisons holds where each holds at 95 %, and is refuted only by one that fails at
1 - 0.05 / k (Bonferroni); one about any of k the other way round.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..records import Record
from ..statistics import across_seeds, bootstrap_mean
from .model import Claim, Column, Criterion, Joint, Side, Split, Test, matching

Verdict = Literal["holds", "does not hold", "undecided", "not tested"]
Rows = Sequence[Mapping[str, Any]]
ERROR = 0.05


class Result(NamedTuple):
    """A finished run."""

    record: Record
    rows: Mapping[Split, Rows]  # of its items


Results = Mapping[str, Mapping[Any, Result]]  # label -> seed -> run


class Estimate(NamedTuple):
    """A number with its 95 % interval, NaN where unknown."""

    mean: float
    low: float
    high: float
    items: int


class Finding(NamedTuple):
    """One comparison of definite runs."""

    what: str
    estimate: Estimate
    verdict: Verdict


class Judged(NamedTuple):
    """A claim on one split."""

    claim: Claim
    split: Split
    verdict: Verdict
    findings: list[Finding]
    why: str = ""  # it was not tested


class NotTestedError(Exception):
    """Runs, items or metrics that a claim needs are not there."""


class NotPlannedError(NotTestedError):
    """Runs that a claim needs are not in this profile."""


class _Levels(NamedTuple):
    """Error probabilities at which a comparison is confirmed, and refuted."""

    confirm: float = ERROR
    refute: float = ERROR


def judge(claim: Claim, split: Split, results: Results, planned: Sequence[str]) -> Judged:
    """A claim against the finished runs; `planned` are the labels that there should be."""
    findings: list[Finding] = []
    try:
        verdict = _judge(claim.test, claim, split, results, planned, _Levels(), findings)
    except NotTestedError as reason:
        return Judged(claim, split, "not tested", findings, str(reason))
    return Judged(claim, split, verdict, findings)


def labels_of(side: Side, planned: Sequence[str], results: Results) -> list[str]:
    """The runs of a side. NotTestedError: there is none, or one has not finished."""
    labels = matching(side.patterns, planned)
    if not labels:
        raise NotPlannedError(f"{' and '.join(side.patterns)}: not in this profile")
    if missing := [label for label in labels if not results.get(label)]:
        raise NotTestedError(f"{missing[0]} has not been run")
    return labels


def estimate(
    criterion: Criterion, subset: Mapping[str, Any], split: Split, results: Results, error: float = ERROR
) -> Estimate:
    """The quantity of a criterion whose sides name their runs. NotTestedError where a metric or item is lacking."""
    labels = list(dict.fromkeys(label for side in criterion.sides for label in side.patterns))
    prints = {result.record.spec.get("data_fingerprint") for label in labels for result in results[label].values()}
    if len(prints) > 1:
        raise NotTestedError("its runs are on different data")
    several = [set(results[label]) for label in labels if len(results[label]) > 1]
    seeds: list[Any] = sorted(set.intersection(*several)) if several else [None]
    if not seeds:
        raise NotTestedError("its runs have no seed in common")
    estimates = []
    for seed in seeds:
        chosen = {label: results[label].get(seed) or next(iter(results[label].values())) for label in labels}
        estimates.append(_of_one_seed(criterion, subset, split, chosen, error))
    means, lows, highs, items = zip(*estimates, strict=True)
    return Estimate(*across_seeds(means, lows, highs, 1 - error), min(items))


def within(row: Mapping[str, Any], subset: Mapping[str, Any]) -> bool:
    """Whether an item is in a subset. NotTestedError: it says nothing of that condition, or no number."""
    for column, limits in subset.items():
        if column not in row:
            raise NotTestedError(f"the items have no {column}")
        value = row[column]
        if isinstance(limits, Mapping):
            if isinstance(value, str):
                raise NotTestedError(f"{column} of the items is {value!r}, not a number")
            if not limits.get("at_least", -math.inf) <= value <= limits.get("at_most", math.inf):
                return False
        elif value not in limits:
            return False
    return True


def value_of(row: Mapping[str, Any], metric: Column) -> float:
    """What one item contributes. NotTestedError: no number."""
    if isinstance(row[metric.name], str):
        raise NotTestedError(f"{metric.name} of the items is {row[metric.name]!r}, not a number")
    value = float(row[metric.name])
    return value if metric.beyond is None or math.isnan(value) else float(abs(value) > metric.beyond)


def text_of(subset: Mapping[str, Any]) -> str:
    """A subset in words: "snr_db <= 5"."""
    signs = {"at_least": ">=", "at_most": "<="}
    return ", ".join(
        " and ".join(f"{column} {signs[key]} {value:g}" for key, value in limits.items())
        if isinstance(limits, Mapping)
        else f"{column} {'/'.join(map(str, limits))}"
        for column, limits in subset.items()
    )


def _judge(
    test: Test,
    claim: Claim,
    split: Split,
    results: Results,
    planned: Sequence[str],
    levels: _Levels,
    findings: list[Finding],
) -> Verdict:
    test = _expanded(test, planned, results)
    if isinstance(test, Joint):
        count, both = len(test.tests), test.kind == "all"
        levels = levels._replace(**{key: getattr(levels, key) / count for key in ["refute" if both else "confirm"]})
        return _together([_judge(part, claim, split, results, planned, levels, findings) for part in test.tests], both)
    sure, doubtful = (estimate(test, claim.subset, split, results, error) for error in levels)
    shown = sure if levels.confirm == ERROR else estimate(test, claim.subset, split, results)
    verdict = "holds" if _holds(test, sure) else "does not hold" if _fails(test, doubtful) else "undecided"
    findings.append(Finding(_what(test, claim.subset), shown, verdict))
    return verdict


def _expanded(test: Test, planned: Sequence[str], results: Results) -> Test:
    """Patterns replaced by labels; `every` and `any` by as many comparisons. Of several tests those of this profile."""
    if isinstance(test, Joint):
        there = tuple(part for part in test.tests if _is_planned(part, planned))
        if not there:
            raise NotPlannedError("its runs are not in this profile")
        return test._replace(tests=there)
    options, kinds = [], []
    for side in test.sides:
        labels = labels_of(side, planned, results)
        if side.quantifier == "mean":
            options.append([side._replace(patterns=tuple(labels))])
        else:
            options.append([Side((label,), "mean", side.subset) for label in labels])
            kinds.append(side.quantifier)
    tests = tuple(test._replace(sides=sides) for sides in product(*options))
    return tests[0] if not kinds else Joint("any" if "any" in kinds else "all", tests)


def _is_planned(test: Test, planned: Sequence[str]) -> bool:
    """Whether a comparison's runs are in this profile; of joint tests, any of them."""
    if isinstance(test, Joint):
        return any(_is_planned(part, planned) for part in test.tests)
    return all(matching(side.patterns, planned) for side in test.sides)


def _together(verdicts: Sequence[Verdict], both: bool) -> Verdict:
    good, bad = ("holds", "does not hold") if both else ("does not hold", "holds")
    return bad if bad in verdicts else good if set(verdicts) == {good} else "undecided"


def _holds(test: Criterion, interval: Estimate) -> bool:
    reached, kept = interval.low >= test.limit - test.tolerance, interval.high <= test.limit + test.tolerance
    above, below = interval.low > test.limit, interval.high < test.limit
    return {"at_least": reached, "at_most": kept, "above": above, "below": below, "about": reached and kept}[test.bound]


def _fails(test: Criterion, interval: Estimate) -> bool:
    under, over = interval.high < test.limit - test.tolerance, interval.low > test.limit + test.tolerance
    return {"at_least": under, "at_most": over, "above": under, "below": over, "about": under or over}[test.bound]


def _what(test: Criterion, subset: Mapping[str, Any]) -> str:
    names = []
    for side in test.sides:
        chosen, name = subset if side.subset is None else side.subset, ", ".join(side.patterns)
        name = name if len(side.patterns) == 1 else f"mean of {len(side.patterns)} ({name})"
        names.append(f"{name} [{text_of(chosen)}]" if chosen else name)
    return f"{test.metric}: {(' / ' if test.form == 'ratio' else ' − ').join(names)}"


def _of_one_seed(
    test: Criterion, subset: Mapping[str, Any], split: Split, chosen: Mapping[str, Result], error: float
) -> Estimate:
    if not all(test.metric.name in row for result in chosen.values() for row in result.rows.get(split, [])[:1]):
        return _of_records(test, split, chosen)
    rows = {label: {row["item"]: row for row in result.rows.get(split, [])} for label, result in chosen.items()}
    names = [name for name in next(iter(rows.values())) if all(name in items for items in rows.values())]
    names = [n for n in names if not any(math.isnan(value_of(items[n], test.metric)) for items in rows.values())]
    subsets = [subset if side.subset is None else side.subset for side in test.sides]
    first = next(iter(rows.values()))
    inside = np.array([[within(first[name], limits) for name in names] for limits in subsets], dtype=bool)
    if not inside.size or not inside.any(1).all():
        raise NotTestedError(f"no {split} items" + (f" with {text_of(subset)}" if subset else ""))
    used = np.flatnonzero(inside.any(0))
    names, inside = [names[i] for i in used], inside[:, used]
    items = [
        np.mean([_linear(test.metric, [rows[label][n] for n in names], inside[k]) for label in side.patterns], axis=0)
        for k, side in enumerate(test.sides)
    ]
    means = [float(values.mean()) for values in items]
    quantity = _quantity(test.form, means)
    low, high = bootstrap_mean(_combined(test.form, means, items), 1 - error)[1:]
    return Estimate(quantity, low, high, len(names))


def _linear(metric: Column, rows: Rows, used: NDArray[np.bool_]) -> NDArray[np.float64]:
    values = np.array([value_of(row, metric) for row in rows])
    by_seconds = metric.name.endswith("_kbps") or metric.name == "bits_per_frame"
    weights = used * np.array([float(row["seconds"]) if by_seconds else 1.0 for row in rows])
    mean = (weights * values).sum() / weights.sum()
    return mean + len(rows) * weights * (values - mean) / weights.sum()


def _combined(form: str, means: Sequence[float], items: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    if form == "ratio":
        ratio = means[0] / means[1]
        return ratio + (items[0] - means[0]) / means[1] - ratio * (items[1] - means[1]) / means[1]
    return items[0] if form == "value" else items[0] - items[1]


def _quantity(form: str, means: Sequence[float]) -> float:
    if form == "ratio" and means[1] == 0:
        raise NotTestedError("a ratio to 0")
    return means[0] if form == "value" else means[0] / means[1] if form == "ratio" else means[0] - means[1]


def _of_records(test: Criterion, split: Split, chosen: Mapping[str, Result]) -> Estimate:
    """Numbers of whole runs, such as a perplexity of the test set: no interval over items."""
    if split != "test":
        raise NotTestedError(f"the {split} items have no {test.metric.name}")
    means = [float(np.mean([_recorded(chosen[label].record, test.metric) for label in s.patterns])) for s in test.sides]
    quantity = _quantity(test.form, means)
    return Estimate(quantity, quantity, quantity, 0)


def _recorded(record: Record, metric: Column) -> float:
    field, *keys = metric.name.split(".")
    value: Any = getattr(record, field, None)
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotTestedError(f"the runs have no {metric.name}")
    return float(value)
