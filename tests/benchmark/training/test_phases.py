"""Training in phases: who moves when, schedules that start anew, and resumption at any step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.specs.training import Training
from codecbench.benchmark.tracks.base import TestItem, Track
from codecbench.benchmark.training.job import Job
from codecbench.benchmark.training.module import TrainingModule, converged, train
from codecbench.benchmark.training.phases import Stretch, check_phases, enter, leave, stretch_of, trainable
from codecbench.codecs.base import Codec, Coded
from codecbench.quantizers.base import Maker, Quantizer
from codecbench.quantizers.ema_vq import EMAVQ
from codecbench.quantizers.identity import Identity
from torch import Tensor, nn

STEPS = 20
SHORT = {"steps": STEPS, "validate_every": 1, "batch_size": 4, "crop_seconds": 32.0, "learning_rate": 1e-2}


class Stage(nn.Module):
    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.analysis, self.synthesis, self.quantizer = nn.Linear(4, 3), nn.Linear(3, 4), quantizer


class Cascade(Codec):
    """Each stage codes what those before it left of a vector."""

    domain, phases = "vector", ("stages.0", "stages.1")

    def __init__(self, make_quantizer: Maker) -> None:
        super().__init__()
        self.stages: Any = nn.ModuleList(Stage(make_quantizer(3, 0.5)) for _ in range(2))

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return tuple(stage.quantizer for stage in self.stages)

    def forward(self, signal: Tensor) -> Coded:
        rest, parts = signal.transpose(1, 2), []
        for stage in self.stages[: self.active_phases]:
            parts.append(stage.quantizer(stage.analysis(rest).transpose(1, 2)))
            rest = rest - stage.synthesis(parts[-1].latents.transpose(1, 2))
        return Coded(signal - rest.transpose(1, 2), tuple(parts))

    def decode(self, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        latents = [q.decode(part, q.draw(1, 1)) for q, part in zip(self.quantizers, self.split(codes), strict=True)]
        pairs = zip(self.stages, latents, strict=True)
        return torch.stack([stage.synthesis(part.transpose(1, 2)).transpose(1, 2) for stage, part in pairs]).sum(0)


class Vectors(Track):
    """Correlated Gaussian vectors."""

    signal_rate, leading, typical_length = 1.0, (4,), 50
    mix = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))

    def training_batch(self, batch_size: int, length: int, generator: np.random.Generator) -> Tensor:
        draws = torch.from_numpy(generator.standard_normal((batch_size, length, 4))).float()
        return (draws @ self.mix).transpose(1, 2)

    def validation_batch(self) -> Tensor:
        return self.training_batch(8, 50, np.random.default_rng(0))

    def loss(self, signal: Tensor, decoded: Tensor) -> Tensor:
        return (signal - decoded).square().mean()

    def signals(self, split: str, count: int) -> list[Tensor]:
        return []

    def test_items(self) -> list[Any]:
        return []

    def load(self, item: object) -> TestItem:
        raise LookupError(item)


def cascade() -> Cascade:
    torch.manual_seed(0)
    return Cascade(lambda channels, share: EMAVQ(channels, codebook_bits=3))


def trained(codec: Codec, folder: Path, **training: Any) -> TrainingModule:
    return train(codec, Job(Vectors(), Training(**{**SHORT, **training}), 0, folder, bar=False))


def states(codec: Codec, stage: int) -> dict[str, Tensor]:
    begin = f"stages.{stage}."
    return {name: value.clone() for name, value in codec.state_dict().items() if name.startswith(begin)}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first.keys() | second.keys())


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a training was like at the start of each step."""
    log: list[dict[str, Any]] = []
    step = TrainingModule.training_step

    def noted(self: TrainingModule, batch: Tensor, batch_idx: int) -> Tensor:
        codec = self.codec
        log.append(
            {
                "step": self.global_step,
                "phase": codec.phase,
                "training": [stage.training for stage in codec.stages],
                "bypass": [quantizer.bypass for quantizer in codec.quantizers],
                "gradients": [all(p.requires_grad for p in stage.analysis.parameters()) for stage in codec.stages],
                "codebook": [quantizer.codebook.requires_grad for quantizer in codec.quantizers],
                "rate": self.optimizers().param_groups[0]["lr"],  # type: ignore[union-attr]
                "states": [states(codec, 0), states(codec, 1)],
            }
        )
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", noted)
    return log


def test_steps_are_divided_evenly() -> None:
    assert [stretch_of(step, 10, 3) for step in (0, 2, 3, 6, 7, 9, 10)] == [
        *[Stretch(0, 0, 3)] * 2,
        *[Stretch(1, 3, 7)] * 2,
        *[Stretch(2, 7, 10)] * 3,
    ]
    assert stretch_of(5, 8, 1) == Stretch(0, 0, 8)
    assert Stretch(1, 10, 20).after(0.2) == 12


def test_each_phase_moves_its_own_stage_alone(tmp_path: Path, watched: list[dict[str, Any]]) -> None:
    codec = cascade()
    trained(codec, tmp_path)
    assert [each["phase"] for each in watched] == [0] * 10 + [1] * 10
    assert all(each["training"] == [each["phase"] == 0, each["phase"] == 1] == each["gradients"] for each in watched)
    assert not any(any(each["codebook"]) for each in watched)  # moved by averaging, never by gradients
    at = [each["states"] for each in watched]
    assert equal(at[0][1], at[9][1]) and not equal(at[0][0], at[9][0])
    assert equal(at[10][0], states(codec, 0)) and not equal(at[11][1], states(codec, 1))
    assert codec.phase is None and not codec.training
    assert codec.stages[0].analysis.weight.requires_grad and not codec.quantizers[0].codebook.requires_grad


def test_warm_up_and_learning_rate_start_anew(tmp_path: Path, watched: list[dict[str, Any]]) -> None:
    trained(cascade(), tmp_path, warmup=0.3, cooldown=0.2)
    assert [each["bypass"] for each in watched[:10]] == [[True, False]] * 3 + [[False, False]] * 7
    assert [each["bypass"] for each in watched[10:]] == [[False, True]] * 3 + [[False, False]] * 7
    rates = [each["rate"] for each in watched]
    assert rates[:10] == pytest.approx([0.01] * 9 + [0.005]) and rates[10:] == pytest.approx(rates[:10])


def test_quantizers_are_fitted_and_progress_in_their_own_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, calls = cascade(), []
    for number, quantizer in enumerate(codec.quantizers):
        fit, update = quantizer.fit, quantizer.update
        monkeypatch.setattr(quantizer, "fit", lambda latents, n=number, do=fit: (calls.append((n, "fit")), do(latents)))
        monkeypatch.setattr(
            quantizer,
            "update",
            lambda latents, codes, progress, n=number, do=update: (
                calls.append((n, round(progress, 6))),
                do(latents, codes, progress),
            ),
        )
    trained(codec, tmp_path)
    own = ["fit", *(round(step / 8, 6) for step in range(1, 9))]  # two of ten steps are warm-up
    assert calls == [(0, call) for call in own] + [(1, call) for call in own]


def test_the_second_phase_codes_what_the_first_left(tmp_path: Path) -> None:
    module = trained(cascade(), tmp_path, steps=200, validate_every=20)
    losses = {step: loss for step, loss, _ in module.curve}
    assert losses[200] < 0.8 * losses[100] < 0.8 * losses[60]
    assert [quantized for _, _, quantized in module.curve] == [step not in (20, 120) for step in sorted(losses)]


@pytest.mark.parametrize("step", [1, 2, 5, 9, 10, 11, 12, 17])
def test_a_cut_training_ends_with_the_same_numbers(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, resumed = cascade(), cascade()
    curve = trained(whole, tmp_path / "whole").curve
    one_step = TrainingModule.training_step

    def cut(self: TrainingModule, batch: Tensor, batch_idx: int) -> Tensor:
        if self.global_step == step:
            raise KeyboardInterrupt
        return one_step(self, batch, batch_idx)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingModule, "training_step", cut)
        trained(cascade(), tmp_path / "cut")
    assert trained(resumed, tmp_path / "cut").curve == curve
    assert equal(dict(whole.state_dict()), dict(resumed.state_dict()))


def test_entering_and_leaving_keep_what_asks_for_gradients() -> None:
    codec = cascade()
    names = trainable(codec)
    enter(codec, 1, names)
    assert trainable(codec) == {name for name in names if name.startswith("stages.1.")}
    assert codec.active_phases == 2 and not codec.stages[0].quantizer.training and codec.stages[1].quantizer.training
    leave(codec, names)
    assert trainable(codec) == names and codec.phase is None


def test_a_training_that_cannot_be_is_refused() -> None:
    codec = cascade()
    with pytest.raises(UserError, match=r"trains in 2 phases; --training\.steps 1 must be at least as many"):
        check_phases(codec, 1)
    codec.stages[1].requires_grad_(False)
    check_phases(codec, 10)  # moving averages train its codebook
    codec.stages[1].quantizer = Identity(3)
    with pytest.raises(UserError, match=r"Cascade has nothing to train in stages\.1; choose a quantizer that learns"):
        check_phases(codec, 10)


def test_convergence_is_that_of_the_last_phase() -> None:
    training = Training(steps=200, warmup=0.2, cooldown=0.2)
    flat_at_last = [(step, 1.0 if step > 100 else 200.0 - step, True) for step in range(0, 201, 5)]
    falling_at_last = [(step, 1.0 if step <= 100 else 200.0 - step, True) for step in range(0, 201, 5)]
    assert converged(flat_at_last, training, phases=2) and not converged(falling_at_last, training, phases=2)
