"""What makes a claim hold: verdicts of hand-made records, and the intervals that they rest on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from codecbench.leaderboards.claims.judging import Result, estimate, judge
from codecbench.leaderboards.claims.model import Claim, Column, Criterion, Side
from codecbench.leaderboards.claims.reading import read_claims
from codecbench.leaderboards.records import Record
from codecbench.leaderboards.statistics import across_seeds, bootstrap_mean, paired_difference

ITEMS = 40
NOISE = np.random.default_rng(0).normal(0, 0.01, (4, ITEMS))
SNRS = [-2.5, 0.0, 5.0, 10.0, 40.0]


def a_run(vstoi: Any, seed: int = 0, split: str = "test", **columns: Any) -> Result:
    """A hand-made record; items are named by their number, of 1 s and with SNRS in turn."""
    rows: list[dict[str, Any]] = [
        {"item": f"{i}", "seconds": 1.0, "snr_db": SNRS[i % len(SNRS)], "vstoi": value} for i, value in enumerate(vstoi)
    ]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    spec = {"seed": seed, "data_fingerprint": "same"}
    record = Record(
        spec=spec, hash="", name="", track="cochlear", scores={}, rate_kbps={}, codebook={"perplexity": 37.0}
    )
    return Result(record, {split: rows})


RUNS = {
    "good 1": {0: a_run(0.65 + NOISE[0])},
    "good 2": {0: a_run(0.64 + NOISE[1])},
    "poor": {0: a_run(0.60 + NOISE[2])},
    "like poor": {0: a_run(0.60 + NOISE[3])},
}


def verdict(test: Mapping[str, Any], tmp_path: Path, results: Any = RUNS, **claim: Any) -> Any:
    """What a test of hand-made runs comes to."""
    parsed = claim_of({"test": test, **claim}, tmp_path, [*RUNS, *results])
    return judge(parsed, parsed.splits[0], results, list(dict.fromkeys([*RUNS, *results])))


def claim_of(content: Mapping[str, Any], tmp_path: Path, labels: Sequence[str] = tuple(RUNS)) -> Claim:
    """A claim as the reader of files makes it."""
    about = {"id": "c", "statement": "It is.", "where": "Table I", "paper": 1}
    file = {
        "paper": "P",
        "protocol": [],
        "profiles": {"p": {"cost": "none"}},
        "runs": [
            {"label": "{name}", "settings": {"codec": "frae"}, "for": {"p": {"name": list(dict.fromkeys(labels))}}}
        ],
        "claims": [{**about, **content}],
    }
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(file), encoding="utf-8")
    return read_claims(path).claims[0]


def comparison(form: str, metric: str, *labels: str) -> Criterion:
    return Criterion(form, Column(metric), tuple(Side((label,)) for label in labels), "at_least", 0.0)


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ({"value": ["vstoi", "good 1"], "at_least": 0.63}, "holds"),
        ({"value": ["vstoi", "good 1"], "at_least": 0.67}, "does not hold"),
        ({"value": ["vstoi", "good 1"], "at_least": float(0.65 + NOISE[0].mean())}, "undecided"),
        ({"value": ["vstoi", "poor"], "at_most": 0.62}, "holds"),
        ({"value": ["vstoi", "poor"], "at_most": 0.58}, "does not hold"),
        ({"difference": ["vstoi", "good 1", "poor"], "at_least": 0}, "holds"),
        ({"difference": ["vstoi", "poor", "good 1"], "at_least": 0}, "does not hold"),
        ({"difference": ["vstoi", "poor", "like poor"], "about": 0, "tolerance": 0.02}, "holds"),
        ({"difference": ["vstoi", "good 1", "poor"], "about": 0, "tolerance": 0.02}, "does not hold"),
        ({"difference": ["vstoi", "good 1", "poor"], "about": 0.05, "tolerance": 0.0005}, "undecided"),
        ({"difference": ["vstoi", {"every": "good *"}, {"every": "*poor"}], "at_least": 0}, "holds"),
        ({"difference": ["vstoi", "good 1", {"every": ["good 2", "poor"]}], "at_least": 0.03}, "does not hold"),
        ({"difference": ["vstoi", "good 1", {"any": ["good 2", "poor"]}], "at_least": 0.03}, "holds"),
        ({"difference": ["vstoi", "poor", {"any": "good *"}], "at_least": 0}, "does not hold"),
        ({"difference": ["vstoi", ["good *"], ["poor", "like poor"]], "about": 0.045, "tolerance": 0.01}, "holds"),
        ({"ratio": ["vstoi", "good 1", "poor"], "about": 0.65 / 0.6, "tolerance": 0.02}, "holds"),
        ({"value": [{"share": "vstoi", "beyond": 0.63}, "good 1"], "at_least": 0.8}, "holds"),
        ({"value": ["codebook.perplexity", "good 1"], "at_least": 37}, "holds"),
        ({"value": ["codebook.perplexity", "good 1"], "at_most": 36}, "does not hold"),
        ({"value": ["codebook.perplexity", "good 1"], "above": 37}, "undecided"),  # no more, no less
        ({"value": ["codebook.perplexity", "good 1"], "below": 37}, "undecided"),
        ({"difference": ["vstoi", "good 1", "poor"], "above": 0}, "holds"),
        ({"difference": ["vstoi", "good 1", "poor"], "below": 0}, "does not hold"),
        (
            {
                "all": [
                    {"value": ["vstoi", "good 1"], "at_least": 0.63},
                    {
                        "any": [
                            {"value": ["vstoi", "poor"], "at_least": 0.9},
                            {"value": ["vstoi", "poor"], "at_most": 0.9},
                        ]
                    },
                ]
            },
            "holds",
        ),
        ({"value": ["nmr", "good 1"], "at_least": 0}, "not tested"),
    ],
)
def test_verdicts_of_hand_made_records(test: dict[str, Any], expected: str, tmp_path: Path) -> None:
    assert verdict(test, tmp_path).verdict == expected


def test_what_has_not_been_run_or_is_not_in_the_profile_is_not_tested(tmp_path: Path) -> None:
    test = {"difference": ["vstoi", "good 1", {"every": "*poor"}], "at_least": 0}
    claim = claim_of({"test": test}, tmp_path)
    without = {label: runs for label, runs in RUNS.items() if label != "like poor"}
    judged = judge(claim, "test", without, list(RUNS))
    assert (judged.verdict, judged.why) == ("not tested", "like poor has not been run")
    assert judge(claim, "test", without, list(without)).verdict == "holds"  # a smaller profile has fewer of them
    assert "not in this profile" in judge(claim, "test", without, ["poor"]).why
    assert judge(claim, "train", RUNS, list(RUNS)).why == "no train items"


def test_of_joint_tests_those_of_the_profile_count(tmp_path: Path) -> None:
    tests = [{"value": ["vstoi", label], "at_least": 0.63} for label in ("good 1", "poor")]
    claim = claim_of({"test": {"all": tests}}, tmp_path)
    assert judge(claim, "test", RUNS, list(RUNS)).verdict == "does not hold"
    assert judge(claim, "test", RUNS, ["good 1"]).verdict == "holds"
    assert judge(claim, "test", RUNS, ["good 2"]).why == "its runs are not in this profile"


@pytest.mark.parametrize(
    ("test", "claim", "why"),
    [
        ({"ratio": [{"share": "vstoi", "beyond": 2}, "a", "a"], "at_most": 1}, {}, "a ratio to 0"),
        ({"value": ["noise", "a"], "at_least": 0}, {}, "noise of the items is 'Bus', not a number"),
        ({"value": ["vstoi", "a"], "at_least": 0}, {"subset": {"noise": {"at_least": 5}}}, "noise of the items is"),
        ({"value": ["codebook.perplexity", "a"], "at_least": 0}, {"splits": ["train"]}, "the train items have no"),
    ],
)
def test_numbers_that_are_not_there_stop_no_report(test: Any, claim: Any, why: str, tmp_path: Path) -> None:
    run = a_run(0.6 + NOISE[0], split=claim.get("splits", ["test"])[0], noise=["Bus"] * ITEMS)
    judged = verdict(test, tmp_path, {"a": {0: run}}, **claim)
    assert judged.verdict == "not tested" and why in judged.why


def test_a_subset_is_of_items_and_a_side_may_have_its_own(tmp_path: Path) -> None:
    gains = [1.0 if SNRS[i % len(SNRS)] <= 5 else -1.0 for i in range(ITEMS)]
    results = {"good 1": {0: a_run(gains)}}
    low = verdict({"value": ["vstoi", "good 1"], "at_least": 1}, tmp_path, results, subset={"snr_db": {"at_most": 5}})
    assert low.verdict == "holds" and low.findings[0].estimate[:4] == (1, 1, 1, 24)
    assert "[snr_db <= 5]" in low.findings[0].what
    named = verdict({"value": ["vstoi", "good 1"], "at_most": -1}, tmp_path, results, subset={"snr_db": [10, 40]})
    assert named.verdict == "holds" and named.findings[0].estimate.items == 16
    sides = [{"runs": "good 1", "subset": {"snr_db": {"at_most": 5}}}, "good 1"]
    against_all = verdict({"difference": ["vstoi", *sides], "at_least": 0.5}, tmp_path, results)
    assert against_all.findings[0].estimate.mean == pytest.approx(1 - (24 - 16) / 40)
    none = verdict(
        {"value": ["vstoi", "good 1"], "at_least": 1}, tmp_path, results, subset={"snr_db": {"at_least": 99}}
    )
    assert none.why == "no test items with snr_db >= 99"
    strange = verdict({"value": ["vstoi", "good 1"], "at_least": 1}, tmp_path, results, subset={"noise": "Bus"})
    assert strange.why == "the items have no noise"


def test_a_plain_difference_has_the_interval_of_the_paired_bootstrap() -> None:
    found = estimate(comparison("difference", "vstoi", "good 1", "poor"), {}, "test", RUNS)
    expected = paired_difference(0.65 + NOISE[0], 0.60 + NOISE[2])[:3]
    assert found[:3] == pytest.approx(expected, abs=1e-12)


def test_rates_weigh_by_seconds_and_their_ratio_has_the_interval_of_a_bootstrap_of_ratios() -> None:
    rng, many = np.random.default_rng(1), 600
    seconds = rng.uniform(1, 15, many)
    rates = [5 + rng.normal(0, 0.5, many), 11 + rng.normal(0, 2, many)]
    runs = [a_run(rate, payload_kbps=rate, seconds=seconds) for rate in rates]
    found = estimate(comparison("ratio", "payload_kbps", "a", "b"), {}, "test", {"a": {0: runs[0]}, "b": {0: runs[1]}})
    bits = [rate * seconds for rate in rates]
    assert found.mean == pytest.approx(bits[0].sum() / bits[1].sum())
    drawn = rng.integers(many, size=(5_000, many))
    low, high = np.quantile(bits[0][drawn].sum(1) / bits[1][drawn].sum(1), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_several_seeds_widen_the_interval_and_an_untrained_codec_has_one() -> None:
    ours = {seed: a_run(0.65 + 0.01 * seed + NOISE[0], seed) for seed in (0, 1, 2)}
    found = estimate(comparison("difference", "vstoi", "a", "b"), {}, "test", {"a": ours, "b": RUNS["poor"]})
    each = [bootstrap_mean(0.05 + 0.01 * seed + NOISE[0] - NOISE[2]) for seed in (0, 1, 2)]
    assert found[:3] == pytest.approx(across_seeds(*zip(*each, strict=True)), abs=1e-9)
    assert found.high - found.low > 2 * (each[0][2] - each[0][1])


def test_of_many_comparisons_one_alone_needs_a_wider_interval(tmp_path: Path) -> None:
    """0.0031 below 20 others by chance in one of them is no refutation; a single one would be."""
    spread = NOISE[0] - NOISE[0].mean()
    edge = 2.3 * spread.std(ddof=1) / np.sqrt(ITEMS)
    results = {"good 1": {0: a_run(spread - edge)}, **{f"r {i}": {0: a_run(0 * spread)} for i in range(20)}}
    assert (
        verdict({"difference": ["vstoi", "good 1", "r 0"], "at_least": 0}, tmp_path, results).verdict == "does not hold"
    )
    every = verdict({"difference": ["vstoi", "good 1", {"every": "r *"}], "at_least": 0}, tmp_path, results)
    assert every.verdict == "undecided" and len(every.findings) == 20


def test_runs_on_different_data_are_not_compared(tmp_path: Path) -> None:
    other = a_run(NOISE[0])
    other.record.spec["data_fingerprint"] = "another"
    test = {"difference": ["vstoi", "good 1", "poor"], "at_least": 0}
    assert verdict(test, tmp_path, {**RUNS, "poor": {0: other}}).why == "its runs are on different data"
