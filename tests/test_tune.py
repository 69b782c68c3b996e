"""The search for hyper-parameters: what it varies, what it maximises, and that nothing of it is lost."""

import contextlib
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
import torch
import yaml
from codecbench.benchmark import objectives, plugins, tune
from codecbench.benchmark.cli import main
from codecbench.benchmark.domains import signal_rate, track_of
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.grid import make_specs
from codecbench.benchmark.metrics.intelligibility import vstoi
from codecbench.benchmark.objectives import Aim, Outcome, attempt, check_aim, evaluate, one_pattern
from codecbench.benchmark.run import make_codec
from codecbench.benchmark.search_space import (
    default_space,
    make_space,
    overlay,
    read_space,
    staged_as_published,
)
from codecbench.benchmark.spec import Spec
from codecbench.benchmark.stages import SPSA, parse_stages
from codecbench.benchmark.studies import opened
from filelock import FileLock
from optuna.trial import TrialState

RATE = "training.learning_rate"
VECTORS = ["--codec", "none", "--data", "toy", "--quantizer", "nsvq", "--objective", "validation"]
TINY = ["--training.steps", "20", "--training.validate_every", "4", "--training.batch_size", "2"]
SHORT = ["--codec", "frae", "--quantizer", "kmeans_vq", "--adam-steps", "1", "--spsa-steps", "1"]
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


# -- the space --------------------------------------------------------------------------------------------------------


def test_frae_is_searched_as_published() -> None:
    spec = staged_as_published(spec_of(codec="frae-l3-h2-r2"))
    space = make_space(default_space(spec), spec)
    assert list(space) == [
        *("codec.widths.0", "codec.widths.1", "training.band_selection_weight", RATE),
        *("spsa.stability", "spsa.c"),
    ]
    kinds = [stage.kind for stage in parse_stages(spec.training.stages or [])]
    assert kinds == ["gradient", "spsa", "fit", "spsa"]
    assert list(default_space(spec_of("nsvq", "none", "toy"))) == [RATE]


def test_values_become_the_options_of_a_run() -> None:
    spec = staged_as_published(spec_of(codec="frae-l3-h2-r2"))
    values = {"codec.widths.0": 40, "codec.widths.1": 20, RATE: 0.02, "spsa.c": 0.5, "quantizer.codebook_bits": 3.0}
    changed = overlay(spec, values)
    assert changed.codec.name == "frae" and changed.codec.options["widths"] == [40, 20]
    assert changed.codec.options["latent_dim"] == 3 and changed.codec.options["feedback"] == 2
    assert changed.training.learning_rate == 0.02 and changed.quantizer.options["codebook_bits"] == 3.0
    stages = parse_stages(changed.training.stages or [])
    assert [stage.c for stage in stages if isinstance(stage, SPSA)] == [0.5, 0.5]
    rate = signal_rate(changed)
    assert [layer.out_features for layer in make_codec(changed, rate).encoder[::2]] == [40, 20, 3]  # type: ignore[index]


def test_the_kind_of_a_dimension_follows_from_the_option() -> None:
    spec = spec_of()
    content = {
        "training.batch_size": {"low": 1, "high": 8},
        "training.rise": {"low": 0, "high": 1},
        "codec.widths.0": {"low": 4, "high": 8, "log": True},
        RATE: {"type": "log", "low": "1e-3", "high": 1},  # YAML reads 1e-3 as text
        "codec.widths": [[8], [16, 8]],
        "training.optimizer": ["adam", "adamw"],
    }
    space = make_space(content, spec)
    assert [dimension.kind for dimension in space.values()] == ["int", "float", "int", "float", *["categorical"] * 2]
    assert space[RATE].log and space[RATE].extremes() == [1e-3, 1.0]
    fixed = optuna.trial.FixedTrial({"codec.widths": "[16, 8]"})
    assert overlay(spec, {"codec.widths": space["codec.widths"].suggest("codec.widths", fixed)}).codec.options[
        "widths"
    ] == [16, 8]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"training.learning_rat": [1]}, "training has no option 'learning_rat'; did you mean learning_rate?"),
        ({"quantizr.x": [1]}, "'quantizr.x' names no option; did you mean quantizer?"),
        ({"learning_rate": [1]}, "'learning_rate' names no option"),
        ({"ace.gain_db": [1]}, "'ace.gain_db' names no option"),
        ({"codec.wdths.0": [1]}, "did you mean widths?"),
        ({"vstoi.steps": [1]}, "no stage of this training is vstoi"),
        ({"training.warmup": {"low": 0, "high": 2}}, "warmup=2.0 must lie between 0 and 1"),
        ({RATE: {"low": 1, "hihg": 2}}, "has no setting 'hihg'; did you mean high?"),
        ({RATE: {"low": 1}}, "low and high must be numbers"),
        ({RATE: {"low": 1, "high": 1}}, "low=1 must be below high=1"),
        ({RATE: {"type": "log", "low": 0, "high": 1}}, "and above 0"),
        ({RATE: {"type": "lgo", "low": 0, "high": 1}}, "type 'lgo' is unknown"),
        ({"training.batch_size": {"type": "int", "low": 1.5, "high": 3}}, "must be whole numbers"),
        ({RATE: 0.1}, "write {low: ..., high: ...} or a list of choices"),
        ({RATE: []}, "write choices"),
        ({"training.optimizer": ["adam", "sgd"]}, "optimizer=sgd does not fit"),
    ],
)
def test_a_mistake_in_the_space_is_told_in_one_line(content: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        make_space(content, spec_of())
    assert line in str(caught.value) and "\n" not in str(caught.value) and str(caught.value).startswith("--space: ")


@pytest.mark.parametrize("text", ["- 1", "a: [", "", "\xff"])
def test_a_file_that_is_no_space_is_told(text: str) -> None:
    Path("space.yaml").write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=r"--space space\.yaml"):
        read_space(Path("space.yaml"))


@pytest.mark.parametrize(
    ("content", "aim", "line"),
    [
        ({"quantizer.codebook_bits": [4]}, Aim(), "changes nothing without quantizers; add --quantized"),
        ({"training.batch_size": [4]}, Aim(), "changes nothing in a pattern's score"),
        ({"codec.latent_dim": {"low": 0, "high": 4}}, Aim(), "latent_dim=0"),
    ],
)
def test_a_space_that_cannot_help_is_refused(content: dict[str, Any], aim: Aim, line: str) -> None:
    spec = staged_as_published(spec_of())
    with pytest.raises(UserError, match=line):
        check_aim(aim, spec, make_space(content, spec))


def test_trials_are_not_compared_by_different_losses() -> None:
    spec = spec_of("nsvq", "none", "toy")
    space = make_space({"training.band_selection_weight": {"low": 0, "high": 1}}, spec)
    with pytest.raises(UserError, match="changes the loss that trials are compared by"):
        check_aim(Aim("validation"), spec, space)
    with pytest.raises(UserError, match="codes no stimulation patterns"):
        check_aim(Aim(), spec, {})


# -- the objectives ---------------------------------------------------------------------------------------------------


def test_the_pattern_is_the_training_item_of_median_length() -> None:
    track = track_of(spec_of())
    lengths = dict(zip(track.patterns.names, track.patterns.lengths, strict=True))  # type: ignore[attr-defined]
    chosen = one_pattern(track, None)
    shorter = sum(length < lengths[chosen.source] for length in lengths.values())
    longer = sum(length > lengths[chosen.source] for length in lengths.values())
    assert shorter <= len(lengths) // 2 and longer <= len(lengths) // 2
    assert chosen.pattern.shape == (1, 22, lengths[chosen.source])
    name = track.patterns.names[3]  # type: ignore[attr-defined]
    assert one_pattern(track, name).source == name
    with pytest.raises(UserError, match=f"did you mean {name}"):
        one_pattern(track, name + "x")


@pytest.mark.parametrize("quantized", [False, True])
def test_a_codec_that_learns_nothing_scores_as_it_was_built(quantized: bool) -> None:
    still = "spsa:a=1e-12,quantized=false"
    spec = spec_of(training={"learning_rate": 1e-12, "stages": [still], "validate_every": 1})
    reported: list[float] = []
    aim = Aim(adam_steps=1, spsa_steps=1, quantized=quantized)
    score = evaluate(spec, aim, lambda value: bool(reported.append(value)))
    pattern, codec = one_pattern(track_of(spec), None), make_codec(spec, signal_rate(spec)).eval()
    for quantizer in codec.quantizers:
        quantizer.bypass = True
    with torch.no_grad():
        untrained = float(vstoi(codec(pattern.pattern).signal, pattern.clean, spec.ace))
    if quantized:  # codebooks of 64 vectors, fitted on this very pattern
        assert score != pytest.approx(untrained, abs=1e-4)
    else:
        assert score == pytest.approx(untrained, abs=1e-4)
    assert reported == [pytest.approx(untrained, abs=1e-4)]


def test_a_validation_is_scored_by_the_loss_of_vectors() -> None:
    """The score is the negative loss of the codec as it was left; reports begin with the quantizer."""
    training = {"steps": 20, "validate_every": 4, "batch_size": 2, "warmup": 0.5}
    spec = spec_of("nsvq", "none", "toy", training=training)
    reported: list[float] = []
    score = evaluate(spec, Aim("validation"), lambda value: bool(reported.append(value)))
    assert len(reported) == 3 and score < 0  # after 12, 16 and 20 steps, not after 4 and 8
    assert score == pytest.approx(reported[-1], rel=1e-6)


def test_a_validation_of_patterns_is_scored_by_vstoi() -> None:
    training = {"steps": 1, "batch_size": 1, "crop_seconds": 0.02, "warmup": 0.0, "cooldown": 0.0}
    score = evaluate(spec_of(training=training), Aim("validation"), lambda _: False)
    assert 0 < score < 1


def test_a_trial_ends_when_it_is_told_to() -> None:
    spec = spec_of("nsvq", "none", "toy", training={"steps": 20, "validate_every": 4, "batch_size": 2})
    reported: list[float] = []

    def stop(score: float) -> bool:
        reported.append(score)
        return True

    assert attempt(spec, {}, Aim("validation"), stop)[:2] == (None, "pruned")
    assert len(reported) == 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [({RATE: 1e30}, "diverged"), ({"training.warmup": 0.9}, "must leave steps between them"), ({"codec.x": 1}, "x")],
)
def test_what_cannot_be_trained_is_no_score_but_a_reason(values: dict[str, Any], reason: str) -> None:
    training = {"steps": 8, "batch_size": 2, "crop_seconds": 0.05}
    outcome = attempt(spec_of(training=training), values, Aim("validation"), lambda _: False)
    assert outcome.score is None and reason in outcome.reason and "\n" not in outcome.reason


# -- the study --------------------------------------------------------------------------------------------------------


def test_a_search_of_the_published_objective(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *SHORT, "--trials", "2", "--study", "a study.db"]) == 0
    out = capsys.readouterr().out
    assert "decoded without quantizer" in out and "benchmark run --config" in out
    scores = [trial.value for trial in trials("a study.db")]
    text = Path("a study.yaml").read_text()
    assert text.startswith("# benchmark tune --quantizer kmeans_vq --codec frae --adam-steps 1 --spsa-steps 1 ")
    assert f"{max(scores):.4f}" in text.splitlines()[1]  # type: ignore[type-var]
    assert Path("a study.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    (spec,) = make_specs(config="a study.yaml")
    best = max(trials("a study.db"), key=lambda trial: trial.value or 0.0)
    assert spec.codec.options["widths"] == [best.params[f"codec.widths.{layer}"] for layer in range(3)]
    assert spec.training.learning_rate == best.params[RATE]
    stages = parse_stages(spec.training.stages or [])
    assert {stage.stability for stage in stages if isinstance(stage, SPSA)} == {best.params["spsa.stability"]}


def test_a_search_by_validation_goes_on_where_it_was() -> None:
    assert search("--trials", "1") == 0
    (first,) = trials()
    assert search("--trials", "2") == 0
    assert [trial.state for trial in trials()] == [TrialState.COMPLETE] * 2 and trials()[0].value == first.value
    (spec,) = make_specs(config="study.yaml")
    best = max(trials(), key=lambda trial: trial.value or -np.inf)
    assert spec == overlay(spec_of("nsvq", "none", "toy", training=asdict(spec.training)), {RATE: best.params[RATE]})


def test_the_search_learns_from_scores() -> None:
    """Where large values are better, the last of thirty trials lie far above the first."""
    spec, tried = spec_of("nsvq", "none", "toy"), []
    space = make_space(default_space(spec), spec)
    with opened(Path("study.db"), {}, space, 0, "none") as found:
        for _ in range(30):
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

    def interrupted(*given: Any) -> Outcome:
        if len(parabola) == 11:
            raise KeyboardInterrupt
        return score(*given)

    for killed in (False, True):
        study = f"{killed}.db"
        parabola.clear()
        with monkeypatch.context() as patched:
            patched.setattr(tune, "attempt", interrupted)
            if killed:
                patched.setattr(tune.Search, "cut_off", lambda *_, **__: "")
            assert search("--trials", "12", "--study", study) == 130
        assert (TrialState.RUNNING in [trial.state for trial in trials(study)]) == killed
        assert search("--trials", "12", "--study", study) == 0
        assert parabola == whole
        assert [trial.state for trial in trials(study)].count(TrialState.FAIL) == 1


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
        for step in range(5):
            if report(step - 10.0 * (len(done) == 6)):
                raise objectives.PrunedError
            done[-1] += 1
        return 4.0

    monkeypatch.setattr(objectives, "evaluate", curve)
    monkeypatch.setattr(tune, "prepare", lambda *_: "negative validation loss")
    assert search("--trials", "7") == 0
    assert done == [5, 5, 5, 5, 5, 0, 5]
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
    code = "import sys; from codecbench.benchmark.cli import main; main(['tune', '--help']); "
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
    code = "import sys; from codecbench.benchmark.cli import main; sys.exit(main(sys.argv[1:]))"
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
