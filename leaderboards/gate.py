"""The gate's comparison: the scores of a candidate against a baseline, item by item."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .errors import RecordError
from .records import Record
from .statistics import paired_difference

Items = Sequence[Mapping[str, Any]]  # rows of items.csv

ROUNDING = 1e-9  # a drop of exactly the limit passes


class Limit(NamedTuple):
    """The largest mean drop of a metric, in its unit, that passes."""

    metric: str
    max_drop: float


class Comparison(NamedTuple):
    """One metric over the items both runs scored; a drop is positive when the candidate is worse, whatever is better.

    verdict "regressed" (fails): the mean drop exceeds the limit, or an item that was scored no longer is. Otherwise by
    the interval of the drop, which never decides over failing: "within limit" it is all above zero, "improved" all
    below, "within noise" it includes zero.
    """

    metric: str
    unit: str
    baseline: float  # means over the n paired items
    candidate: float
    drop: float
    low: float  # 95 % bootstrap interval of the drop
    high: float
    p: float
    n: int
    lost: int  # items scored in the baseline alone
    limit: float
    verdict: str


def parse_limit(text: str) -> Limit:
    """ "vstoi=0.02" -> Limit("vstoi", 0.02). RecordError: another form, or a drop that is negative or not a number."""
    metric, _, number = text.partition("=")
    try:
        drop = float(number)
    except ValueError:
        drop = math.nan
    if not metric.strip() or not 0 <= drop < math.inf:
        raise RecordError(f"--max-drop {text!r}: write METRIC=NUMBER with a number of at least 0, as in vstoi=0.02")
    return Limit(metric.strip(), drop)


def compare(
    baseline: Record, baseline_items: Items, candidate: Record, candidate_items: Items, limits: Sequence[Limit]
) -> list[Comparison]:
    """Compare two runs on the same items, paired by their column `item`.

    RecordError: the data differ, an item is missing on either side or comes twice, a metric is missing, or its
    direction differs.
    """
    if len({record.spec.get("data_fingerprint") for record in (baseline, candidate)} - {None}) > 1:
        raise RecordError(f"{baseline.name} and {candidate.name} were scored on different data; make the baseline anew")
    before, after = _by_name(baseline, baseline_items), _by_name(candidate, candidate_items)
    for record, lacking in ((candidate, before.keys() - after.keys()), (baseline, after.keys() - before.keys())):
        if lacking:
            named = ", ".join(sorted(lacking)[:3]) + (", ..." if len(lacking) > 3 else "")
            raise RecordError(f"{record.name}: {len(lacking)} items are missing ({named}); score both on the same data")
    return [_compare(baseline, before, candidate, after, limit) for limit in limits]


def same_machine(a: Record, b: Record) -> bool:
    """Whether both runs know their CPU model and it is the same; scores of another are no ground to fail."""
    return a.environment.get("cpu") is not None and a.environment.get("cpu") == b.environment.get("cpu")


def machines(baseline: Record, candidate: Record) -> str:
    """One line: CPU model and torch version of both runs."""
    descriptions = []
    for role, record in (("baseline", baseline), ("candidate", candidate)):
        cpu, torch = (record.environment.get(key) or "unknown" for key in ("cpu", "torch"))
        descriptions.append(f"{role}: CPU {cpu}, torch {torch}")
    return " · ".join(descriptions)


def exit_code(comparisons: Sequence[Comparison], machine_differs: bool) -> int:
    """1 if a metric regressed on the same machine, else 0: on another machine the gate only warns."""
    return int(not machine_differs and any(c.verdict == "regressed" for c in comparisons))


def report(comparisons: Sequence[Comparison], machine_differs: bool, machines: str = "") -> RenderableType:
    """The comparison for rich: a table, the machines, and a last line that says what was decided and why."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in ("metric", "baseline", "candidate", "drop [95 %]", "limit", "p", "items", "verdict"):
        table.add_column(name, justify="left" if name in ("metric", "verdict") else "right", overflow="fold")
    for c in comparisons:
        table.add_row(*_cells(c), Text(c.verdict, "bold red" if c.verdict == "regressed" else "green"))
    lines = [Text(machines, "dim")] if machines else []
    return Group(table, "", *lines, _decision(comparisons, machine_differs))


def _by_name(record: Record, items: Items) -> dict[str, Mapping[str, Any]]:
    named = {}
    for row in items:
        name = row.get("item")
        if not isinstance(name, str) or not name:
            raise RecordError(f"{record.name}: its items have no column `item` with their names; make the record anew")
        if name in named:
            raise RecordError(f"{record.name}: the item {name} comes twice; make the record anew")
        named[name] = row
    if not named:
        raise RecordError(f"{record.name}: it has no items; make the record anew")
    return named


def _compare(
    baseline: Record, before: Mapping[str, Any], candidate: Record, after: Mapping[str, Any], limit: Limit
) -> Comparison:
    old, new = _values(baseline, before, limit.metric), _values(candidate, after, limit.metric)
    score = baseline.scores[limit.metric]
    if score.higher_is_better != candidate.scores[limit.metric].higher_is_better:
        raise RecordError(f"{limit.metric}: the two records disagree whether higher is better; make the older one anew")
    both = [name for name in sorted(old) if not math.isnan(old[name]) and not math.isnan(new[name])]
    if not both and all(map(math.isnan, old.values())):
        raise RecordError(f"{baseline.name}: no item has a {limit.metric}; there is nothing to compare with")
    lost = sum(math.isnan(new[name]) and not math.isnan(old[name]) for name in old)
    a, b = [old[name] for name in both], [new[name] for name in both]
    drop, low, high, p = paired_difference(a, b) if score.higher_is_better else paired_difference(b, a)
    verdict = "regressed" if lost or drop > limit.max_drop + ROUNDING else _passed(low, high)
    first, second = (sum(values) / len(values) if values else math.nan for values in (a, b))
    return Comparison(
        limit.metric, score.unit, first, second, drop, low, high, p, len(both), lost, limit.max_drop, verdict
    )


def _values(record: Record, rows: Mapping[str, Mapping[str, Any]], metric: str) -> dict[str, float]:
    if metric not in record.scores or any(not isinstance(row.get(metric), float | int) for row in rows.values()):
        raise RecordError(
            f"{record.name}: it has no {metric}; it has {', '.join(sorted(record.scores)) or 'no scores'}"
        )
    return {name: float(row[metric]) for name, row in rows.items()}


def _passed(low: float, high: float) -> str:
    return "within limit" if low > 0 else "improved" if high < 0 else "within noise"


def _cells(c: Comparison) -> list[str]:
    name = f"{c.metric} ({c.unit})" if c.unit else c.metric
    items = f"{c.n}, {c.lost} lost" if c.lost else str(c.n)
    p = "<0.001" if c.p < 0.001 else f"{c.p:.3f}"
    drop = "–" if math.isnan(c.drop) else f"{c.drop:+.4f} [{c.low:+.4f}, {c.high:+.4f}]"
    return [name, f"{c.baseline:.4f}", f"{c.candidate:.4f}", drop, f"{c.limit:g}", p, items]


def _cause(c: Comparison) -> str:
    if c.lost:
        return f"{c.metric} could not be scored on {c.lost} items that the baseline scored"
    return f"{c.metric} is worse by {c.drop:.4f}, the limit is {c.limit:g}"


def _decision(comparisons: Sequence[Comparison], machine_differs: bool) -> Text:
    worse = [c for c in comparisons if c.verdict == "regressed"]
    if not worse:
        return Text("passed: no mean drop exceeds its limit", "bold green")
    causes = "; ".join(_cause(c) for c in worse)
    if machine_differs:
        return Text(f"warning only, another CPU model made the baseline: {causes}", "bold yellow")
    return Text(f"failed: {causes}", "bold red")
