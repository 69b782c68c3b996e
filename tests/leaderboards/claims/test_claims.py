"""Claims of papers: how they are written down, and the report of a miniature reproduction."""

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.specs.stages import read_stages
from codecbench.benchmark.studies import reproduce as command
from codecbench.benchmark.studies.reproduce import Reproduction, settled, specs_of
from codecbench.datamodules.demo import Demo
from codecbench.leaderboards import records
from codecbench.leaderboards.claims import report as claims_report
from codecbench.leaderboards.claims.judging import Result
from codecbench.leaderboards.claims.model import LabelledRun, claims_files
from codecbench.leaderboards.errors import ClaimsError
from codecbench.leaderboards.item_plots import Labels, boxes
from codecbench.leaderboards.records import Record

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


def written(content: Any, tmp_path: Path) -> Path:
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", claims_files())
def test_the_plug_ins_and_stages_of_every_shipped_file_are_there(name: str) -> None:
    file, seen = settled(claims_files()[name]), set()
    for runs in file.runs.values():
        for label, asked in runs.items():
            names = [asked.settings.get("codec"), asked.settings.get("quantizer"), *map(str, stages_of(asked))]
            if not seen.issuperset(names):
                seen.update(names)
                become_specs(label, asked)
    assert all(claim.statement.endswith((".", "...")) for claim in file.claims)


@pytest.mark.slow
@pytest.mark.parametrize("name", claims_files())
def test_every_run_of_every_shipped_file_is_a_spec(name: str) -> None:
    for runs in settled(claims_files()[name]).runs.values():
        for label, asked in runs.items():
            become_specs(label, asked)


def stages_of(asked: LabelledRun) -> list[Any]:
    return asked.settings["options"].get("training", {}).get("stages", [])


def become_specs(label: str, asked: LabelledRun) -> None:
    """One spec for one seed, on data that are at hand."""
    (spec,) = specs_of(asked, Reproduction(None, data="demo"))
    stages = read_stages(stages_of(asked)) if stages_of(asked) else None
    assert spec.codec.name == asked.settings["codec"] and spec.training.stages == stages, label


def test_templates_become_labelled_runs_and_placeholders_keep_their_type(tmp_path: Path) -> None:
    runs = settled(written(MINIATURE, tmp_path)).runs["tiny"]
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
    with pytest.raises((UserError, ClaimsError)) as error:
        settled(written(content, tmp_path))
    assert line in str(error.value) and "\n" not in str(error.value)


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


def test_rows_of_other_profiles_are_counted_not_shown(tmp_path: Path) -> None:
    (table,) = settled(written(MINIATURE, tmp_path)).tables
    shown = "\n".join(claims_report._table(table, ["frae 2 bit"], {}, "command"))
    assert "| frae 2 bit |" in shown and "leaves out" not in shown
    shown = "\n".join(claims_report._table(table, ["frae 4 bit"], {}, "command"))
    assert "frae 2 bit" not in shown and "Of the paper's 1 rows this profile leaves out 1." in shown


def test_what_cannot_be_trained_is_said_before_any_run(speech: Path, tmp_path: Path, capsys) -> None:
    judged = {"label": "judged", "settings": {"codec": "frae", "training": {"adversarial_weight": 1.0}}}
    claims = written(MINIATURE | {"runs": [*MINIATURE["runs"], judged | {"for": {"tiny": [{}]}}]}, tmp_path)
    assert main(["reproduce", str(claims), "--data.root", str(speech), "--dry-run"]) == 0
    assert "cannot run: discriminators judge waveforms" in " ".join(capsys.readouterr().out.split())


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
