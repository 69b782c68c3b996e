"""Training in stages: what a recipe may list, what each does, sharing between runs, and stages cut off at any step."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.specs.grid import make_specs
from codecbench.benchmark.specs.spec import Spec
from codecbench.benchmark.specs.stages import (
    SHORTEST,
    SPSA,
    VSTOI,
    Fit,
    Gradient,
    plain,
    read_stages,
    shortened,
    written,
)
from codecbench.benchmark.specs.training import Training
from codecbench.benchmark.tracks.base import Heard
from codecbench.benchmark.tracks.cochlear import CochlearTrack
from codecbench.benchmark.training import ascent, staged
from codecbench.benchmark.training import model as models
from codecbench.benchmark.training.ascent import ascend
from codecbench.benchmark.training.job import Job
from codecbench.benchmark.training.model import make_codec, training_summary
from codecbench.benchmark.training.module import check_training
from codecbench.benchmark.training.staged import Trained, train_as_asked
from codecbench.codecs.base import Codec
from codecbench.codecs.frae import FRAE
from codecbench.datamodules.cochlear.ace import AceConfig, ace
from codecbench.datamodules.demo import Demo
from codecbench.quantizers.kmeans_vq import KMeansVQ
from codecbench.quantizers.nsvq import NSVQ
from torch import Tensor

SMALL = {"latent_dim": 3, "widths": [8], "feedback": 1}
GRADIENT = "gradient:steps=30,quantized=false"
STAGES = [GRADIENT, "vstoi:steps=3,quantized=false,batch=2,seconds=1", "fit", "spsa:steps=2,pairs=2,seconds=1"]


@pytest.fixture(scope="module")
def track() -> CochlearTrack:
    return CochlearTrack(Demo(), AceConfig(), 0.1)


@pytest.fixture(autouse=True)
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ascent, "HELD_OUT", 2)


def small_codec(quantizer: type = KMeansVQ, bits: float = 3.0) -> FRAE:
    torch.manual_seed(0)
    return FRAE(lambda channels, share: quantizer(channels, codebook_bits=bits), **SMALL)  # type: ignore[arg-type]


def state(codec: Codec) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in codec.state_dict().items()}


def job(track: CochlearTrack, folder: Path) -> Job:
    return Job(track, Training(), 3, folder, bar=False)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(first[name].equal(value) for name, value in second.items())


def test_the_papers_stages() -> None:
    found = read_stages([GRADIENT, "spsa:steps=7000,quantized=false", "fit", "spsa"])
    assert found == [Gradient(30, False), SPSA(7000, quantized=False), Fit(), SPSA()]


@pytest.mark.parametrize("text", [GRADIENT, "fit", "vstoi:limit=20,quantized=false", "spsa:pairs=4,quantized=false"])
def test_a_stage_survives_being_written(text: str) -> None:
    (stage,) = read_stages([text])
    assert read_stages([written(stage)]) == read_stages([plain(stage)]) == [stage]


def test_stages_as_text_as_settings_and_in_python_are_one_run(tmp_path: Path) -> None:
    kinds = [Gradient(30, False), Fit(), SPSA(steps=5)]
    settings = [{"gradient": {"steps": 30, "quantized": False}}, "fit", {"spsa": {"steps": 5}}]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"training": {"stages": settings}}))
    forms = [{"stages": [written(stage) for stage in kinds]}, {"stages": kinds}, Training(stages=kinds)]
    specs = [make_specs("kmeans_vq", "frae", "demo", training=form)[0] for form in forms]
    specs += make_specs("kmeans_vq", "frae", "demo", config=tmp_path / "run.yaml")
    assert len({spec.hash for spec in specs}) == 1 and specs[0].training.stages == kinds
    assert Spec.from_yaml(specs[0].to_yaml()) == specs[0]


def test_a_pilot_has_a_share_of_every_stages_steps() -> None:
    pilot = shortened(read_stages([GRADIENT, "fit", "vstoi:steps=3"]), 0.25)
    assert pilot == [Gradient(8, False), Fit(), VSTOI(1)]


@pytest.mark.parametrize(
    ("stages", "line"),
    [
        ([], "there is none"),
        (["simplex"], "no stage is called 'simplex'; there are: gradient, fit, vstoi, spsa"),
        (["fit,vstoi"], "more than one stage"),
        (["vstoi:step=3,quantized=false"], "vstoi has no option 'step'; did you mean steps?"),
        (["gradient:quantized=false", "spsa"], "spsa needs codebooks; put fit before it"),
        (["spsa:limit=1,quantized=false"], "limit=1.0 must be above 1"),
        (["vstoi:seconds=0.4,quantized=false"], "seconds=0.4 must be at least 0.45: of less there is no VSTOI"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(stages: list[str], line: str) -> None:
    with pytest.raises(ValueError, match="stages") as caught:
        Training(stages=stages)
    assert line in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("codec", "stages", "line"),
    [
        ("seanet-small", [GRADIENT, "vstoi:steps=3,quantized=false"], "the stage vstoi .* SEANet codes none"),
        ("seanet-small", [GRADIENT, "fit", "spsa"], "the stage spsa .* SEANet codes none"),
        ("nac-2-small", [GRADIENT, "gradient:steps=1"], "trains in 2 phases; --training.steps 1"),
    ],
)
def test_stages_that_a_codec_cannot_have_are_told_before_the_first(codec: str, stages: list[str], line: str) -> None:
    (spec,) = make_specs("residual", codec, "demo", bitrate=6.0, training={"stages": stages})
    with pytest.raises(UserError, match=line):
        check_training(make_codec(spec, 16_000), spec.training, 16_000)


def test_a_stretch_of_a_pattern_is_that_of_its_sound(track: CochlearTrack) -> None:
    """ACE of the sound's stretch gives the pattern's, but for the frames that look back beyond its start."""
    heard = track.heard("train", 3, 1.0, np.random.default_rng(0))
    assert heard.pattern.shape == (3, 22, 889) and heard.clean.shape == (3, 889 * 18)
    again = ace(heard.clean)
    looking_back = 128 // 18 + 1
    assert (again - heard.pattern)[:, :, looking_back:].abs().max() < 1e-5


def test_without_quantizers_their_codebooks_stay_as_they_were(track: CochlearTrack, tmp_path: Path) -> None:
    codec = small_codec(NSVQ)
    before = state(codec)
    training = Training(stages=["gradient:steps=5,quantized=false", "vstoi:steps=2,quantized=false,batch=1,seconds=1"])
    stages = training.stages or []
    for number, stage in enumerate(stages):
        staged._run(codec, Job(track, training, 0, tmp_path / str(number), bar=False), stage, False, 0)
    assert codec.quantizer.codebook.equal(before["quantizer.codebook"])
    assert not codec.encoder[0].weight.equal(before["encoder.0.weight"])


def test_quantizers_that_no_stage_fitted_are_fitted_at_last(track: CochlearTrack, tmp_path: Path) -> None:
    codec = small_codec()
    before = state(codec)
    training = Training(stages=["gradient:steps=5,quantized=false"])
    trained = train_as_asked(codec, Job(track, training, 0, tmp_path, bar=False))
    assert [report["stage"] for report in trained.stages][1:] == ["fit"]
    assert not codec.quantizer.codebook.equal(before["quantizer.codebook"])
    assert not codec.training and not codec.quantizer.bypass


@pytest.mark.slow
def test_all_stages_twice_give_the_same_codec(track: CochlearTrack, tmp_path: Path) -> None:
    found = []
    for name in "ab":
        codec = small_codec()
        trained = train_as_asked(codec, Job(track, Training(stages=STAGES), 0, tmp_path / name, bar=False))
        found.append(state(codec))
    assert same(*found)
    assert [len(report.get("vstoi", [])) for report in trained.stages] == [0, 4, 0, 3]


@pytest.mark.parametrize(
    "stage",
    [
        VSTOI(4, False, batch=2, seconds=1),
        pytest.param(SPSA(4, False, pairs=2, seconds=1), marks=pytest.mark.slow),
    ],
)
def test_an_ascent_that_was_cut_off_goes_on(
    track: CochlearTrack, tmp_path: Path, stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = small_codec(), small_codec()
    uninterrupted = ascend(whole, job(track, tmp_path / "whole"), stage)
    monkeypatch.setattr(ascent, "KEPT_EVERY", -1.0)
    heard = track.heard

    def until(split: Any, count: int, seconds: float, generator: np.random.Generator, left: list[int] = [3]) -> Any:  # noqa: B006
        left[0] -= split == "train"
        if left[0] < 0:
            raise KeyboardInterrupt
        return heard(split, count, seconds, generator)

    with monkeypatch.context() as patch:
        patch.setattr(track, "heard", until)
        with pytest.raises(KeyboardInterrupt):
            ascend(cut, job(track, tmp_path / "cut"), stage)
    resumed = ascend(small_codec(), job(track, tmp_path / "cut"), stage)
    assert resumed.curve == uninterrupted.curve


def test_a_gradient_that_overflows_moves_nothing(
    track: CochlearTrack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames' feedback may let it grow beyond all numbers; one such step is left out, many in a row are an end."""
    codec, steps = small_codec(), [0]
    seen: list[dict[str, Tensor]] = []

    def overflow(gradient: Tensor) -> Tensor:
        seen.append(state(codec))
        steps[0] += 1
        return gradient * (torch.inf if steps[0] == 2 else 1.0)

    stage = VSTOI(4, False, batch=1, seconds=1)
    next(codec.decoder.parameters()).register_hook(overflow)
    ended = ascend(codec, job(track, tmp_path / "once"), stage)
    assert ended.skipped == 1 and not same(seen[0], seen[1]) and same(seen[1], seen[2]) and not same(seen[2], seen[3])
    assert all(torch.isfinite(value).all() for value in codec.state_dict().values())
    monkeypatch.setattr(ascent, "MOST_SKIPPED", 1)
    codec = small_codec()
    next(codec.decoder.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(
        UserError, match=r"2 steps in a row of the stage vstoi came to nothing.*lower its learning_rate"
    ):
        ascend(codec, job(track, tmp_path / "often"), stage)


@pytest.mark.parametrize("stage", [VSTOI(3, False, batch=1, seconds=1), SPSA(3, False, pairs=1, seconds=1)])
def test_a_crop_without_speech_moves_nothing(
    stage: VSTOI | SPSA, track: CochlearTrack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a pause there is no VSTOI: a stage of thousands of crops goes on; one that hears nothing else ends."""
    codec, heard, silent = small_codec(), track.heard, {1}
    seen: list[dict[str, Tensor]] = []
    first = 1 + isinstance(stage, SPSA)  # which hears a crop to see what parameters there are

    def listen(split: Any, count: int, seconds: float, generator: np.random.Generator) -> Heard:
        crops = heard(split, count, seconds, generator)
        if split == "validation":
            return crops
        seen.append(state(codec))
        return crops._replace(clean=crops.clean * 0) if len(seen) - first in silent else crops

    monkeypatch.setattr(track, "heard", listen)
    ended = ascend(codec, job(track, tmp_path / "once"), stage)
    *_, zeroth, one, two = seen
    assert ended.skipped == 1 and not same(zeroth, one) and same(one, two) and not same(two, state(codec))
    monkeypatch.setattr(ascent, "MOST_SKIPPED", 1)
    silent |= set(range(-2, 9))
    with pytest.raises(UserError, match=f"2 steps in a row of the stage {stage.kind} .* hold 0.4 s of speech"):
        ascend(codec, job(track, tmp_path / "often"), stage)


@pytest.mark.parametrize("stage", [VSTOI(3, False, batch=1, seconds=1), SPSA(3, False, pairs=1, seconds=1)])
def test_a_stage_of_silence_alone_is_refused_at_its_end(
    stage: VSTOI | SPSA, track: CochlearTrack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = track.heard

    def listen(split: Any, count: int, seconds: float, generator: np.random.Generator) -> Heard:
        crops = heard(split, count, seconds, generator)
        return crops if split == "validation" else crops._replace(clean=crops.clean * 0)

    monkeypatch.setattr(track, "heard", listen)
    with pytest.raises(UserError, match="3 steps in a row of the stage"):
        ascend(small_codec(), job(track, tmp_path), stage)


@pytest.mark.parametrize(
    "stage",
    [VSTOI(3, False, learning_rate=1e30, batch=1, seconds=1), SPSA(3, False, pairs=1, seconds=1, a=1e25)],
)
def test_a_codec_that_diverged_is_not_kept(stage: VSTOI | SPSA, track: CochlearTrack, tmp_path: Path) -> None:
    """What it decodes is not a number, which is another matter than a crop without speech."""
    training = Training(stages=[written(stage)])
    with pytest.raises(UserError, match=f"the stage {stage.kind} diverged"):
        train_as_asked(small_codec(), Job(track, training, 0, tmp_path / "run", bar=False), (tmp_path / "shared", "x"))
    assert not [*tmp_path.rglob("*.safetensors")]


@pytest.mark.parametrize("kind", [VSTOI, SPSA])
def test_the_shortest_crops_have_a_vstoi(kind: Any, track: CochlearTrack) -> None:
    stage = kind(seconds=SHORTEST)
    heard = track.heard("train", 64, stage.seconds, np.random.default_rng(0))
    assert track.intelligibility(heard.pattern, heard.clean).isfinite().float().mean() > 0.5
    heard = track.heard("train", 64, 0.4, np.random.default_rng(0))
    assert not track.intelligibility(heard.pattern, heard.clean).isfinite().any()


def test_a_stage_tells_a_logger_what_it_heard(track: CochlearTrack, tmp_path: Path) -> None:
    told: list[tuple[dict[str, float], int]] = []
    logger: Any = SimpleNamespace(log_metrics=lambda metrics, step: told.append((metrics, step)))
    ended = ascend(small_codec(), job(track, tmp_path)._replace(logger=logger), VSTOI(2, False, batch=1), 100)
    assert told == [({"validation_vstoi": vstoi}, 100 + step) for step, vstoi, _ in ended.curve] and len(told) == 3


@pytest.mark.slow
def test_the_exact_gradient_raises_the_intelligibility_of_unseen_voices(track: CochlearTrack, tmp_path: Path) -> None:
    codec = small_codec()
    training = Training(stages=["gradient:steps=300,quantized=false", "vstoi:steps=40,batch=8,quantized=false"])
    trained = train_as_asked(codec, Job(track, training, 0, tmp_path, bar=False))
    (_, before, _), *_, (_, after, _) = trained.stages[1]["vstoi"]
    assert after > before + 0.01


def test_runs_share_what_was_trained_before_quantizers_came_in(
    track: CochlearTrack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two codebook sizes, one training: the second run finds the first one's unquantized stage; a third has another."""
    trainings: list[str] = []
    original = staged.train
    monkeypatch.setattr(staged, "train", lambda *args, **kwargs: trainings.append("") or original(*args, **kwargs))
    training = Training(stages=[GRADIENT, "fit"], validate_every=30)
    found = []
    for bits, made_of in ((2.0, "this"), (3.0, "this"), (3.0, "that")):
        job = Job(track, training, 0, tmp_path / f"{bits} {made_of}", bar=False)
        found.append(train_as_asked(small_codec(bits=bits), job, (tmp_path / "shared", made_of)))
    assert len(trainings) == 2
    assert found[0].stages[0] == found[1].stages[0] and found[0].curve == found[1].curve
    assert [len(each.codec.quantizer.codebook) for each in found] == [4, 8, 8]  # type: ignore[union-attr]
    assert found[0].codec.encoder[0].weight.equal(found[1].codec.encoder[0].weight)  # type: ignore[union-attr]


def test_codecs_that_share_out_the_bits_share_stages_of_the_same_bits_alone(tmp_path: Path) -> None:
    made_of = {}
    for codec in ("envelope", "frae"):
        (spec,) = make_specs("ste_vq", codec, "demo", bitrate=4.0, training={"stages": [GRADIENT]})
        made_of[codec] = [models.shared_stages(spec, tmp_path, bits) for bits in (40.0, 50.0)]
    assert made_of["envelope"][0] != made_of["envelope"][1]
    assert made_of["frae"][0] == made_of["frae"][1], "what its quantizer spends changes nothing before it"


def test_weights_that_depend_on_the_quantizer_are_not_shared() -> None:
    """Some constructors draw weights after they have made quantizers, whose own draws come in between."""
    initial = {}
    for codec in ("frae", "seanet-small"):
        specs = make_specs("ste_vq:codebook_bits=2,ste_vq:codebook_bits=3", codec, "demo")
        initial[codec] = {staged._initial(models.make_codec(spec, 16_000.0)) for spec in specs}
    assert len(initial["frae"]) == 1
    assert len(initial["seanet-small"]) == 2


def test_a_run_in_stages_says_so_in_its_record(tmp_path: Path) -> None:
    (spec,) = make_specs(
        "kmeans_vq", "frae", "demo", training={"stages": ["gradient:steps=3", "vstoi:steps=1,batch=1"]}
    )
    spec = replace(spec, codec=spec.codec.having({**spec.codec.options, **SMALL}))
    folder = tmp_path / "run"
    summary = training_summary(Trained(small_codec(), [], 1.0, [{"vstoi": [[0, 0.5, 0.8]] * 4}]), spec, folder)
    assert summary["steps"] == 4 and summary["converged"] and Spec.from_yaml(spec.to_yaml()) == spec


def test_a_damaged_state_is_told(track: CochlearTrack, tmp_path: Path) -> None:
    (tmp_path / "stage-0.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        train_as_asked(small_codec(), Job(track, Training(stages=["fit"]), 0, tmp_path, bar=False))
