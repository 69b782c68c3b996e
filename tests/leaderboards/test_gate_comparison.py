"""The gate fails on a drop beyond its limit, in either direction of a metric, and on nothing else."""

import io
import math

import numpy as np
import pytest
from codecbench.leaderboards.errors import RecordError
from codecbench.leaderboards.gate import Limit, compare, exit_code, machines, parse_limit, report, same_machine
from codecbench.leaderboards.records import Record, Score
from rich.console import Console

VSTOI = [Limit("vstoi", 0.02)]


def a_run(
    values, metric="vstoi", higher_is_better=True, name="run", cpu="A", torch="2.13"
) -> tuple[Record, list[dict]]:
    score = Score(float(np.nanmean(values)), math.nan, math.nan, len(values), 0, "", higher_is_better)
    record = Record(
        spec={},
        hash="",
        name=name,
        track="cochlear",
        scores={metric: score},
        rate_kbps={},
        environment={"cpu": cpu, "torch": torch},
    )
    return record, [{"item": f"item-{i}", metric: float(value)} for i, value in enumerate(values)]


def items(n: int = 40) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.4, 0.9, size=n)


def noise(size: float, n: int = 40) -> np.ndarray:
    values = np.random.default_rng(1).normal(0, size, size=n)
    return values - values.mean()


def printed(*arguments) -> str:
    console = Console(width=110, file=io.StringIO(), color_system=None)
    console.print(report(*arguments))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (-0.03 + noise(0.01), "regressed"),
        (-0.03 + noise(0.3), "regressed"),  # the interval includes zero; the limit is what was asked for
        (-0.01 + noise(0.01), "within limit"),
        (-0.01 + noise(0.2), "within noise"),
        (0.0 * items(), "within noise"),
        (0.03 + noise(0.01), "improved"),
    ],
)
def test_the_verdict_follows_the_mean_drop_and_then_the_interval(change, verdict):
    (comparison,) = compare(*a_run(items()), *a_run(items() + change), VSTOI)
    assert comparison.verdict == verdict
    assert comparison.drop == pytest.approx(-change.mean())
    assert comparison.low <= comparison.drop <= comparison.high
    assert comparison.candidate - comparison.baseline == pytest.approx(change.mean())
    assert exit_code([comparison], machine_differs=False) == (verdict == "regressed")


@pytest.mark.parametrize(("change", "verdict"), [(0.03, "regressed"), (-0.03, "improved")])
def test_lower_is_better_turns_the_drop_around(change, verdict):
    runs = [a_run(values, "mse", higher_is_better=False) for values in (items(), items() + change + noise(0.001))]
    (comparison,) = compare(*runs[0], *runs[1], [Limit("mse", 0.02)])
    assert comparison.verdict == verdict
    assert comparison.drop == pytest.approx(change)


def test_a_drop_of_exactly_the_limit_passes():
    (comparison,) = compare(*a_run([0.72, 0.72]), *a_run([0.70, 0.70]), VSTOI)
    assert comparison.verdict == "within limit"
    (comparison,) = compare(*a_run([0.72, 0.72]), *a_run([0.7, 0.6999]), VSTOI)
    assert comparison.verdict == "regressed"


def test_items_are_paired_by_name_not_by_place():
    before, after = a_run(items()), a_run(items())
    (comparison,) = compare(*before, after[0], after[1][::-1], VSTOI)
    assert (comparison.drop, comparison.low, comparison.high) == (0, 0, 0)


def test_an_item_that_no_longer_scores_is_a_regression():
    broken = items()
    broken[3] = math.nan
    (comparison,) = compare(*a_run(items()), *a_run(broken), VSTOI)
    assert (comparison.verdict, comparison.lost, comparison.n) == ("regressed", 1, 39)
    assert "vstoi could not be scored on 1 items that the baseline scored" in printed([comparison], False)
    (mended,) = compare(*a_run(broken), *a_run(items()), VSTOI)
    assert (mended.verdict, mended.n) == ("within noise", 39)


def test_a_candidate_without_any_score_fails():
    run = a_run(items())
    broken = [{**row, "vstoi": math.nan} for row in run[1]]
    (comparison,) = compare(*run, run[0], broken, VSTOI)
    assert exit_code([comparison], False) == 1
    assert "40 lost" in printed([comparison], False)
    with pytest.raises(RecordError, match="nothing to compare with"):
        compare(run[0], broken, *run, VSTOI)


def test_items_missing_on_either_side_are_an_error():
    long, short = a_run(items(), name="long"), a_run(items()[:-5], name="short")
    for runs in ((long, short), (short, long)):
        with pytest.raises(RecordError, match=r"short: 5 items are missing \(item-35, item-36, item-37, \.\.\.\)"):
            compare(*runs[0], *runs[1], VSTOI)


def test_runs_on_different_data_are_an_error_though_their_items_have_the_same_names():
    before, after = a_run(items()), a_run(items())
    before[0].spec["data_fingerprint"], after[0].spec["data_fingerprint"] = "a", "b"
    with pytest.raises(RecordError, match="different data"):
        compare(*before, *after, VSTOI)


def test_a_metric_that_is_missing_is_named_with_those_there():
    with pytest.raises(RecordError, match="new: it has no vstoi; it has estoi"):
        compare(*a_run(items()), *a_run(items(), "estoi", name="new"), VSTOI)


def test_doubled_nameless_and_absent_items_are_an_error():
    record, rows = a_run(items())
    for bad, said in (([*rows, rows[0]], "twice"), ([{"vstoi": 1.0}], "no column `item`"), ([], "no items")):
        with pytest.raises(RecordError, match=said):
            compare(record, rows, record, bad, VSTOI)


def test_records_that_disagree_on_the_direction_are_an_error():
    with pytest.raises(RecordError, match="disagree"):
        compare(*a_run(items()), *a_run(items(), higher_is_better=False), VSTOI)


@pytest.mark.parametrize(
    ("text", "limit"), [("vstoi=0.02", ("vstoi", 0.02)), ("mse=0", ("mse", 0.0)), (" snr = 1e-1", ("snr", 0.1))]
)
def test_a_limit_is_read(text, limit):
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    "text", ["vstoi", "vstoi=", "=0.1", "vstoi=x", "vstoi=-0.1", "vstoi=nan", "vstoi=inf", "vstoi=0.1=2"]
)
def test_a_limit_of_another_form_is_shown_the_right_one(text):
    with pytest.raises(RecordError, match=r"as in vstoi=0\.02"):
        parse_limit(text)


def test_an_unknown_machine_is_another_machine():
    before, after = a_run(items(), cpu="Xeon"), a_run(items() - 0.1, cpu="EPYC", torch="2.6")
    assert not same_machine(before[0], after[0])
    assert same_machine(before[0], before[0])
    for record, _ in (before, after):
        del record.environment["cpu"]
    assert not same_machine(before[0], after[0])  # not known to be the same


def test_another_machine_only_warns():
    before, after = a_run(items(), cpu="Xeon"), a_run(items() - 0.1, cpu="EPYC", torch="2.6")
    comparisons = compare(*before, *after, VSTOI)
    assert (exit_code(comparisons, False), exit_code(comparisons, True)) == (1, 0)
    text = printed(comparisons, True, machines(before[0], after[0]))
    assert "warning only, another CPU model" in text
    assert "baseline: CPU Xeon, torch 2.13 · candidate: CPU EPYC, torch 2.6" in text


def test_the_report_says_what_was_decided_and_why():
    worse = compare(*a_run(items()), *a_run(items() - 0.05), VSTOI)
    text = printed(worse, False)
    assert "failed: vstoi is worse by 0.0500, the limit is 0.02" in text
    assert "+0.0500 [+0.0500, +0.0500]" in text and "regressed" in text
    assert "passed" in printed(compare(*a_run(items()), *a_run(items()), VSTOI), False)
