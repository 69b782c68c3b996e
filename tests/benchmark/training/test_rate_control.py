"""The rate controller: its arithmetic by hand, and a plant whose scale it cannot know."""

import math

import pytest
import torch
from codecbench.quantizers.fem import FEM
from codecbench.quantizers.parts.rate import RateControl
from torch import Tensor, nn


def test_without_a_target_the_weight_stays() -> None:
    control = RateControl(None, 0.25)
    control.update(100.0, 0.5)
    assert control.weight().item() == pytest.approx(0.25)
    assert control.widening().item() == 0


def test_the_changes_by_hand() -> None:
    control = RateControl(10.0, 1.0, direct=True)
    start = math.log(1e-8)
    control.update(12.0, 1.0)  # e = 0.2; gains 3 and 10, divided by 1 + 20 at the end
    assert control.log_weight.item() == pytest.approx(start + 3 * 0.2 / 21, abs=1e-5)
    assert control.widening().item() == pytest.approx(0.05 * 0.2)
    control.update(11.0, 1.0)  # the first few are averaged: e = (0.2 + 0.1) / 2
    assert control.log_weight.item() == pytest.approx(start + (3 * 0.2 + 3 * 0.15 + 10 * (0.15 - 0.2)) / 21, abs=1e-5)
    assert control.widening().item() == pytest.approx(0.05 * 0.15)


def test_above_the_target_the_weight_rises_and_below_it_falls() -> None:
    for direct in (True, False):
        control = RateControl(10.0, 1.0, direct)
        weights = []
        for bits in [20.0] * 20 + [5.0] * 40:
            control.update(bits, 0.0)
            weights.append(control.weight().item())
        assert weights[0] < weights[10] < weights[19] > weights[-1]


def test_no_step_is_larger_than_the_slew_and_the_weight_stays_finite() -> None:
    control = RateControl(1.0, 1.0, direct=True)
    before = control.log_weight.item()
    for bits in [1e30] * 300 + [0.0] * 300:
        control.update(bits, 0.0)
        assert abs(control.log_weight.item() - before) <= 0.3 + 1e-5
        before = control.log_weight.item()
        assert 1e-9 < control.weight().item() < 1e9


@pytest.mark.parametrize("options", [{"target_bits": 0.0}, {"target_bits": math.inf}, {"target_bits": math.nan}])
def test_a_target_that_is_no_positive_number_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"target_bits=.* must be a positive number"):
        RateControl(weight=1.0, **options)


def test_a_weight_that_is_no_positive_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rate_weight=0\.0 must be a positive number"):
        RateControl(None, 0.0)


def train_plant(scale: float, rate: float, direct: bool = True, steps: int = 1000) -> tuple[list[float], list[float]]:
    """Coded rate / target and log weight of a Gaussian of 16 variances whose log step learns by Adam."""
    generator = torch.Generator().manual_seed(0)
    power = torch.exp(1.4 * torch.randn(16, generator=generator))

    def bits_of(log_step: Tensor) -> Tensor:
        return 0.5 * torch.log2(1 + 6 * power * torch.exp(-2 * log_step)).sum()

    log_step = nn.Parameter(torch.full((16,), 0.5))
    target = 0.6 * bits_of(log_step).item()
    control = RateControl(target, 1.0, direct)
    optimizer = torch.optim.Adam([log_step], lr=rate)
    ratios, weights = [], []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (steps - step) / (0.2 * steps))
        optimizer.zero_grad()
        distortion = scale * torch.exp(2 * log_step).mean() / 12
        (distortion + control.weight() * bits_of(log_step)).backward()
        optimizer.step()
        coded = bits_of(log_step.detach())
        control.update(coded * (1 + 0.03 * torch.randn((), generator=generator)), (step + 1) / steps)
        if direct:
            log_step.data += control.widening()
        ratios.append(coded.item() / target)
        weights.append(control.log_weight.item())
    return ratios, weights


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("rate", [1e-3, 1e-2])
def test_it_converges_whatever_the_scale_of_the_loss_and_does_not_swing(scale: float, rate: float) -> None:
    ratios, _ = train_plant(scale, rate)
    assert ratios[-1] == pytest.approx(1, abs=0.03)
    assert ratios[0] > 1.4
    late = torch.tensor(ratios[400:])
    assert late.std() < 0.04 and (late - 1).abs().max() < 0.15


def test_the_weight_scales_with_the_loss() -> None:
    (_, small), (_, large) = train_plant(1e-3, 1e-2), train_plant(1e3, 1e-2)
    assert large[-1] - small[-1] == pytest.approx(math.log(1e6), abs=0.5)


def test_alone_it_meets_the_target_too() -> None:
    ratios, _ = train_plant(1.0, 1e-2, direct=False)
    assert ratios[-1] == pytest.approx(1, abs=0.1)


def test_it_goes_on_from_its_state() -> None:
    first, second = RateControl(10.0, 1.0, direct=True), RateControl(10.0, 1.0, direct=True)
    for bits in (20.0, 12.0, 9.0):
        first.update(bits, 0.2)
    second.load_state_dict(first.state_dict())
    for control in (first, second):
        control.update(11.0, 0.3)
    assert {name: value.item() for name, value in first.state_dict().items()} == {
        name: value.item() for name, value in second.state_dict().items()
    }


def test_what_is_steered_is_the_rate_of_the_rounded_symbols() -> None:
    torch.manual_seed(0)
    quantizer = FEM(16, target_bits=8.0).train()
    latents = torch.randn(4, 16, 64)
    quantizer.fit(latents)
    out = quantizer(latents)
    quantizer.update(out.source, out.codes, 0.5)
    rounded = quantizer.eval()
    rounded.log_step.data -= rounded.control.widening()  # as it was
    coded = rounded(latents).bits.mean().item()
    assert rounded.control.error.item() == pytest.approx(coded / 8 - 1, abs=1e-3)
    assert out.bits.mean().item() > 1.2 * coded  # of the noisy ones: what would mislead
