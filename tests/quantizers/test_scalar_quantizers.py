"""Projected scalar quantizers against hand-worked values, the theory of dither, and the toy of their paper."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from codecbench.quantizers.base import Quantizer
from codecbench.quantizers.checks.running import entropy
from codecbench.quantizers.dithered_sq import DitheredSQ
from codecbench.quantizers.noise_sq import NoiseSQ
from codecbench.quantizers.parts.scalar import UniformQuantizer, philox2x32, shared_noise, spread_levels
from codecbench.quantizers.st_sq import StraightThroughSQ
from scipy import stats
from sklearn.datasets import make_moons
from torch import Tensor

METHODS = [NoiseSQ, StraightThroughSQ, DitheredSQ]
MANY = 1_000_000


def plain(quantizer: UniformQuantizer) -> UniformQuantizer:
    """The quantizer in float64 with both projections the identity: z = tanh(y), y_hat = z_hat."""
    for projection in (quantizer.project_in, quantizer.project_out):
        torch.nn.init.eye_(projection.linear.weight)
    return quantizer.double()


def row(*values: float) -> Tensor:
    """One dimension, "1 1 T"."""
    return torch.tensor(values, dtype=torch.float64)[None, None]


def silent(z: Tensor) -> Tensor:
    return torch.zeros_like(z)


def uniform(z: Tensor) -> Tensor:
    return torch.rand_like(z) - 0.5


def reduced_error(quantizer: Quantizer, latents: Tensor) -> float:
    """Power of the error over that of the latents around their mean."""
    with torch.no_grad():
        out = quantizer.eval()(latents)
    around = latents - latents.mean((0, 2), keepdim=True)
    return float((out.latents - latents).square().mean() / around.square().mean())


# -- the grid ---------------------------------------------------------------------------------------------------------


def test_four_levels_tile_the_interval_by_hand() -> None:
    quantizer = plain(StraightThroughSQ(1, levels=4)).eval()
    z = row(-0.9, -0.5, -0.1, 0.1, 0.49, 0.999)  # Delta = 1/2, mid-rise: -3/4, -1/4, 1/4, 3/4
    codes = quantizer.cells(z, silent(z))
    assert codes.flatten().tolist() == [0, 1, 1, 2, 2, 3]
    assert quantizer.points(codes, silent(z)).flatten().tolist() == [-0.75, -0.25, -0.25, 0.25, 0.25, 0.75]


def test_three_levels_have_one_at_zero() -> None:
    quantizer = plain(StraightThroughSQ(1, levels=3)).eval()
    z = row(-0.4, -0.3, 0.0, 0.3, 0.4)  # Delta = 2/3: borders at -1/3 and 1/3
    codes = quantizer.cells(z, silent(z))
    assert codes.flatten().tolist() == [0, 1, 1, 1, 2]
    torch.testing.assert_close(quantizer.points(codes, silent(z)), row(-2 / 3, 0.0, 0.0, 0.0, 2 / 3))


def test_the_grid_of_dither_is_that_of_equation_6_where_its_levels_are_odd() -> None:
    quantizer = plain(DitheredSQ(1, levels=9))
    z = row(*np.linspace(-0.999, 0.999, 1001))
    step = 2 / 8
    index = torch.floor(z / step + 0.5)  # eq. 6
    codes = quantizer.cells(z, silent(z))
    assert torch.equal(codes - 4, index.long())
    torch.testing.assert_close(quantizer.points(codes, silent(z)), index * step)


@pytest.mark.parametrize("method", METHODS)
def test_saturated_latents_stay_in_the_alphabet(method: Any) -> None:
    quantizer = plain(method(1, levels=5)).eval()
    latents = row(-1e30, -40.0, 40.0, 1e30)
    for noise in (-0.4999999, 0.4999999):
        codes = quantizer.encode(latents, torch.full_like(latents, noise))
        assert codes.flatten().tolist() == [0, 0, 4, 4]


def test_mixed_levels_count_their_product_as_codevectors() -> None:
    quantizer = StraightThroughSQ(4, levels=[4, 3, 2]).eval()
    assert quantizer.alphabet == (4, 3, 2)
    grid = torch.cartesian_prod(*map(torch.arange, quantizer.levels)).T[None]
    decoded = quantizer.decode(grid, grid[:, :0].float())[0].T
    assert len(decoded.unique(dim=0)) == 4 * 3 * 2  # eq. 8 says R (Qmin + Qmax + 1)
    assert quantizer.nominal_bits == pytest.approx(math.log2(24))


def test_the_prior_matching_cost_is_the_fixed_rate() -> None:
    quantizer = NoiseSQ(32, levels=8, dims=10)
    step = 1 / quantizer.per_unit.double()
    nats = (2 / step).log().sum().item()  # eq. 21 without its wrong factor (2 / Delta)^R
    assert nats == pytest.approx(20.794, abs=1e-3)
    assert nats / math.log(2) == pytest.approx(quantizer.nominal_bits) == pytest.approx(30)


# -- what training puts in its place ----------------------------------------------------------------------------------


def test_noise_leaves_the_interval_by_half_a_step_and_rounding_does_not() -> None:
    quantizer = plain(NoiseSQ(1, levels=4)).train()
    z, noise = row(0.2, 0.99, -0.99), row(-0.5, 0.4999, -0.4999)
    codes = quantizer.cells(z, noise)
    torch.testing.assert_close(quantizer.substitute(z, codes, noise), row(-0.05, 1.23995, -1.23995))
    assert codes.flatten().tolist() == [2, 3, 0]
    assert quantizer.points(codes, noise).flatten().tolist() == [0.25, 0.75, -0.75]


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_passes_the_quantizer_as_if_it_were_not_there(method: Any) -> None:
    quantizer = plain(method(1, levels=4)).train()
    latents = row(-0.7, 0.0, 0.3, 2.0).requires_grad_()
    out, _ = quantizer.surrogate(latents, quantizer.draw(1, 4))
    (gradient,) = torch.autograd.grad(out.sum(), latents)
    torch.testing.assert_close(gradient, 1 - latents.detach().tanh() ** 2)


@pytest.mark.parametrize("method", [StraightThroughSQ, DitheredSQ])
def test_training_sees_the_values_of_evaluation(method: Any) -> None:
    quantizer = method(5).train()
    latents = torch.randn(3, 5, 20)
    noise = quantizer.draw(3, 20)
    out, codes = quantizer.surrogate(latents, noise)
    torch.testing.assert_close(out, quantizer.decode(codes, noise))


# -- dither -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 9])
@pytest.mark.parametrize("source", ["uniform", "constant", "laplacian", "border"])
def test_the_error_of_dither_is_uniform_and_independent_of_the_input(source: str, levels: int) -> None:
    torch.manual_seed(0)
    quantizer = plain(DitheredSQ(1, levels=levels)).train()
    z = {
        "uniform": 2 * torch.rand(1, 1, MANY).double() - 1,
        "constant": torch.full((1, 1, MANY), 0.07).double(),
        "laplacian": torch.distributions.Laplace(0.0, 0.2).sample((1, 1, MANY)).double().clamp(-1, 1),
        "border": torch.where(torch.rand(1, 1, MANY) < 0.5, -1.0, 1.0).double(),
    }[source]
    noise = uniform(z)
    step = 2 / (levels - 1)
    error = quantizer.points(quantizer.cells(z, noise), noise) - z
    assert error.abs().max() <= step / 2 + 1e-12
    assert error.square().mean().item() == pytest.approx(step**2 / 12, rel=5e-3)
    if source != "constant":
        assert abs(np.corrcoef(error.flatten(), z.flatten())[0, 1]) < 3e-3
        assert abs(np.corrcoef(error.flatten().square(), z.flatten().exp())[0, 1]) < 3e-3
    assert stats.kstest(error.flatten()[::10] / step + 0.5, "uniform")[1] > 1e-3


def test_without_dither_the_error_of_a_constant_is_one_number() -> None:
    z = row(0.07)
    mid_tread, mid_rise = plain(DitheredSQ(1, levels=9)), plain(StraightThroughSQ(1, levels=8))
    for quantizer, share in ((mid_tread, 0.941), (mid_rise, 0.581)):  # (0.07 / 0.25)^2 12, ((0.125 - 0.07) / 0.25)^2 12
        error = quantizer.points(quantizer.cells(z, silent(z)), silent(z)) - z
        assert error.square().item() / (0.25**2 / 12) == pytest.approx(share, abs=1e-3)


def test_dither_is_distributed_like_the_noise_of_training() -> None:
    torch.manual_seed(1)
    quantizer = plain(NoiseSQ(1, levels=4, dithered_evaluation=True))
    z = torch.randn(1, 1, 100_000).double().tanh()
    other = torch.randn(1, 1, 100_000).double().tanh()
    noise = uniform(z)
    dithered = quantizer.points(quantizer.cells(z, noise), noise)
    noisy = quantizer.substitute(other, quantizer.cells(other, noise), uniform(z))
    assert stats.ks_2samp(dithered.flatten(), noisy.flatten())[1] > 1e-3
    hard = plain(NoiseSQ(1, levels=3))  # the same step without dither
    rounded = hard.points(hard.cells(z, noise), noise)
    assert stats.ks_2samp(rounded.flatten(), noisy.flatten())[1] < 1e-9


def test_a_model_is_evaluated_with_dither_by_one_level_more() -> None:
    torch.manual_seed(0)
    trained = NoiseSQ(5, levels=4).train()
    latents = torch.randn(8, 5, 200)
    trained.fit(latents)
    dithered = NoiseSQ(5, levels=5, dithered_evaluation=True)
    dithered.load_state_dict(trained.state_dict())
    noise = trained.draw(8, 200)
    same = trained.surrogate(latents, noise)[0].detach()
    torch.testing.assert_close(dithered.train().surrogate(latents, noise)[0], same)
    assert reduced_error(dithered, latents) == pytest.approx(float((same - latents).square().mean()), rel=0.1)


def test_noise_regularizes_a_linear_decoder_as_tikhonov_would() -> None:
    torch.manual_seed(0)
    quantizer = plain(NoiseSQ(1, levels=8)).train()
    encoder, decoder = 0.2 * torch.randn(3, 6).double(), torch.randn(6, 3).double()
    x = torch.randn(6, 400_000).double()
    z = (encoder @ x)[None]
    noisy = quantizer.substitute(z, quantizer.cells(z, uniform(z)), uniform(z))[0]
    error = (decoder @ noisy - x).square().sum(0).mean()
    variance = (2 / 8) ** 2 / 12
    expected = (decoder @ z[0] - x).square().sum(0).mean() + variance * decoder.square().sum()  # eq. 28
    assert error.item() == pytest.approx(expected.item(), rel=2e-3)
    assert (variance * decoder.square().sum() / expected).item() > 5e-3  # the regularizer would be missed


# -- shared noise -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # known answers of Random123
        ((0, 0), 0, (0xFF1DAE59, 0x6CD10DF2)),
        ((0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF, (0x2C3F628B, 0xAB4FD7AD)),
        ((0x243F6A88, 0x85A308D3), 0x13198A2E, (0xDD7CE038, 0xF62A4C12)),
    ],
)
def test_philox_gives_its_known_answers(counter: tuple[int, int], key: int, words: tuple[int, int]) -> None:
    first, second = philox2x32(torch.tensor(counter[0]), torch.tensor(counter[1]), key)
    assert (int(first), int(second)) == words


def test_shared_noise_is_fixed_for_ever() -> None:
    noise = shared_noise(1, torch.arange(2), 5, 2) * 2**24
    assert noise.tolist() == [
        [-4834041.0, -1446255.0],
        [5470333.0, -8348941.0],
    ]  # odd multiples of 2**-24: exact in float32


def test_shared_noise_is_uniform_and_uncorrelated() -> None:
    noise = shared_noise(7, torch.arange(50), 0, 10_000).numpy()
    assert np.abs(noise).max() < 0.5
    assert noise.mean() == pytest.approx(0, abs=2e-3)
    assert noise.var() == pytest.approx(1 / 12, rel=5e-3)
    assert stats.kstest(noise.reshape(-1)[::7] + 0.5, "uniform")[1] > 1e-3
    other = shared_noise(8, torch.arange(50), 0, 10_000).numpy()
    for first, second in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1]), (noise, other)):
        assert abs(np.corrcoef(first.reshape(-1), second.reshape(-1))[0, 1]) < 6e-3
    power = np.abs(np.fft.rfft(noise, axis=1)) ** 2 / 10_000 * 12  # white: no line stands out
    assert power[:, 1:-1].max() < 25


def test_shared_noise_hangs_on_seed_row_and_position_alone() -> None:
    quantizer = DitheredSQ(5, levels=3, dims=2).eval()
    whole = quantizer.draw(3, 50)
    assert torch.equal(whole[0], whole[2])
    assert torch.equal(quantizer.draw(1, 8, start=42)[0], whole[0, :, 42:])
    quantizer.first_row = 1
    assert torch.equal(quantizer.draw(1, 50)[0, 0], whole[0, 1])
    quantizer.dither_seed = 1
    assert not torch.equal(quantizer.draw(1, 50)[0, 0], whole[0, 1])
    with pytest.raises(AssertionError):
        torch.testing.assert_close(quantizer.train().draw(2, 50)[0], quantizer.draw(2, 50)[1])


def test_a_file_of_another_seed_is_decoded_otherwise() -> None:
    torch.manual_seed(0)
    latents = torch.randn(1, 5, 400)
    quantizer = DitheredSQ(5, levels=4).train()
    quantizer.fit(latents)
    noise = quantizer.eval().draw(1, 400)
    codes = quantizer.encode(latents, noise)
    right = quantizer.decode(codes, noise)
    quantizer.dither_seed = 1
    wrong = quantizer.decode(codes, quantizer.draw(1, 400))
    assert (wrong - latents).square().mean() > 1.5 * (right - latents).square().mean()


# -- the start from data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("projection", ["linear", "mlp"])
@pytest.mark.parametrize("method", METHODS)
def test_codes_and_error_do_not_depend_on_the_scale_of_the_latents(method: Any, projection: str) -> None:
    errors = []
    for scale in (0.01, 1.0, 100.0):
        torch.manual_seed(0)
        latents = scale * torch.randn(16, 5, 256)
        quantizer = method(5, levels=4, projection=projection).train()
        quantizer.fit(latents)
        errors.append(reduced_error(quantizer, latents))
        codes = quantizer(latents).codes
        assert sum(entropy(stream) for stream in codes.unbind(1)) > 0.9 * quantizer.nominal_bits
    assert max(errors) < 0.16  # 0.1175 is the best for four levels and a normal variable (Max 1960), less the dither's
    assert max(errors) - min(errors) < 1e-3


def test_the_largest_component_gets_the_most_levels() -> None:
    torch.manual_seed(0)
    latents = torch.randn(4, 3, 1000) * torch.tensor([1.0, 9.0, 3.0])[:, None] + 5
    quantizer = StraightThroughSQ(3, levels=[2, 8, 4]).train()
    quantizer.fit(latents)
    assert quantizer.project_in.linear.weight.abs().argmax(1).tolist() == [0, 1, 2]
    assert quantizer.project_out.linear.weight.abs().argmax(0).tolist() == [0, 1, 2]


def test_dimensions_of_equal_levels_share_the_variance() -> None:
    torch.manual_seed(0)
    deviations = torch.tensor([1.8, 1.3, 0.16, 0.07, 0.03])  # of an autoencoder's latents after a short warm-up
    rotation = torch.linalg.qr(torch.randn(5, 5))[0]
    latents = torch.einsum("cd,bdt->bct", rotation * deviations, torch.randn(8, 5, 500))
    quantizer = StraightThroughSQ(5, levels=4).train()
    quantizer.fit(latents)
    weights = quantizer.project_in.linear.weight.detach()
    assert weights.norm(dim=1).max() < 1.5  # principal components one by one: rms / 0.03 = 33, times the scale
    assert reduced_error(quantizer, latents) < 0.1  # one by one 0.119


def test_the_decoder_starts_at_least_squares() -> None:
    torch.manual_seed(0)
    mixing = torch.randn(6, 6)
    latents = torch.einsum("cd,bdt->bct", mixing, torch.randn(8, 6, 500).exp())
    quantizer = StraightThroughSQ(6, levels=4, dims=4).train()
    quantizer.fit(latents)
    with torch.no_grad():
        error = (quantizer.eval()(latents).latents - latents).transpose(0, 1).flatten(1)
        z_hat = quantizer.points(quantizer(latents).codes, latents[:, :0]).transpose(0, 1).flatten(1)
    assert error.mean(1).abs().max() < 1e-3 * latents.std()
    cross = np.corrcoef(torch.cat([error, z_hat]))[:6, 6:]
    assert np.abs(cross).max() < 5e-3  # what is left cannot be told from the codes by a linear map


@pytest.mark.parametrize("method", METHODS)
def test_more_dimensions_than_channels_tell_more(method: Any) -> None:
    torch.manual_seed(0)
    latents = torch.randn(16, 3, 256)
    errors = []
    for dims in (3, 6, 12):
        quantizer = method(3, levels=2, dims=dims).train()
        quantizer.fit(latents)
        errors.append(reduced_error(quantizer, latents))
    assert errors[0] > 1.1 * errors[1] > 1.2 * errors[2]


def test_a_start_from_poor_data_is_finite() -> None:
    torch.manual_seed(0)
    latents = torch.randn(4, 5, 200)
    dead, twins = latents.clone(), latents.clone()
    dead[:, 2:] = 7.0
    twins[:, 1:] = twins[:, :1]
    for data in (dead, twins, latents[:1, :, :2], latents[:1, :, :1], 0 * latents, 1e-30 * latents + 3):
        quantizer = NoiseSQ(5, levels=4, projection="mlp").train()
        quantizer.fit(data)
        assert all(value.isfinite().all() for value in quantizer.state_dict().values())
        with torch.no_grad():
            decoded = quantizer.eval()(data).latents
        assert (decoded - data).square().mean() <= 0.3 * data.var() + 1e-8


def test_constant_latents_come_back_and_keep_their_gradient() -> None:
    quantizer = StraightThroughSQ(3, levels=4).train()
    latents = torch.tensor([3.0, -200.0, 0.1]).expand(2, 4, 3).transpose(1, 2)
    quantizer.fit(latents)
    torch.testing.assert_close(quantizer.eval()(latents).latents, latents)
    moving = latents.clone().requires_grad_()
    quantizer.train()(moving).latents.square().sum().backward()
    assert moving.grad is not None and moving.grad.abs().min() > 0


# -- projections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("projection", ["linear", "mlp"])
@pytest.mark.parametrize("method", METHODS)
def test_a_frame_alone_is_decoded_bit_for_bit_as_in_a_sequence(method: Any, projection: str) -> None:
    torch.manual_seed(0)
    quantizer = method(32, levels=4, dims=15, projection=projection).eval()
    noise = quantizer.draw(3, 37)
    with torch.no_grad():
        codes = quantizer.encode(torch.randn(3, 32, 37), noise)
        whole = quantizer.decode(codes, noise)
        for t in (0, 5, 36):
            alone = quantizer.decode(codes[1:2, :, t : t + 1], noise[1:2, :, t : t + 1])
            assert torch.equal(alone, whole[1:2, :, t : t + 1])
        z_hat = quantizer.points(codes, noise)
        matrix = quantizer.project_out(z_hat) * quantizer.gain + quantizer.centre
    torch.testing.assert_close(whole, matrix)


@pytest.mark.parametrize("projection", ["linear", "mlp"])
def test_the_stepper_decodes_bit_for_bit_what_decode_does(projection: str) -> None:
    torch.manual_seed(0)
    quantizer = DitheredSQ(5, levels=4, projection=projection).train()
    latents = torch.randn(3, 5, 20)
    quantizer.fit(latents)
    noise = quantizer.eval().draw(3, 20)
    with torch.no_grad():
        step = quantizer.stepper(noise)
        frames = [step(latents[:, :, n], n) for n in range(20)]
        decoded = quantizer.decode(torch.stack([codes for _, codes in frames], 2), noise)
    assert torch.equal(torch.stack([value for value, _ in frames], 2), decoded)


def moons() -> Tensor:
    return torch.tensor(10 * make_moons(2000, noise=0.05, random_state=0)[0], dtype=torch.float32).T[None]


@pytest.mark.parametrize("method", [NoiseSQ, DitheredSQ])
def test_learned_projections_follow_two_moons(method: Any) -> None:
    torch.manual_seed(0)
    data = moons()
    quantizer = method(2, levels=[4, 2], projection="mlp", hidden=64).train()
    quantizer.fit(data)
    optimizer = torch.optim.Adam(quantizer.train().parameters(), 0.03)
    for step in range(350):
        batch = data[:, :, torch.randint(data.shape[2], (96,))]
        loss = (quantizer(batch).latents - batch).square().mean()
        optimizer.param_groups[0]["lr"] = 0.03 * min(1.0, (350 - step) / 175)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    low, high = data.amin(2, keepdim=True), data.amax(2, keepdim=True)
    step = (high - low) / torch.tensor([4.0, 2.0])[:, None]
    grid = low + (((data - low) / step).floor().clamp_min(0) + 0.5) * step  # 3 bit on the bounding box
    around = data - data.mean(2, keepdim=True)
    plain_grid = float((grid - data).square().mean() / around.square().mean())
    learned = reduced_error(quantizer, data)
    assert learned < 0.85 * plain_grid


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "bits", "options"),
    [
        (5, 5.0, {"levels": [4, 4, 2]}),
        (5, 6.0, {"levels": 4, "dims": 3}),
        (5, 6.34, {"levels": 3, "dims": 4}),
        (5, 6.5, {"levels": [6, 5, 3]}),
        (5, 7.0, {"levels": 5, "dims": 3}),
        (5, 10.0, {"levels": 4, "dims": 5}),
        (2, 12.0, {"levels": 64, "dims": 2}),
        (32, 30.0, {"levels": 4, "dims": 15}),
        (32, 60.0, {"levels": 4, "dims": 30}),
        (256, 282.0, {"levels": 4, "dims": 141}),
    ],
)
def test_for_rate(channels: int, bits: float, options: dict[str, Any]) -> None:
    assert NoiseSQ.for_rate(channels, bits) == options
    assert NoiseSQ(channels, **options).nominal_bits == pytest.approx(bits, rel=0.01)


@pytest.mark.parametrize("channels", [5, 32, 256])
def test_any_rate_from_two_bits_on_is_met_and_closely_from_five(channels: int) -> None:
    for bits in (*np.arange(2.0, 13.0, 0.37), 1.3 * channels, 3.0 * channels, 10.1 * channels):
        options = NoiseSQ.for_rate(channels, float(bits))
        spent = sum(map(math.log2, spread_levels(channels, options["levels"], options.get("dims"))))
        assert spent == pytest.approx(bits, rel=0.05 if bits < 5 else 0.012)


def test_for_rate_leaves_what_is_fixed() -> None:
    assert NoiseSQ.for_rate(5, 6.0, levels=8) == {"dims": 2}
    assert NoiseSQ.for_rate(5, 6.0, dims=2) == {"levels": 8}
    assert NoiseSQ.for_rate(5, 6.0, dims=5) == {"levels": [4, 2, 2, 2, 2]}
    assert NoiseSQ.for_rate(5, 6.0, levels=[8, 8], projection="mlp") == {}
    assert NoiseSQ.for_rate(5, 6.0, dithered_evaluation=True) == {"levels": 4, "dims": 3}


@pytest.mark.parametrize(
    ("channels", "bits", "fixed", "nearest"),
    [
        (5, 1.2, {}, "1"),
        (5, 0.3, {}, "1"),
        (5, 90.0, {}, "80"),
        (5, 6.0, {"levels": 2}, "5"),
        (5, 6.0, {"levels": [8, 4]}, "5"),
        (5, 6.0, {"dims": 7}, "7"),
    ],
)
def test_a_rate_out_of_reach_names_the_nearest(channels: int, bits: float, fixed: dict[str, Any], nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"{bits:g} bit per position cannot .* nearest: {nearest}$"):
        StraightThroughSQ.for_rate(channels, bits, **fixed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 1}, "numbers from 2 to 65536"),
        ({"levels": [4, 70000]}, "numbers from 2 to 65536"),
        ({"levels": []}, "one per dimension"),
        ({"dims": 0}, "one per dimension"),
        ({"levels": [4, 4], "dims": 3}, "leave one of them out"),
        ({"hidden": 8}, "projection='mlp'"),
        ({"projection": "mlp", "hidden": 0}, "at least 1"),
    ],
)
def test_bad_options_get_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        NoiseSQ(5, **options)
    assert len(str(caught.value).splitlines()) == 1


def test_latents_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        DitheredSQ(2).fit(torch.full((1, 2, 30), torch.nan))
