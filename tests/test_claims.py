"""Claims of papers: how they are written down, what makes one hold, and the report of a miniature reproduction."""

import copy
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from codecbench.benchmark import reproduce as command
from codecbench.benchmark.claims import Asked, Claim, Comparison, Metric, Side, claims_files
from codecbench.benchmark.claims_reading import read_claims
from codecbench.benchmark.cli import main
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.judging import Result, estimate, judge
from codecbench.benchmark.reproduce import Request, specs_of
from codecbench.datamodules.demo import Demo
from codecbench.leaderboards import records
from codecbench.leaderboards.item_plots import Labels, boxes
from codecbench.leaderboards.records import Record
from codecbench.leaderboards.statistics import across_seeds, bootstrap_mean, paired_difference

ITEMS = 40
NOISE = np.random.default_rng(0).normal(0, 0.01, (4, ITEMS))
SNRS = [-2.5, 0.0, 5.0, 10.0, 40.0]
MINIATURE = {
    "paper": "Nobody: Two Runs",
    "protocol": ["None."],
    "profiles": {
        "tiny": {
            "cost": "seconds",
            "settings": {"data": {"name": "scenes", "speech": "folder"}},
            "names": {"descend": "gradient:steps=3,quantized=false"},
            "train_items": 2,
        }
    },
    "runs": [
        {
            "label": "frae {bits} bit",
            "settings": {
                "codec": "frae-l3-h2-r1",
                "quantizer": {"name": "kmeans_vq", "codebook_bits": "{bits}"},
                "coder": "huffman",
                "training": {"stages": ["{descend}", "fit"], "batch_size": 4},
            },
            "on_train": True,
            "for": {"tiny": {"bits": [2, 4]}},
        },
        {"label": "unknown", "settings": {"codec": "no_such_codec"}, "for": {"tiny": [{}]}},
    ],
    "claims": [
        {
            "id": "more-bits",
            "statement": "Four bits cost more than two.",
            "where": "Fig. 1",
            "paper": "twice",
            "test": {"ratio": ["nominal_kbps", "frae 4 bit", "frae 2 bit"], "about": 2, "tolerance": 0.01},
            "splits": ["test", "train"],
        },
        {
            "id": "not-there",
            "statement": "The unknown is best.",
            "where": "Fig. 1",
            "paper": "+1",
            "test": {"difference": ["vstoi", "unknown", {"every": "frae *"}], "at_least": 0},
        },
    ],
    "tables": [{"title": "Table 1", "metrics": ["vstoi", "bits_per_frame"], "paper": {"frae 2 bit": [0.5, None]}}],
    "figures": [
        {
            "file": "rate.png",
            "kind": "rate",
            "title": "Fig. 1",
            "metric": "vstoi",
            "rate": "measured_kbps",
            "runs": {"FRAE": "frae *"},
        },
        {"file": "boxes.png", "kind": "boxes", "title": "Fig. 2", "metric": "vstoi", "runs": {"FRAE": "frae 2 bit"}},
        {
            "file": "snr.png",
            "kind": "by",
            "title": "Fig. 3",
            "metric": "dvstoi",
            "condition": "snr_db",
            "runs": {"FRAE": "frae 4 bit"},
        },
        {"file": "none.png", "kind": "boxes", "title": "Fig. 4", "metric": "vstoi", "runs": {"other": "unknown"}},
    ],
}


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
    return read_claims(written(file, tmp_path)).claims[0]


def written(content: Any, tmp_path: Path) -> Path:
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", claims_files())
def test_the_plug_ins_and_stages_of_every_shipped_file_are_there(name: str) -> None:
    file, seen = read_claims(claims_files()[name]), set()
    for runs in file.runs.values():
        for label, asked in runs.items():
            names = [asked.settings.get("codec"), asked.settings.get("quantizer"), *stages_of(asked)]
            if not seen.issuperset(names):
                seen.update(names)
                become_specs(label, asked)
    assert all(claim.statement.endswith((".", "...")) for claim in file.claims)


@pytest.mark.slow
@pytest.mark.parametrize("name", claims_files())
def test_every_run_of_every_shipped_file_is_a_spec(name: str) -> None:
    for runs in read_claims(claims_files()[name]).runs.values():
        for label, asked in runs.items():
            become_specs(label, asked)


def stages_of(asked: Asked) -> list[str]:
    return asked.settings["options"].get("training", {}).get("stages", [])


def become_specs(label: str, asked: Asked) -> None:
    """One spec for one seed, on data that are at hand."""
    (spec,) = specs_of(asked, Request(None, data="demo"))
    assert spec.codec.name == asked.settings["codec"] and spec.training.stages == (stages_of(asked) or None), label


def test_templates_become_labelled_runs_and_placeholders_keep_their_type(tmp_path: Path) -> None:
    runs = read_claims(written(MINIATURE, tmp_path)).runs["tiny"]
    assert list(runs) == ["frae 2 bit", "frae 4 bit", "unknown"]
    options = runs["frae 4 bit"].settings["options"]
    assert options["quantizer"] == {"codebook_bits": 4}
    assert options["training"]["stages"] == ["gradient:steps=3,quantized=false", "fit"]
    assert options["data"] == {"speech": "folder"} and runs["frae 4 bit"].on_train


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"paper": None}, "lacks 'paper'"),
        ({"clams": []}, "has no field 'clams'; did you mean claims?"),
        ({"runs": {}}, "runs must be a list, not '{}'"),
        ({"runs[0].label": "frae {bit}"}, "has a placeholder that nothing stands for ('bit')"),
        ({"runs[0].label": "frae"}, "two runs of tiny are labelled 'frae'"),
        ({"runs[0].settings": {"kodec": "frae"}}, "no setting is called 'kodec'; did you mean codec?"),
        (
            {"claims[0].test": {"value": ["vstoi", "frae 2 bit"]}},
            "at_most, above, below, about; it has none",
        ),
        ({"claims[0].test": {"value": ["vstoi", "frae 3 bit"], "at_least": 0}}, "no run is labelled 'frae 3 bit'"),
        ({"claims[0].test": {"value": ["vstoi"], "at_least": 0}}, "value must list a metric and 1 side(s)"),
        ({"claims[0].test": {"value": ["vstoi", "frae 2 bit"], "about": 0}}, "lacks 'tolerance'"),
        ({"claims[0].test": {"value": ["vstoi", "frae 2 bit"], "at_most": "x"}}, "'x' must be a number"),
        (
            {"claims[0].test": {"ratio": ["vstoi", {"every": "frae *"}, {"any": "frae *"}], "at_most": 1}},
            "of every one or of any one, not both",
        ),
        ({"claims[1].id": "more-bits"}, "two claims have this id"),
        ({"claims[0].splits": ["dev"]}, "splits=['dev'] must list test, train or both"),
        ({"tables[0].paper": {"frae 2 bit": 0.5}}, "frae 2 bit must have a number for each of vstoi, bits_per_frame"),
        ({"figures[0].kind": "pie"}, "kind='pie' must be one of rate, boxes, by"),
        ({"figures[0].file": "../a.png"}, "file must be a name like fig3.png"),
    ],
)
def test_a_malformed_file_is_one_line(change: dict[str, Any], line: str, tmp_path: Path) -> None:
    content = copy.deepcopy(MINIATURE)
    for place, value in change.items():
        target: Any = content
        *parents, last = place.replace("]", "").replace("[", ".").split(".")
        for key in parents:
            target = target[int(key) if key.isdigit() else key]
        target[last] = value
        if value is None:
            del target[last]
    with pytest.raises(UserError) as error:
        read_claims(written(content, tmp_path))
    assert line in str(error.value) and "\n" not in str(error.value)


# -- verdicts ----------------------------------------------------------------------------------------------------------


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


def comparison(form: str, metric: str, *labels: str) -> Comparison:
    return Comparison(form, Metric(metric), tuple(Side((label,)) for label in labels), "at_least", 0.0)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of four training, two validation and two test utterances, and an empty cache."""
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    corpus, root = Demo(), tmp_path / "speech"
    for split, count in (("train", 4), ("validation", 2), ("test", 2)):
        for number, item in enumerate(corpus.items(split)[:: len(corpus.items(split)) // count][:count]):
            place = root / split / f"voice{split}{number}"
            place.mkdir(parents=True)
            shutil.copy(item.path, place)
    return root


def test_a_miniature_paper_is_reproduced(speech: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    claims, runs = written(MINIATURE, tmp_path), tmp_path / "runs"
    words = ["reproduce", str(claims), "--data.root", str(speech), "--output-dir", str(runs)]
    assert main([*words, "--dry-run"]) == 0 and not runs.exists()
    shown = capsys.readouterr().out
    assert "0 of 3 runs are done; 3 steps to train" in shown  # the first stage is shared
    assert "cannot run: no codec is called 'no_such_codec'" in " ".join(shown.split())

    real = command.run_one

    def failing(spec: Any, *rest: Any, **options: Any) -> Record:
        if spec.quantizer.options["codebook_bits"] == 2:
            raise RuntimeError("out of\nluck")
        return real(spec, *rest, **options)

    monkeypatch.setattr(command, "run_one", failing)
    assert main(words) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "frae 2 bit: RuntimeError: out of luck" in shown and "failed: unknown: no codec is called" in shown
    monkeypatch.setattr(command, "run_one", real)
    assert main([*words, "--only", "frae 2*"]) == 0

    folder = runs / "reproduce-claims-tiny"
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert report.count("| **holds** |") == 2 and report.count("| **not tested** |") == 1
    assert "2.00" in report and "unknown has not been run" in report
    assert f"--data.root {speech}" in report and "Not drawn: no values to draw." in report
    for name in ("rate.png", "boxes.png", "snr.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG") and f"]({name})" in report
    for record in records.find(runs):
        tested = records.read_items(runs / record.name / "items.csv")
        trained = records.read_items(runs / record.name / "items-train.csv")
        assert len(trained) == 2 and not {row["item"] for row in trained} & {row["item"] for row in tested}
        assert {"snr_db", "vstoi", "dvstoi", "nominal_kbps"} <= trained[0].keys()
        assert record.rate_kbps["coder"] == "huffman"
    for by_seed in command.read_results(folder / "runs.json", runs).values():
        the_mean_code_length_is_reported(by_seed[0])

    (folder / "report.md").unlink()
    other = runs / "reproduce-claims-tiny" / "runs.json"
    whole = other.read_text(encoding="utf-8")
    assert main([*words, "--data", "scenes", "--data.seed", "1", "--only", "unknown"]) == 2  # other data: forgotten
    assert "no run has finished; unknown: no codec is called" in capsys.readouterr().err
    other.write_text(whole, encoding="utf-8")
    shutil.rmtree(speech)
    assert main([*words[:2], "--output-dir", str(runs), "--report-only"]) == 0
    again = (folder / "report.md").read_text(encoding="utf-8")
    assert again.count("| **holds** |") == 2


def the_mean_code_length_is_reported(result: Result) -> None:
    """No prefix code beats the entropy of its very symbols; a byte a file is what padding may add to a fixed length."""
    rows, (stream,) = result.rows["test"], result.record.codebook["streams"]
    frames = [-(-round(16_000 * row["seconds"]) // 18) for row in rows]
    bits = [row["payload_kbps"] * row["seconds"] * 1000 for row in rows]
    lengths = [row["bits_per_frame"] for row in rows]
    assert lengths == pytest.approx(np.divide(bits, frames), rel=2e-3)  # whole frames against seconds
    assert stream["entropy"] <= sum(bits) / sum(frames) < np.log2(stream["size"]) + 1


def test_users_mistakes_are_one_line(tmp_path: Path, capsys) -> None:
    place, mine = ["--output-dir", str(tmp_path)], str(written(MINIATURE, tmp_path))
    assert main(["reproduce"]) == 0 and "frae" in capsys.readouterr().out
    for words, line in (
        (["fraee"], "no claims are called 'fraee'; did you mean frae?"),
        (["no.yaml"], "no.yaml: cannot be read"),
        (["frae", "--profile", "ful"], "no profile is called 'ful'; did you mean full?"),
        ([mine, "--data", "demo", "--only", "frea*"], "--only frea*: no run of this profile is labelled so"),
        (["frae", "--report-only"], "no run has finished; leave --report-only out"),
        (["frae", "--codec.feedback", "2"], "reproduce has no argument '--codec.feedback'"),
        ([mine, "--data", "no_such"], "no corpus is called 'no_such'"),
    ):
        assert main(["reproduce", *words, *place]) == 2
        told = capsys.readouterr().err
        assert line in told and told.count("\n") == 1


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no values to draw"):
        boxes({"a": [float("nan")]}, tmp_path / "a.png", Labels("", "", "VSTOI"), None)
