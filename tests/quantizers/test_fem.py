"""FEM: the density by hand and against plain arithmetic, and the rate that real files take."""

import math

import numpy as np
import pytest
import torch
from codecbench.quantizers.coding.entropy import encode_codes
from codecbench.quantizers.fem import FEM
from codecbench.quantizers.parts.density import FactorizedDensity
from codecbench.quantizers.parts.stepped import SteppedQuantizer
from torch import Tensor

CHANNELS = 16


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_density(seed: int = 0) -> FactorizedDensity:
    generator = torch.Generator().manual_seed(seed)
    density = FactorizedDensity().double()
    for parameter in density.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return density


def correlated(positions: int, seed: int, channels: int = CHANNELS) -> Tensor:
    """Laplacian latents "1 C T", correlated, of different scales."""
    fixed, generator = torch.Generator().manual_seed(99), torch.Generator().manual_seed(seed)
    scales = torch.exp(0.7 * torch.randn(channels, generator=fixed))
    mix = torch.eye(channels) + 0.2 * torch.randn(channels, channels, generator=fixed) / math.sqrt(channels)
    loudness = torch.empty(channels, positions).exponential_(generator=generator).sqrt()
    return (scales[:, None] * (mix @ (loudness * torch.randn(channels, positions, generator=generator))))[None]


def train(quantizer: SteppedQuantizer, steps: int, positions: int = 256, scale: float = 1.0) -> SteppedQuantizer:
    """Mean squared error and the quantizer's own loss on vectors, learning rate falling at the end; tables fitted."""
    channels = quantizer.channels
    quantizer.train().fit(correlated(4096, 1, channels))
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=1e-2)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1.0, (steps - step) / (0.2 * steps))
        latents = correlated(positions, 1000 + step, channels)
        out = quantizer(latents)
        optimizer.zero_grad()
        (scale * (out.latents - latents).square().mean() + out.loss).backward()
        torch.nn.utils.clip_grad_norm_(quantizer.parameters(), 1.0)
        optimizer.step()
        quantizer.update(out.source, out.codes, (step + 1) / steps)
    quantizer.eval().fit_tables(quantizer(correlated(4096, 2, channels)).codes)
    return quantizer


def measured_bits(quantizer: SteppedQuantizer, positions: int = 8000) -> tuple[float, float]:
    """Bits per position of a file of unseen positions, and those that the forward says."""
    out = quantizer(correlated(positions, 3, quantizer.channels))
    return 8 * len(encode_codes(quantizer, out.codes)) / positions, out.bits.mean().item()


# -- the density ------------------------------------------------------------------------------------------------------


def test_one_density_has_43_parameters_for_any_number_of_channels() -> None:
    for channels, options, expected in ((5, {}, 43), (256, {}, 43), (5, {"per_channel": True}, 5 * 43)):
        quantizer = FEM(channels, **options)
        assert sum(p.numel() for p in quantizer.parameters()) - quantizer.log_step.numel() == expected


def test_it_is_a_cumulative_density_for_any_parameters() -> None:
    points = torch.linspace(-300, 300, 4001, dtype=torch.float64)[None]
    for seed in range(10):
        values = random_density(seed).logits(points).detach().sigmoid()
        assert (values.diff() >= 0).all()
        assert values[0, 0].item() == pytest.approx(0, abs=1e-6) and values[0, -1].item() == pytest.approx(1, abs=1e-6)
        whole = torch.arange(-3000, 3001, dtype=torch.float64)[None]
        assert random_density(seed).log2_mass(whole).exp2().sum().item() == pytest.approx(1, abs=1e-9)


def test_it_is_the_formula_of_the_paper_in_plain_arithmetic() -> None:
    density = random_density()
    for parameter in density.parameters():
        parameter.data *= 0.3  # plain differences of the cumulative density lose all digits where it is flat
    layers = zip(density.matrices, density.biases, [*density.factors, None], strict=True)
    plain = [(m.detach().numpy()[0], b.detach().numpy()[0], None if a is None else a.detach().numpy()[0])
             for m, b, a in layers]  # fmt: skip

    def cumulative(x: float) -> float:
        values = np.array([[x]])
        for matrix, bias, factor in plain:
            values = np.log1p(np.exp(matrix)) @ values + bias
            values = 1 / (1 + np.exp(-values)) if factor is None else values + np.tanh(factor) * np.tanh(values)
        return values.item()

    for n in (-2, -1, 0, 1):
        expected = math.log2(cumulative(n + 0.5) - cumulative(n - 0.5))
        assert density.log2_mass(torch.tensor([[float(n)]]).double()).item() == pytest.approx(expected, rel=1e-9)


def test_a_logistic_by_hand() -> None:
    density = FactorizedDensity().double()
    for bias in density.biases:
        bias.data.zero_()
    density.spread(torch.tensor([2.0]))
    mass = density.log2_mass(torch.tensor([[0.0, 1.0, -1.0]]).double()).exp2()[0].tolist()
    assert mass == pytest.approx([0.124353, 0.117002, 0.117002], abs=1e-6)  # 1 / (1 + exp(-x / 2)) at -1/2, 1/2, 3/2


def test_far_tails_have_finite_bits_and_gradients() -> None:
    density = FactorizedDensity()
    points = torch.tensor([[-1e4, -300.0, 300.0, 1e4]], requires_grad=True)
    bits = -density.log2_mass(points)
    (gradient,) = torch.autograd.grad(bits.sum(), points)
    assert bits.isfinite().all() and gradient.isfinite().all()
    assert (bits > 100).all() and (gradient[0, :2] < 0).all() and (gradient[0, 2:] > 0).all()


def test_a_density_a_channel_is_that_of_its_stream() -> None:
    torch.manual_seed(0)
    quantizer = FEM(3, per_channel=True).eval()
    quantizer.fit(torch.randn(1, 3, 4096) * torch.tensor([0.5, 1.0, 4.0])[:, None])
    symbols = torch.randint(-3, 4, (2, 3, 5)).float()
    together = quantizer.log2_mass(symbols)
    for stream in range(3):
        alone = FactorizedDensity()
        alone.load_state_dict({k: v[stream : stream + 1] for k, v in quantizer.density.state_dict().items()})
        torch.testing.assert_close(together[:, stream], alone.log2_mass(symbols[:, stream].reshape(1, -1)).view(2, 5))


# -- the step ---------------------------------------------------------------------------------------------------------


def test_it_starts_at_its_target() -> None:
    for bits in (8.0, 32.0, 64.0):
        quantizer = FEM(CHANNELS, target_bits=bits)
        torch.manual_seed(0)
        quantizer.fit(correlated(4096, 1))
        assert quantizer.eval()(correlated(4096, 2)).bits.mean().item() == pytest.approx(bits, rel=0.1)


def test_noise_and_straight_through_by_hand() -> None:
    for rounding, value, slope in (("noise", 3.5, 0.5), ("straight_through", 4.0, 1.0)):
        quantizer = FEM(1, surrogate_rounding=rounding).train()
        quantizer.log_step.data.fill_(math.log(2))
        x = torch.full((1, 1, 1), 3.0, requires_grad=True)  # y = 1.5, n = 2
        latents, codes = quantizer.surrogate(x, torch.full((1, 1, 1), 0.25))
        into, step = torch.autograd.grad(latents.sum(), [x, quantizer.log_step])
        assert (codes.item(), latents.item(), into.item()) == (2, pytest.approx(value), pytest.approx(1))
        assert step.item() == pytest.approx(slope)  # d / d log step: step u = 2 / 4, step (n - y) = 2 / 2


def test_unknown_rounding_and_rates_beyond_the_tables_are_refused() -> None:
    with pytest.raises(Exception, match="surrogate_rounding"):  # ValueError, or beartype's where types are checked
        FEM(2, surrogate_rounding="soft")  # type: ignore[arg-type]
    assert FEM.for_rate(5, 6.0) == {"target_bits": 6.0}
    with pytest.raises(ValueError, match="5 channels spend up to 50 bit, not 60; nearest: 50"):
        FEM.for_rate(5, 60.0)


# -- the rate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        *(
            pytest.param(o, marks=pytest.mark.slow)
            for o in ({"surrogate_rounding": "straight_through"}, {"per_channel": True})
        ),
    ],
)
def test_files_take_the_target_within_5_percent_and_what_the_forward_says(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    spent, said = measured_bits(train(FEM(CHANNELS, target_bits=12.0, **options), 300))
    assert spent == pytest.approx(12, rel=0.05)
    assert spent == pytest.approx(said, rel=0.01)


def test_the_weight_without_a_target_moves_the_rate() -> None:
    rates = []
    for weight in (1e-3, 0.1):
        torch.manual_seed(0)
        rates.append(measured_bits(train(FEM(CHANNELS, rate_weight=weight), 100))[0])
    assert rates[1] < 0.8 * rates[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_files_of_64_channels_take_30_bit_within_5_percent(seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    spent, _ = measured_bits(train(FEM(64, target_bits=30.0), 1000, scale=scale))
    assert spent == pytest.approx(30, rel=0.05)
