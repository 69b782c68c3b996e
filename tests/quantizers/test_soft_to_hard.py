"""Soft-to-hard quantization against values worked by hand, its two limits, and the rate in real bytes."""

import math

import pytest
import torch
from codecbench.quantizers.checks.contract import run_checks
from codecbench.quantizers.coding.entropy import decode_codes, encode_codes, information
from codecbench.quantizers.soft_to_hard import SoftToHard
from torch import Tensor

NOISELESS = torch.zeros(1, 0, 1, dtype=torch.float64)


def with_kernels(*kernels: float, channels: int = 1, alpha: float = 1e6, error_weight: float = 0.25) -> SoftToHard:
    """A quantizer in training, with these kernels, offset 0, scale 1."""
    quantizer = SoftToHard(channels, len(kernels), error_weight=error_weight).double().train()
    with torch.no_grad():
        quantizer.kernels.copy_(torch.tensor(kernels, dtype=torch.float64))
        quantizer.hardness.fill_(alpha)
    return quantizer


def values(*positions: float) -> Tensor:
    """Latents "1 1 T"."""
    return torch.tensor(positions, dtype=torch.float64).view(1, 1, -1)


def gaussian(deviation: Tensor, positions: int, seed: int) -> Tensor:
    """Latents "1 C T" with mean 1."""
    generator = torch.Generator().manual_seed(seed)
    return 1 + deviation[:, None] * torch.randn(1, len(deviation), positions, generator=generator)


# -- formulas ---------------------------------------------------------------------------------------------------------


def test_the_soft_value_by_hand() -> None:
    quantizer = with_kernels(-1.0, 0.0, 1.0, alpha=math.log(4))  # squared distances 9/4, 1/4, 1/4: weights 1 : 16 : 16
    soft, codes = quantizer.surrogate(values(0.5, -1.0), NOISELESS.expand(-1, -1, 2))
    assert soft.flatten().tolist() == pytest.approx([15 / 33, (1 / 256 - 1) / (1 + 1 / 4 + 1 / 256)])
    assert codes[0, 0, 1].item() == 0


def test_offset_and_scale_move_and_stretch_the_kernels() -> None:
    quantizer = with_kernels(-1.0, 0.0, 1.0, alpha=math.log(4))
    with torch.no_grad():
        quantizer.offset.fill_(10.0)
        quantizer.log_scale.fill_(math.log(3.0))
    soft, _ = quantizer.surrogate(values(11.5), NOISELESS)
    assert soft.item() == pytest.approx(10 + 3 * 15 / 33)
    assert quantizer.eval()(values(12.0, 100.0, -100.0)).latents.flatten().tolist() == pytest.approx([13.0, 13.0, 7.0])


def test_hardness_counts_in_spacings_where_the_latents_fall() -> None:
    near, far = with_kernels(-1.0, 0.0, 1.0, alpha=1.5), with_kernels(-10.0, 0.0, 10.0, 500.0, alpha=1.5)
    far.histogram.copy_(torch.tensor([0.1, 0.9, 0.0, 0.0]))  # not at the gap of 490
    x, nothing = values(0.3, -0.7), NOISELESS.expand(-1, -1, 2)
    assert torch.allclose(10 * near.surrogate(x, nothing)[0], far.surrogate(10 * x, nothing)[0], atol=1e-6)


def test_infinitely_hard_is_the_nearest_kernel() -> None:
    torch.manual_seed(0)
    quantizer = with_kernels(-2.0, -0.3, 0.1, 5.0)
    x = 2 * torch.randn(1, 1, 500, dtype=torch.float64)
    soft, codes = quantizer.surrogate(x, x[:, :0])
    nearest = (x.view(-1, 1) - quantizer.kernels).abs().argmin(1)
    assert torch.equal(codes.flatten(), nearest)
    assert torch.allclose(soft.flatten(), quantizer.kernels[0, nearest])


def test_infinitely_soft_is_the_mean_of_the_kernels() -> None:
    quantizer = with_kernels(-2.0, 0.0, 5.0, alpha=0.0)
    soft, _ = quantizer.surrogate(values(-3.0, 9.0), NOISELESS.expand(-1, -1, 2))
    assert soft.flatten().tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("kernels", [2, 5, 32])
def test_equiprobable_kernels_cost_log2_k(kernels: int) -> None:
    quantizer = with_kernels(*(float(k) for k in range(kernels)))
    x = torch.arange(8 * kernels, dtype=torch.float64).remainder(kernels).view(1, 1, -1)
    assert quantizer(x).bits.mean().item() == pytest.approx(math.log2(kernels))
    quantizer.eval().fit_tables(quantizer(x).codes)
    assert quantizer(x).bits.mean().item() == pytest.approx(math.log2(kernels), abs=1e-3)


def test_the_histogram_is_of_each_channel_although_kernels_are_shared() -> None:
    quantizer = with_kernels(0.0, 1.0, channels=2)
    x = torch.tensor([[[0.0] * 6, [1.0] * 6]], dtype=torch.float64)  # pooled, it would be one bit a channel
    assert quantizer.kernels.shape == (1, 2)
    assert quantizer(x).bits.abs().max().item() < 1e-9


def test_the_mean_of_the_training_bits_is_the_entropy_of_the_mean_membership() -> None:
    quantizer = with_kernels(-1.0, 0.0, 1.0, alpha=math.log(4))
    bits = quantizer(values(0.5, -0.5)).bits
    p = torch.tensor([17.0, 32.0, 17.0]) / 66  # (1, 16, 16) / 33 and its mirror image
    assert bits.mean().item() == pytest.approx(float(-(p * p.log2()).sum()))


def test_the_loss_holds_the_hard_error() -> None:
    quantizer = with_kernels(-1.0, 0.0, 1.0, error_weight=0.5)
    x = values(0.75).requires_grad_()
    loss = quantizer(x).loss  # one position: one kernel, no entropy
    assert loss.item() == pytest.approx(0.5 * 0.25**2)
    loss.backward()
    assert quantizer.kernels.grad.flatten().tolist() == pytest.approx([0.0, 0.0, 0.25])
    assert x.grad is not None and x.grad.item() == pytest.approx(-0.25)


def test_the_rate_has_a_gradient_towards_fewer_bits() -> None:
    quantizer = with_kernels(-1.0, 0.0, 1.0, alpha=4.0)
    x = gaussian(torch.ones(1), 500, seed=0).double() - 1
    before = quantizer(x).bits.mean()
    (slope,) = torch.autograd.grad(before, quantizer.log_scale)
    with torch.no_grad():
        quantizer.log_scale -= 0.1 * slope
    assert quantizer(x).bits.mean() < before


# -- state ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("progress", "alpha"), [(0.0, 2.0), (0.25, 4.0), (0.5, 8.0), (1.0, 8.0)])
def test_hardness_grows_exponentially_and_then_stays(progress: float, alpha: float) -> None:
    quantizer = SoftToHard(2, hardness=8.0)
    quantizer.update(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4, dtype=torch.int64), progress)
    assert quantizer.hardness.item() == pytest.approx(alpha)


def test_without_a_target_weight_and_scales_stay() -> None:
    quantizer = SoftToHard(2, rate_weight=0.125)
    quantizer.update(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4, dtype=torch.int64), 0.5)
    assert quantizer.control.weight().item() == pytest.approx(0.125)
    assert quantizer.log_scale.eq(0).all()


def test_a_rate_too_high_widens_the_scales() -> None:
    quantizer = SoftToHard(1, 4, target_bits=0.5)
    codes = torch.arange(400).remainder(4).view(1, 1, -1)
    quantizer.update(torch.zeros(1, 1, 400), codes, 0.1)
    assert (quantizer.log_scale > 0).all()


def test_fit_starts_on_channels_of_any_place_and_scale_at_the_target() -> None:
    deviation = torch.tensor([1e-3, 1.0, 1.0, 30.0])
    quantizer = SoftToHard(4, target_bits=5.0)
    x = gaussian(deviation, 4000, seed=0)
    quantizer.fit(x)
    codes = quantizer.eval()(x).codes
    quantizer.fit_tables(codes)
    assert information(quantizer, codes) / 4000 == pytest.approx(5.0, rel=0.02)
    assert codes[0, 0].unique().numel() == 1  # too weak to be worth a bit
    assert codes[0, 3].unique().numel() > 8
    assert torch.allclose(quantizer.offset, torch.ones(4), atol=1.5)


def test_fit_without_a_target_spreads_the_kernels_over_the_data() -> None:
    quantizer = SoftToHard(3, 9, shared_kernels=False)
    x = gaussian(torch.tensor([0.01, 1.0, 100.0]), 5000, seed=1)
    quantizer.fit(x)
    assert quantizer.kernels.shape == (3, 9)
    assert quantizer.kernels.abs().amax(1).tolist() == pytest.approx([3.0] * 3, abs=0.5)
    error = (quantizer.eval()(x).latents - x).square().mean(2)[0] / x.var(2)[0]
    assert (error < 0.08).all()  # cells of about 3/4 of the deviation: 0.047, and the tails


# -- rate -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "bits"), [pytest.param(16, 7.5, marks=pytest.mark.slow), (5, 6.0)])
def test_training_ends_at_the_target_in_real_bytes(channels: int, bits: float) -> None:
    torch.manual_seed(0)
    deviation = torch.randn(channels).exp()
    quantizer = SoftToHard(channels, **SoftToHard.for_rate(channels, bits)).train()
    quantizer.fit(gaussian(deviation, 2000, seed=0))
    steps = 400
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=1e-2)
    for step in range(steps):
        x = gaussian(deviation, 256, seed=step + 1)
        out = quantizer(x)
        optimizer.zero_grad()
        ((out.latents - x).square().mean() + out.loss).backward()
        optimizer.step()
        quantizer.update(out.source, out.codes, (step + 1) / steps)
    quantizer.eval().fit_tables(quantizer(gaussian(deviation, 4000, seed=10_001)).codes)
    x = gaussian(deviation, 3000, seed=10_002)
    out = quantizer(x)
    data = encode_codes(quantizer, out.codes)
    assert torch.equal(decode_codes(quantizer, data, 3000), out.codes)
    assert 8 * len(data) / 3000 == pytest.approx(bits, rel=0.05)
    assert out.bits.mean().item() == pytest.approx(8 * len(data) / 3000, rel=0.05)
    worst = (x - x.mean(2, keepdim=True)).square().mean()
    assert (out.latents - x).square().mean() < 0.5 * worst


def test_for_rate_takes_more_kernels_only_where_it_must() -> None:
    assert SoftToHard.for_rate(32, 60.0) == {"target_bits": 60.0}
    assert SoftToHard.for_rate(256, 282.0) == {"target_bits": 282.0}
    options = SoftToHard.for_rate(2, 10.0)
    assert options["target_bits"] == 10.0 and SoftToHard(2, **options).nominal_bits > 10.0 / 0.76
    assert SoftToHard.for_rate(5, 6.0, kernels=4) == {"target_bits": 6.0}
    with pytest.raises(ValueError, match=r"5 channels spend up to 7.5 bit, not 9; nearest: 7.5"):
        SoftToHard.for_rate(5, 9.0, kernels=4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernels": 1}, "kernels=1"),
        ({"target_bits": 9.0, "kernels": 4}, "target_bits=9.0 must lie between 0 and 8"),
        ({"error_weight": -1.0}, "error_weight=-1.0"),
        ({"hardness": 1.0}, "hardness=1.0"),
        ({"rate_weight": 0.0}, "rate_weight=0.0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SoftToHard(4, **options)


def test_kernels_of_each_channel_hold_the_contract_too() -> None:
    def make() -> SoftToHard:
        return SoftToHard(5, 8, shared_kernels=False, target_bits=6.0)

    results = run_checks(make)
    assert {result.name: result.message for result in results if not result.passed} == {}
