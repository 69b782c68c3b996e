"""The CI gate end to end: the same method passes, a codebook that never learns fails, another CPU only warns."""

import io
import shutil
from pathlib import Path

import pytest
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.runs import run as running
from codecbench.benchmark.specs.grid import make_specs
from codecbench.benchmark.specs.training import Training
from codecbench.benchmark.studies import gate as gating
from codecbench.datamodules.demo import Demo
from codecbench.leaderboards import records
from codecbench.quantizers.nsvq import NSVQ
from rich.console import Console

LIMITS = ["vstoi=0.02"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few utterances, a recipe that runs on them, and the baseline that it makes."""
    root = tmp_path_factory.mktemp("gate")
    for split, count in (("train", 12), ("validation", 2), ("test", 6)):
        items = Demo().items(split)
        for item in items[:: len(items) // count][:count]:
            target = root / "speech" / split / item.path.stem
            target.mkdir(parents=True)
            shutil.copy(item.path, target)
    running.run_grid(recipe(root), root / "runs", False, None, Console(quiet=True))
    return root


def recipe(root: Path, **_: object) -> list:
    return make_specs(
        "nsvq",
        "frae",
        "folder",
        data_options={"root": str(root / "speech")},
        training=Training(steps=150, batch_size=32, crop_seconds=0.0675, validate_every=50),
    )


def gate(place: Path, monkeypatch: pytest.MonkeyPatch, baseline: Path, output: Path) -> tuple[int, str]:
    monkeypatch.setattr(gating, "make_specs", lambda **given: recipe(place))
    console = Console(file=io.StringIO(), width=120)
    return gating.gate(baseline, LIMITS, output, console), console.file.getvalue()


@pytest.mark.slow
def test_an_unchanged_method_passes_and_scores_the_same(place: Path, tmp_path: Path, monkeypatch) -> None:
    code, text = gate(place, monkeypatch, place / "runs", tmp_path)
    assert code == 0 and "passed" in text
    (before,), (after,) = records.find(place / "runs"), records.find(tmp_path)
    assert before.scores == after.scores


@pytest.mark.slow
def test_a_codebook_that_never_learns_is_caught(place: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(NSVQ, "fit", lambda self, latents: None)
    monkeypatch.setattr(NSVQ, "update", lambda self, latents, codes, progress: None)
    surrogate = NSVQ.surrogate

    def frozen(self, latents, noise):
        self.codebook.requires_grad_(False)
        return surrogate(self, latents, noise)

    monkeypatch.setattr(NSVQ, "surrogate", frozen)
    code, text = gate(place, monkeypatch, place / "runs", tmp_path)
    assert code == 1 and "regressed" in text


@pytest.mark.slow
def test_another_machine_is_named_and_only_warned_of(place: Path, tmp_path: Path, monkeypatch) -> None:
    elsewhere = tmp_path / "baseline"
    shutil.copytree(place / "runs", elsewhere)
    (record,) = records.find(elsewhere)
    assert record.path is not None
    record.environment["cpu"] = "another CPU"
    rows = records.read_items(record.path.with_name("items.csv"))
    records.write_items(record.path.with_name("items.csv"), [row | {"vstoi": row["vstoi"] + 0.5} for row in rows])
    records.write(record, record.path)
    code, text = gate(place, monkeypatch, elsewhere, tmp_path / "runs")
    assert code == 0 and "another CPU" in text


def test_a_baseline_of_other_settings_is_refused_before_anything_runs(tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["gate", "--baseline", str(tmp_path / "empty"), "--max-drop", "vstoi=0.02"]) == 2
    assert "benchmark run --profile ci" in capsys.readouterr().err
    assert main(["gate", "--baseline", str(tmp_path / "empty"), "--max-drop", "vstoi"]) == 2


def test_a_metric_that_the_baseline_lacks_is_said_before_anything_is_trained(tmp_path: Path, capsys) -> None:
    committed = Path(__file__).parents[3] / "leaderboards" / "results" / "ci"
    words = ["gate", "--baseline", str(committed), "--max-drop", "vstoy=0.1", "--output-dir", str(tmp_path)]
    assert main(words) == 2
    assert "has no such score; did you mean vstoi?" in capsys.readouterr().err and not list(tmp_path.iterdir())
