"""What a search for hyper-parameters varies, and what it maximises."""

from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.metrics.intelligibility import vstoi
from codecbench.benchmark.specs.grid import make_specs
from codecbench.benchmark.specs.spec import Spec
from codecbench.benchmark.specs.stages import SPSA
from codecbench.benchmark.studies.tuning import objective as objectives
from codecbench.benchmark.studies.tuning.objective import Aim, attempt, check_aim, one_pattern, score_trial
from codecbench.benchmark.studies.tuning.space import (
    default_space,
    make_space,
    overlay,
    read_space,
    staged_as_published,
)
from codecbench.benchmark.tracks.choose import signal_rate, track_of
from codecbench.benchmark.training import staged
from codecbench.benchmark.training.model import make_codec

RATE = "training.learning_rate"


def spec_of(quantizer: str = "kmeans_vq", codec: str = "frae", data: str = "demo", **options: Any) -> Spec:
    (spec,) = make_specs(quantizer, codec, data, **options)
    return spec


# -- the space --------------------------------------------------------------------------------------------------------


def test_frae_is_searched_as_published() -> None:
    spec = staged_as_published(spec_of(codec="frae-l3-h2-r2"))
    space = make_space(default_space(spec), spec)
    assert list(space) == [
        *("codec.widths.0", "codec.widths.1", "training.losses.band_selection", RATE),
        *("spsa.stability", "spsa.c"),
    ]
    kinds = [stage.kind for stage in (spec.training.stages or [])]
    assert kinds == ["gradient", "spsa", "fit", "spsa"]
    assert list(default_space(spec_of("nsvq", "none", "toy"))) == [RATE]


def test_values_become_the_options_of_a_run() -> None:
    spec = staged_as_published(spec_of(codec="frae-l3-h2-r2"))
    values = {"codec.widths.0": 40, "codec.widths.1": 20, RATE: 0.02, "spsa.c": 0.5, "quantizer.codebook_bits": 3.0}
    changed = overlay(spec, values)
    assert changed.codec.name == "frae" and changed.codec.options["widths"] == [40, 20]
    assert changed.codec.options["latent_dim"] == 3 and changed.codec.options["feedback"] == 2
    assert changed.training.learning_rate == 0.02 and changed.quantizer.options["codebook_bits"] == 3.0
    stages = changed.training.stages or []
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
def test_a_file_that_is_no_space_is_told(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
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
    space = make_space({"training.losses.band_selection": {"low": 0, "high": 1}}, spec)
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
    spec = spec_of(codec="aec", training={"learning_rate": 1e-12, "stages": [still], "validate_every": 1})
    reported: list[float] = []
    aim = Aim(adam_steps=1, spsa_steps=1, quantized=quantized)
    score = score_trial(spec, aim, lambda value: bool(reported.append(value)))
    pattern, codec = one_pattern(track_of(spec), None), make_codec(spec, signal_rate(spec)).eval()
    for quantizer in codec.quantizers:
        quantizer.bypass = True
    with torch.no_grad():
        untrained = float(vstoi(codec(pattern.pattern).signal, pattern.clean, spec.ace))
    if quantized:  # codebooks of 64 vectors, fitted on this very pattern
        assert score != pytest.approx(untrained, abs=1e-4)
    else:
        assert score == pytest.approx(untrained, abs=1e-4)
    assert reported == pytest.approx([untrained, score, score], abs=1e-4)  # after Adam, before and after SPSA


def test_a_validation_is_scored_by_the_loss_of_vectors() -> None:
    """The score is the negative loss of the codec as it was left; reports begin with the quantizer."""
    training = {"steps": 20, "validate_every": 4, "batch_size": 2, "warmup": 0.5}
    spec = spec_of("nsvq:codebook_bits=3", "none", "toy", training=training)
    reported: list[float] = []
    score = score_trial(spec, Aim("validation"), lambda value: bool(reported.append(value)))
    assert len(reported) == 3 and score < 0  # after 12, 16 and 20 steps, not after 4 and 8
    assert score == pytest.approx(reported[-1], rel=1e-6)


def test_a_validation_of_patterns_is_scored_by_vstoi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectives, "HELD_OUT", 4)
    training = {"steps": 1, "batch_size": 1, "crop_seconds": 0.02, "warmup": 0.0, "cooldown": 0.0}
    score = score_trial(
        spec_of("kmeans_vq:codebook_bits=2", "aec", training=training), Aim("validation"), lambda _: False
    )
    assert 0 < score < 1


APART = "gradient:steps=1,quantized=false"


@pytest.mark.parametrize("stages", [[APART, "gradient:steps=2"], [APART, APART, "fit"]])
def test_a_stage_is_the_same_after_one_that_another_trial_trained(
    stages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectives, "HELD_OUT", 4)
    spec = spec_of("kmeans_vq", "aec", training={"stages": stages, "batch_size": 1, "crop_seconds": 0.02})
    each = [overlay(spec, {"quantizer.codebook_bits": bits}) for bits in (2.0, 3.0)]
    score_trial(each[0], Aim("validation", stages=tmp_path), lambda _: False)
    shared = score_trial(each[1], Aim("validation", stages=tmp_path), lambda _: False)
    assert shared == score_trial(each[1], Aim("validation"), lambda _: False)


def test_trials_go_on_from_the_stages_they_have_in_common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before any quantizer, of trials that differ in their quantizers; the scores are as without."""
    monkeypatch.setattr(objectives, "HELD_OUT", 4)
    trained: list[Any] = []
    train = staged.train
    monkeypatch.setattr(staged, "train", lambda *given: trained.append(given) or train(*given))
    training = {"stages": ["gradient:steps=1,quantized=false", "fit"], "batch_size": 1, "crop_seconds": 0.02}
    spec = spec_of("kmeans_vq", "aec", training=training)
    each = [overlay(spec, {"quantizer.codebook_bits": bits}) for bits in (2.0, 3.0)]
    shared = [score_trial(one, Aim("validation", stages=tmp_path), lambda _: False) for one in each]
    assert len(trained) == 1
    alone = score_trial(each[1], Aim("validation"), lambda _: False)
    assert len(trained) == 2
    assert alone == shared[1] != shared[0]
    slower = overlay(each[1], {RATE: 0.001})
    assert score_trial(slower, Aim("validation", stages=tmp_path), lambda _: False) != alone
    assert len(trained) == 3, "its first stage is another one"


def test_a_trial_ends_when_it_is_told_to() -> None:
    spec = spec_of("nsvq:codebook_bits=3", "none", "toy", training={"steps": 20, "validate_every": 4, "batch_size": 2})
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
