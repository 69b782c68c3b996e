"""The search for hyper-parameters: what it finds, and that nothing of it is lost."""

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.specs import registry as plugins
from codecbench.benchmark.specs.grid import make_specs
from codecbench.benchmark.specs.spec import Spec
from codecbench.benchmark.specs.stages import SPSA
from codecbench.benchmark.studies.tuning import objective as objectives
from codecbench.benchmark.studies.tuning import search as tune
from codecbench.benchmark.studies.tuning.aim import Aim, Outcome, PrunedError
from codecbench.benchmark.studies.tuning.space import default_space, make_space, overlay
from codecbench.benchmark.studies.tuning.study import opened
from filelock import FileLock
from optuna.trial import TrialState

RATE = "training.learning_rate"
VECTORS = ["--codec", "none", "--data", "toy", "--quantizer", "nsvq", "--objective", "validation"]
TINY = ["--training.steps", "8", "--training.validate_every", "4", "--training.batch_size", "2"]
SHORT = ["--codec", "frae", "--quantizer", "kmeans_vq:codebook_bits=2", "--adam-steps", "1", "--spsa-steps", "1"]
DYING = """
import os, signal
from multiprocessing import parent_process
from pathlib import Path
from codecbench.quantizers.nsvq import NSVQ as Base

class Dying(Base):
    def __init__(self, channels: int, times: int = 1):
        super().__init__(channels, 3.0)
        deaths = Path(__file__).with_suffix(".deaths")
        before = len(deaths.read_text()) if deaths.exists() else 0
        if parent_process() is not None and before < times:
            deaths.write_text("x" * (before + 1))
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plugins, "_handed_in", {kind: {} for kind in plugins.BASES})
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()


@pytest.fixture
def parabola(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Trials that cost nothing: the score is highest at a learning rate of 0.01."""
    tried: list[dict[str, Any]] = []

    def score(spec: Spec, values: dict[str, Any], aim: Aim, report: Any) -> Outcome:
        tried.append(values)
        return Outcome(-abs(np.log10(values[RATE]) + 2), "", 0.1)

    monkeypatch.setattr(tune, "attempt", score)
    monkeypatch.setattr(tune, "prepare", lambda *_: "negative validation loss")
    monkeypatch.setattr(tune, "draw_history", lambda *_: None)
    return tried


def spec_of(quantizer: str = "kmeans_vq", codec: str = "frae", data: str = "demo", **options: Any) -> Spec:
    (spec,) = make_specs(quantizer, codec, data, **options)
    return spec


def search(*tokens: str) -> int:
    return main(["tune", "--quiet", *VECTORS, *TINY, *tokens])


def trials(path: str = "study.db") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="benchmark tune", storage=f"sqlite:///{path}").trials


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert err.startswith("benchmark: ") and err.count("\n") == 1 and "Traceback" not in err
    return err


# -- the study --------------------------------------------------------------------------------------------------------


def test_a_search_of_the_published_objective(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *SHORT, "--trials", "2", "--study", "a study.db"]) == 0
    out = capsys.readouterr().out
    assert "decoded without quantizer" in out and "benchmark run --config" in out
    scores = [trial.value for trial in trials("a study.db")]
    text = Path("a study.yaml").read_text()
    assert text.startswith(
        "# benchmark tune --quantizer kmeans_vq:codebook_bits=2 --codec frae --adam-steps 1 --spsa-steps 1 "
    )
    assert f"{max(scores):.4f}" in text.splitlines()[1]  # type: ignore[type-var]
    assert Path("a study.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    (spec,) = make_specs(config="a study.yaml")
    best = max(trials("a study.db"), key=lambda trial: trial.value or 0.0)
    assert spec.codec.options["widths"] == [best.params[f"codec.widths.{layer}"] for layer in range(3)]
    assert spec.training.learning_rate == best.params[RATE]
    stages = spec.training.stages or []
    assert {stage.stability for stage in stages if isinstance(stage, SPSA)} == {best.params["spsa.stability"]}


def test_a_search_by_validation_goes_on_where_it_was() -> None:
    few = ("--quantizer.codebook_bits", "3")
    assert search(*few, "--trials", "1") == 0
    (first,) = trials()
    assert search(*few, "--trials", "2") == 0
    assert [trial.state for trial in trials()] == [TrialState.COMPLETE] * 2 and trials()[0].value == first.value
    (spec,) = make_specs(config="study.yaml")
    best = max(trials(), key=lambda trial: trial.value or -np.inf)
    asked = spec_of("nsvq:codebook_bits=3", "none", "toy", training=asdict(spec.training))
    assert spec == overlay(asked, {RATE: best.params[RATE]})


@pytest.mark.parametrize(("option", "common"), [(RATE, False), ("quantizer.replacement", True)])
def test_trials_are_given_a_folder_for_what_they_have_in_common(
    option: str, common: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    aims: list[Any] = []
    monkeypatch.setattr(tune, "attempt", lambda _spec, _values, aim, _report: aims.append(aim) or Outcome(1.0, "", 0.1))
    Path("space.yaml").write_text(f"{option}: {{low: 0.01, high: 0.1}}", encoding="utf-8")
    assert search("--space", "space.yaml", "--trials", "2") == 0
    assert len(aims) == 2 and len({aim.stages for aim in aims}) == 1
    assert (aims[0].stages is not None) == common


def test_the_search_learns_from_scores() -> None:
    """Where large values are better, the last ten of twenty trials lie far above the first."""
    spec, tried = spec_of("nsvq", "none", "toy"), []
    space = make_space(default_space(spec), spec)
    with opened(Path("study.db"), {}, space, 0, "none") as found:
        for _ in range(20):
            trial, values = found.next_trial()
            tried.append(float(np.log10(values[RATE])))
            found.tell(trial, Outcome(tried[-1], "", 0.1))
    assert np.mean(tried[-10:]) > np.mean(tried[:10]) + 0.4


def test_an_interrupted_search_ends_as_any_other(
    parabola: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ctrl-C, and by a kill, after which nobody is left to say that the trial was cut off."""
    assert search("--trials", "12", "--study", "whole.db") == 0
    whole, score = list(parabola), tune.attempt
    parabola.clear()

    def interrupted(*given: Any) -> Outcome:
        if len(parabola) == 11:
            shutil.copy("stopped.db", "killed.db")  # what a kill would leave
            raise KeyboardInterrupt
        return score(*given)

    with monkeypatch.context() as patched:
        patched.setattr(tune, "attempt", interrupted)
        assert search("--trials", "12", "--study", "stopped.db") == 130
    before = list(parabola)
    for name, left in (("stopped", TrialState.FAIL), ("killed", TrialState.RUNNING)):
        parabola[:] = before
        assert [trial.state for trial in trials(f"{name}.db")][11] == left
        assert search("--trials", "12", "--study", f"{name}.db") == 0
        assert parabola == whole
        assert [trial.state for trial in trials(f"{name}.db")].count(TrialState.FAIL) == 1


def test_ctrl_c_is_heard_where_it_cannot_be_raised(
    parabola: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    score = tune.attempt

    def swallowing(*given: Any) -> Outcome:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return score(*given)

    monkeypatch.setattr(tune, "attempt", swallowing)
    assert search("--trials", "3") == 130
    assert [trial.state for trial in trials()] == [TrialState.COMPLETE]


def test_a_trial_that_kills_its_process_is_given_up(parabola: list[dict[str, Any]]) -> None:
    spec = spec_of("nsvq", "none", "toy")
    space = make_space(default_space(spec), spec)
    for begun in range(3):
        with opened(Path("study.db"), {}, space, 0, "none") as found:
            if begun < 2:
                found.next_trial()
    assert [trial.state for trial in trials()] == [TrialState.FAIL, TrialState.PRUNED]
    assert trials()[0].params == trials()[1].params


def test_a_study_of_other_settings_is_refused_and_kept(
    parabola: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert search("--trials", "2") == 0
    before = [(trial.params, trial.value) for trial in trials()]
    capsys.readouterr()
    assert search("--training.batch_size", "3") == 2
    assert "study.db: belongs to another search (run.training.batch_size is 2 there, 3 here)" in line_of(capsys)
    Path("space.yaml").write_text(yaml.safe_dump({RATE: {"low": 0.1, "high": 0.2}}))
    assert search("--space", "space.yaml") == 2
    assert "belongs to another search (space.training.learning_rate.low is 0.0003 there, 0.1 here)" in line_of(capsys)
    assert [(trial.params, trial.value) for trial in trials()] == before


def test_a_file_that_is_no_study_is_refused_and_kept(
    parabola: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    import sqlite3

    Path("text.db").write_text("not a study at all")
    with sqlite3.connect("other.db") as other:
        other.execute("CREATE TABLE mine (x)")
    optuna.create_study(storage="sqlite:///foreign.db", study_name="benchmark tune", direction="maximize").ask()
    for path in ("text.db", "other.db", "foreign.db"):
        before = Path(path).read_bytes()
        assert search("--study", path) == 2
        assert f"--study {path}: " in line_of(capsys)
        assert Path(path).read_bytes() == before
    assert search("--study", "text.db/study.db") == 2
    assert "cannot be written" in line_of(capsys)
    with FileLock("study.db.lock"):
        assert search() == 2
    assert "another process is at work on it" in line_of(capsys)


def test_trials_without_a_score_do_not_end_the_search(
    parabola: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    score = tune.attempt
    monkeypatch.setattr(
        tune,
        "attempt",
        lambda *given: Outcome(None, "training diverged", 0.1) if given[1][RATE] > 0.01 else score(*given),
    )
    assert main(["tune", *VECTORS, *TINY, "--trials", "6"]) == 0
    states = [trial.state for trial in trials()]
    assert {*states} == {TrialState.COMPLETE, TrialState.PRUNED} and len(states) == 6
    assert "training diverged" in capsys.readouterr().out
    monkeypatch.setattr(tune, "attempt", lambda *_: Outcome(None, "it is broken", 0.1))
    assert search("--trials", "2", "--study", "none.db") == 2
    assert "none of 2 trials has a score; the last: it is broken" in line_of(capsys)
    assert not Path("none.yaml").exists()


def test_a_poor_trial_is_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first five are alike, the sixth reports less than all of them."""
    done: list[int] = []

    def curve(spec: Spec, aim: Aim, report: Any) -> float:
        done.append(0)
        for step in range(2):
            if report(step - 10.0 * (len(done) == 6)):
                raise PrunedError
            done[-1] += 1
        return 4.0

    monkeypatch.setattr(objectives, "score_trial", curve)
    monkeypatch.setattr(tune, "prepare", lambda *_: "negative validation loss")
    assert search("--trials", "7") == 0
    assert done == [2, 2, 2, 2, 2, 0, 2]
    assert trials()[5].state is TrialState.PRUNED and trials()[5].user_attrs["reason"] == "pruned"


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "line"),
    [
        ("--trails 3", "tune has no argument '--trails'; did you mean --trials?"),
        ("--trials 0", "--trials 0 must be at least 1"),
        ("--workers 0", "--workers 0 must be at least 1"),
        ("--seed 0,1", "tune takes one quantizer, codec, corpus, bitrate and seed, not 2 combinations"),
        ("--codec opus", "opus is not trained"),
        ("--objective validation --adam-steps 3", "--adam-steps is for --objective pattern"),
        ("--adam-steps 0", "--adam-steps=0 must be at least 1"),
        ("--out study.db", "--out study.db: that is the study; name another file"),
        ("--out tiny/", "--out tiny: cannot be written"),
        ("--space none.yaml", "--space none.yaml: cannot be read"),
        ("--codec.widht 3", "frae has no option 'widht'; did you mean widths?"),
    ],
)
def test_a_mistake_is_told_in_one_line(capsys: pytest.CaptureFixture[str], tokens: str, line: str) -> None:
    assert main(["tune", "--quiet", *tokens.split()]) == 2
    assert line in line_of(capsys)
    assert not Path("study.db").exists()


def test_help_loads_neither_torch_nor_optuna() -> None:
    code = "import sys; from codecbench.benchmark.cli.main import main; main(['tune', '--help']); "
    code += "sys.exit(bool({'torch', 'optuna'} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0 and "examples:" in found.stdout and "--space" in found.stdout


# -- several processes ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_several_workers_share_a_search() -> None:
    assert search("--trials", "4", "--workers", "2") == 0
    assert [trial.state for trial in trials()] == [TrialState.COMPLETE] * 4


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_the_trial_of_a_killed_worker_runs_again(times: int) -> None:
    """Once: it is repeated and ends well. Twice: it is given up, and the others go on."""
    Path("dying.py").write_text(DYING)
    tokens = ["--plugin", "dying.py", "--quantizer", "dying", f"--quantizer.times={times}"]
    Path("space.yaml").write_text(yaml.safe_dump({RATE: {"low": 0.01, "high": 0.02}}))
    assert search(*tokens, "--trials", "3", "--workers", "2", "--space", "space.yaml") == 0
    states = [trial.state for trial in trials()]
    assert states.count(TrialState.FAIL) >= 1
    assert states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED) == 3
    again = {trial.params[RATE] for trial in trials() if trial.user_attrs.get("attempt") == 2}
    assert again == {trial.params[RATE] for trial in trials() if trial.state is TrialState.FAIL}


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    code = "import sys; from codecbench.benchmark.cli.main import main; sys.exit(main(sys.argv[1:]))"
    tokens = ["tune", *VECTORS, "--training.steps", "100000", "--workers", "2", "--trials", "4"]
    command = [sys.executable, "-c", code, *tokens]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (Path("study.db").exists() and len(_children(parent.pid)) >= 2):
        time.sleep(0.2)
    children = _children(parent.pid)
    time.sleep(10)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while time.monotonic() < deadline and any(Path(f"/proc/{child}").exists() for child in children):
        time.sleep(0.2)
    assert children and not any(Path(f"/proc/{child}").exists() for child in children)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in tasks.read_text().split()] if tasks.exists() else []
