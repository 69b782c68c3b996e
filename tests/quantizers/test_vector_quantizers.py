"""Vector quantizers against closed forms, against each other, and on the toy sets of the NSVQ paper."""

import numpy as np
import pytest
import torch
from codecbench.quantizers.checks.contract import run_checks
from codecbench.quantizers.ema_vq import EMAVQ
from codecbench.quantizers.nsvq import NSVQ
from codecbench.quantizers.ste_vq import StraightThroughVQ
from sklearn.datasets import make_circles, make_moons, make_swiss_roll
from torch import Tensor

METHODS = [NSVQ, StraightThroughVQ, EMAVQ]


def one_pair(weights: list[float] | None = None, **options: bool) -> tuple[NSVQ, Tensor, Tensor]:
    """A quantizer with codewords (1, 0) and (9, 9), an input near the first, and a noise direction."""
    quantizer = NSVQ(2, 1.0, weights=weights, **options).double().train()
    quantizer.codebook.data = torch.tensor([[1.0, 0.0], [9.0, 9.0]]).double()
    x = torch.tensor([4.0, 4.0]).double().reshape(1, 2, 1).requires_grad_()
    return quantizer, x, torch.tensor([3.0, -4.0]).double().reshape(1, 2, 1)


def test_nsvq_by_hand() -> None:
    quantizer, x, v = one_pair()
    latents, codes = quantizer.surrogate(x, v)  # ||x - c|| = 5, v / ||v|| = (0.6, -0.8)
    assert codes.item() == 0
    torch.testing.assert_close(latents.flatten().detach(), torch.tensor([7.0, 0.0]).double())


def test_the_nsvq_error_has_exactly_the_weighted_norm_of_the_true_error() -> None:
    torch.manual_seed(0)
    weights = [0.5, 1.0, 3.0, 2.0, 0.1]
    quantizer = NSVQ(5, 6.0, weights=weights).double().train()
    x = torch.randn(8, 5, 100).double()
    latents, codes = quantizer.surrogate(x, quantizer.draw(8, 100).double())
    w = torch.tensor(weights).double()[:, None]
    simulated = (w * (latents - x)).norm(dim=1)
    true = (w * (quantizer.decode(codes, x) - x)).norm(dim=1)
    torch.testing.assert_close(simulated, true, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weights, sigma", [(None, 12.5**0.5), ([2.0, 0.5], 20.0**0.5)])
def test_nsvq_without_normalisation_by_hand(weights: list[float] | None, sigma: float) -> None:
    quantizer, x, v = one_pair(weights, normalise_noise=False)
    latents, _ = quantizer.surrogate(x, v)  # error (3, 4): sigma^2 = (9 + 16) / 2, weighted (36 + 4) / 2; v = (3, -4)
    first, second = weights or (1.0, 1.0)
    expected = torch.tensor([4 + sigma * 3 / first, 4 - sigma * 4 / second]).double()
    torch.testing.assert_close(latents.flatten().detach(), expected)


def test_without_normalisation_the_nsvq_error_has_the_true_norm_in_the_mean_square_only() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([2.0, 0.5, 1.0]).double()
    x = torch.randn(1, 3, 1).double().expand(-1, -1, 200_000)
    norms = {}
    for normalise in (True, False):
        quantizer = NSVQ(3, 3.0, weights=weights.tolist(), normalise_noise=normalise).double().train()
        quantizer.place(torch.randn(8, 3, generator=torch.Generator().manual_seed(1)).double())
        latents, codes = quantizer.surrogate(x, quantizer.draw(1, 200_000))
        simulated, true = (
            (weights[:, None] * (value - x)).square().sum(1) for value in (latents, quantizer.decode(codes, x))
        )
        norms[normalise] = simulated / true
    assert norms[True].std() < 1e-12
    assert norms[False].mean().item() == pytest.approx(1.0, abs=0.01)
    assert norms[False].var().item() == pytest.approx(2 / 3, rel=0.03)  # chi-squared of 3 degrees, divided by 3


@pytest.mark.slow
def test_nsvq_without_normalisation_keeps_the_contract() -> None:
    assert not [result for result in run_checks(lambda: NSVQ(5, normalise_noise=False)) if not result.passed]


def test_the_nsvq_codeword_is_nearest_in_the_weighted_distance() -> None:
    quantizer = NSVQ(2, 1.0, weights=[10.0, 0.1]).train()
    quantizer.codebook.data = torch.tensor([[0.0, 5.0], [1.0, 0.0]])
    assert quantizer.encode(torch.tensor([[[0.0], [0.0]]]), torch.zeros(1, 2, 1)).item() == 0


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("weights", [None, [2.0, 0.5]])
def test_the_nsvq_gradients_equal_the_closed_forms(weights: list[float] | None, normalise: bool) -> None:
    quantizer, x, v = one_pair(weights, normalise_noise=normalise)
    w = quantizer.metric.double()
    latents, _ = quantizer.surrogate(x, v)
    error = (x.detach() - quantizer.codebook.detach()[0].reshape(1, 2, 1)).flatten()
    u = v.flatten() / w / (v.norm() if normalise else 2**0.5)
    n = w**2 * error / (w * error).norm()
    for row in range(2):  # J_x = I + u n^T, J_c = -u n^T
        into_x, into_c = torch.autograd.grad(latents[0, row, 0], [x, quantizer.codebook], retain_graph=True)
        torch.testing.assert_close(into_x.flatten(), torch.eye(2).double()[row] + u[row] * n)
        torch.testing.assert_close(into_c[0], -u[row] * n)
        assert into_c[1].abs().sum() == 0


def test_nsvq_at_a_codeword_has_a_finite_gradient() -> None:
    quantizer, _, v = one_pair()
    x = quantizer.codebook.detach()[:1].reshape(1, 2, 1).clone().requires_grad_()
    quantizer.surrogate(x, v)[0].sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))


def test_nsvq_noise_that_is_zero_gives_a_finite_gradient() -> None:
    quantizer, x, v = one_pair()
    latents, _ = quantizer.surrogate(x, torch.zeros_like(v))
    latents.sum().backward()
    torch.testing.assert_close(latents, x)
    assert quantizer.codebook.grad.isfinite().all()


def test_straight_through_losses_by_hand() -> None:
    quantizer = StraightThroughVQ(2, 1.0, commitment=0.25, loss_weight=2.0)
    quantizer.codebook.data = torch.tensor([[1.0, 0.0], [9.0, 9.0]])
    x = torch.tensor([[[4.0], [4.0]]], requires_grad=True)
    quantized = quantizer.train()(x)
    assert quantized.loss.item() == pytest.approx(2.0 * 1.25 * 12.5)  # mean of 9 and 16 is 12.5
    (quantized.latents.sum() + quantized.loss).backward()
    torch.testing.assert_close(x.grad.flatten(), torch.tensor([1.0, 1.0]) + 2 * 0.25 * torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(quantizer.codebook.grad[0], -2.0 * torch.tensor([3.0, 4.0]))


def test_ema_by_hand() -> None:
    quantizer = EMAVQ(1, 1.0, replacement=0.0, decay=0.5).train()
    quantizer.place(torch.tensor([[0.0], [10.0]]))
    latents = torch.tensor([[[1.0, 2.0, 3.0]]])
    quantizer.update(latents, quantizer.encode(latents, latents), 0.1)
    # N: 1 -> 0.5 + 1.5 = 2; m: 0 -> 3; the unused codeword keeps its place
    torch.testing.assert_close(quantizer.codebook.flatten(), torch.tensor([1.5, 10.0]))
    for _ in range(3000):
        quantizer.update(latents, torch.zeros(1, 1, 3, dtype=torch.int64), 0.1)
    torch.testing.assert_close(quantizer.codebook.flatten(), torch.tensor([2.0, 10.0]))


@pytest.mark.parametrize("method", METHODS)
def test_an_idle_codeword_moves_beside_an_active_one(method: type) -> None:
    torch.manual_seed(0)
    quantizer = method(2, 2.0, replacement=0.5).train()
    quantizer.place(torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [500.0, 500.0]]))
    latents = torch.tensor([[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]])
    codes = quantizer.encode(latents, latents)
    quantizer.update(latents, codes, 0.005)
    assert quantizer.codebook[3, 0] == 500  # not due yet
    quantizer.update(latents, codes, 0.02)
    distance = (quantizer.codebook[3] - quantizer.codebook[:3]).norm(dim=1).min()
    assert 0 < distance < 0.02
    quantizer.place(torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [500.0, 500.0]]))
    quantizer.update(latents, codes, 0.9)
    assert quantizer.codebook[3, 0] > 400  # not in the last stretch


@pytest.mark.parametrize("method", METHODS)
def test_without_replacement_an_idle_codeword_stays(method: type) -> None:
    quantizer = method(1, 1.0, replacement=0.0).train()
    quantizer.place(torch.tensor([[0.0], [50.0]]))
    latents = torch.zeros(1, 1, 4)
    for progress in np.linspace(0, 1, 50):
        quantizer.update(latents, quantizer.encode(latents, latents), float(progress))
    assert quantizer.codebook[1].item() == pytest.approx(50)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("initialisation", ["kmeans", "samples"])
def test_a_codebook_starts_from_data(method: type, initialisation: str) -> None:
    torch.manual_seed(0)
    quantizer = method(3, 4.0, initialisation=initialisation).train()
    latents = 100 + torch.randn(4, 3, 200)
    quantizer.fit(latents)
    nearest = torch.cdist(quantizer.codebook.detach(), latents.transpose(1, 2).reshape(-1, 3)).min(1).values
    assert nearest.max() < 1.0
    quantizer.fit(latents[:1, :, :5])  # fewer vectors than codewords
    assert torch.isfinite(quantizer.codebook).all()


def test_diverged_latents_are_refused() -> None:
    with pytest.raises(ValueError, match="training diverged"):
        NSVQ(2).fit(torch.full((1, 2, 300), torch.nan))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"codebook_bits": 0.5}, "between 1 and 16"),
        ({"replacement": 1.0}, "share of the batches"),
        ({"weights": [1.0]}, "3 positive numbers"),
    ],
)
def test_impossible_options_are_refused(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NSVQ(3, **options)


def test_a_rate_is_met_by_any_size_and_refused_with_the_nearest() -> None:
    assert NSVQ(5, **NSVQ.for_rate(5, np.log2(67))).alphabet == (67,)
    with pytest.raises(ValueError, match="nearest: 16"):
        NSVQ.for_rate(5, 30.0)


# -- toy sets: 8 bit, Adam 5e-3, 2,000 steps of 2,000 points; the paper trains longer with 1e-3 -----------------------

TOYS = {
    "moons": lambda n: 10 * make_moons(n, noise=0.01, random_state=0)[0],
    "swiss": lambda n: make_swiss_roll(n, noise=0.1, random_state=0)[0][:, [0, 2]],
    "circles": lambda n: 10 * make_circles(n, noise=0.01, factor=0.4, random_state=0)[0],
}
EXPECTED = {"moons": 8.08e-3, "swiss": 1.097e-2, "circles": 1.073e-2}  # NSVQ, mean squared error per dimension


def trained_on(points: Tensor, method: type, steps: int = 2000, **options: object) -> tuple[float, int]:
    """Mean squared error per dimension and dead codewords after training on 2-D points."""
    torch.manual_seed(0)
    quantizer = method(2, 8.0, **options).train()
    quantizer.place(points[torch.randperm(len(points))[:256]] + torch.randn(256, 2))
    trained = [p for p in quantizer.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=5e-3) if trained else None
    for step in range(steps):
        batch = points[torch.randint(len(points), (2000,))].T[None]
        quantized = quantizer(batch)
        if optimizer is not None:
            optimizer.zero_grad()
            ((quantized.latents - batch).square().mean() + quantized.loss).backward()
            optimizer.step()
        quantizer.update(batch, quantized.codes, (step + 1) / steps)
    everything = points.T[None]
    quantized = quantizer.eval()(everything)
    error = (quantized.latents.detach() - everything).square().mean().item()
    return error, 256 - len(quantized.codes.unique())


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_nsvq_reaches_the_known_error_on_the_toy_sets_and_leaves_no_codeword_dead(name: str) -> None:
    points = torch.from_numpy(TOYS[name](100_000)).float()
    error, dead = trained_on(points, NSVQ)
    assert error == pytest.approx(EXPECTED[name], rel=0.07)
    assert dead == 0


@pytest.mark.slow
def test_straight_through_without_replacement_is_worse_on_a_curve() -> None:
    points = torch.from_numpy(TOYS["moons"](100_000)).float()
    error, dead = trained_on(points, StraightThroughVQ, replacement=0.0)
    assert error >= 1.3 * EXPECTED["moons"]
    assert dead >= 0.3 * 256


@pytest.mark.slow
def test_smoothed_counts_bring_idle_ema_codewords_back_and_the_papers_do_not() -> None:
    points = torch.from_numpy(TOYS["moons"](100_000)).float()
    error, dead = trained_on(points, EMAVQ, replacement=0.0, smoothing=1e-5)
    assert error == pytest.approx(1.00e-2, rel=0.07) and dead == pytest.approx(26, abs=10)
    error, dead = trained_on(points, EMAVQ, replacement=0.0)
    assert error > 1.3 * EXPECTED["moons"] and dead > 0.3 * 256


def test_without_replacement_nsvq_equals_straight_through_on_vectors() -> None:
    points = torch.from_numpy(TOYS["moons"](5_000)).double()
    codebooks = []
    for method in (NSVQ, StraightThroughVQ):
        quantizer = method(2, 5.0, replacement=0.0).double().train()
        quantizer.place(points[:32].clone())
        optimizer = torch.optim.Adam(quantizer.parameters(), lr=5e-3)
        generator = torch.Generator().manual_seed(1)
        for _ in range(50):
            batch = points[torch.randint(len(points), (200,), generator=generator)].T[None]
            optimizer.zero_grad()
            quantized = quantizer(batch)
            loss = quantized.loss if method is StraightThroughVQ else (quantized.latents - batch).square().mean()
            loss.backward()
            optimizer.step()
        codebooks.append(quantizer.codebook.detach())
    torch.testing.assert_close(codebooks[0], codebooks[1], rtol=1e-9, atol=1e-9)
