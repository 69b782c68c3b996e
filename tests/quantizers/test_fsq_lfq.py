"""FSQ, LFQ and BSQ against hand-worked values of their papers' formulas."""

import math
from typing import Any

import pytest
import torch
from codecbench.quantizers.checks.running import entropy
from codecbench.quantizers.fsq import FSQ
from codecbench.quantizers.lfq import LFQ
from torch import Tensor


def plain(quantizer: Any) -> Any:
    """The quantizer in float64 with both projections the identity."""
    for projection in (quantizer.project_in, quantizer.project_out):
        torch.nn.init.eye_(projection.linear.weight)
    return quantizer.double()


def no_noise(like: Tensor) -> Tensor:
    return torch.zeros(like.shape[0], 0, like.shape[2])


def position(*values: float) -> Tensor:
    """One position, "1 R 1"."""
    return torch.tensor(values, dtype=torch.float64)[None, :, None]


# -- FSQ --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latents", "codes", "index"),
    [  # index: q_0 + 8 q_1 + 40 q_2 + 200 q_3
        ((0.0, 0.0, 0.0, 0.0), [4, 2, 2, 2], 500),
        ((9.0, 9.0, 9.0, 9.0), [7, 4, 4, 4], 999),
        ((-9.0, -9.0, -9.0, -9.0), [0, 0, 0, 0], 0),
        ((1.0, 0.3, -0.3, 0.25), [6, 3, 1, 2], 6 + 8 * 3 + 40 * 1 + 200 * 2),
        ((-1.0, 0.9, 1.0, -1.0), [1, 3, 4, 0], 1 + 8 * 3 + 40 * 4),
    ],
)
def test_fsq_codes_by_hand(latents: tuple[float, ...], codes: list[int], index: int) -> None:
    quantizer = plain(FSQ(4, levels=[8, 5, 5, 5])).eval()
    got = quantizer.encode(position(*latents), no_noise(position(*latents))).flatten().tolist()
    assert got == codes
    assert sum(code * weight for code, weight in zip(got, (1, 8, 40, 200), strict=True)) == index


def test_fsq_bounds_by_hand() -> None:
    quantizer = plain(FSQ(2, levels=[8, 5]))
    # l = 3.4965 and 1.998; the shift of 8 levels is tan(0.5 / 3.4965) = 0.14399
    torch.testing.assert_close(quantizer.bound(position(0.0, 0.0)), position(0.0, 0.0), rtol=0, atol=1e-4)
    torch.testing.assert_close(quantizer.bound(position(1.0, 0.3)), position(2.3523, 0.5820), rtol=0, atol=1e-4)
    torch.testing.assert_close(quantizer.bound(position(-1.0, -9.0)), position(-2.9273, -1.998), rtol=0, atol=1e-4)


def test_fsq_levels_end_at_minus_one() -> None:
    quantizer = FSQ(3, levels=[8, 5, 2])
    codes = torch.tensor([[[0, 7], [0, 4], [0, 1]]])
    ends = quantizer.points(codes, no_noise(codes))
    torch.testing.assert_close(ends, torch.tensor([[[-1.0, 0.75], [-1.0, 1.0], [-1.0, 0.0]]]))


def test_fsq_is_straight_through() -> None:
    quantizer = plain(FSQ(1, levels=5)).train()
    latents = position(0.3).requires_grad_()
    out, codes = quantizer.surrogate(latents, no_noise(latents))
    assert out.item() == pytest.approx(0.5) and codes.item() == 3
    (gradient,) = torch.autograd.grad(out.sum(), latents)
    assert gradient.item() == pytest.approx(1.998 * (1 - math.tanh(0.3) ** 2) / 2)


@pytest.mark.parametrize("levels", [2, 3, 4, 7, 8, 1000])
def test_fsq_reaches_every_level(levels: int) -> None:
    quantizer = plain(FSQ(1, levels=levels)).eval()
    latents = torch.linspace(-9, 9, 100_001, dtype=torch.float64)[None, None]
    assert quantizer.encode(latents, no_noise(latents)).unique().tolist() == list(range(levels))


@pytest.mark.parametrize(
    ("channels", "bits", "options"),
    [
        (5, 6.0, {"levels": 4, "dims": 3}),
        (5, 8.0, {"levels": [8, 6, 5]}),
        (5, 10.0, {"levels": [8, 5, 5, 5]}),
        (2, 10.0, {"levels": 32, "dims": 2}),
        (5, 12.0, {"levels": [7, 5, 5, 5, 5]}),
        (32, 14.0, {"levels": [8, 8, 8, 6, 5]}),
        (32, 16.0, {"levels": [8, 8, 8, 5, 5, 5]}),
        (32, 60.0, {"levels": 4, "dims": 30}),
        (256, 282.0, {"levels": 4, "dims": 141}),
    ],
)
def test_fsq_for_rate(channels: int, bits: float, options: dict[str, Any]) -> None:
    assert FSQ.for_rate(channels, bits) == options
    assert FSQ(channels, **options).nominal_bits == pytest.approx(bits, rel=0.015)


def test_fsq_for_rate_leaves_what_is_fixed() -> None:
    assert FSQ.for_rate(5, 10.0, dims=5) == {"levels": 4}
    assert FSQ.for_rate(5, 10.0, levels=[8, 5, 5, 5]) == {}
    with pytest.raises(ValueError, match=r"nearest: 49\.83$"):
        FSQ.for_rate(5, 60.0)
    with pytest.raises(ValueError, match="from 2 to 1000"):
        FSQ(5, levels=1001)


# -- LFQ and BSQ ------------------------------------------------------------------------------------------------------


def test_lfq_by_hand() -> None:
    quantizer = plain(LFQ(3)).train()
    latents = position(0.2, -3.0, 0.0).requires_grad_()
    out, codes = quantizer.surrogate(latents, no_noise(latents))
    assert codes.flatten().tolist() == [1, 0, 0]
    torch.testing.assert_close(out.detach(), position(1.0, -1.0, -1.0))
    (gradient,) = torch.autograd.grad((out * position(1.0, 2.0, 3.0)).sum(), latents)
    torch.testing.assert_close(gradient, position(1.0, 2.0, 3.0))


def test_the_lfq_loss_by_hand() -> None:
    quantizer = plain(LFQ(1, entropy=0.1, diversity=1.0, commitment=0.25)).train()
    loss, bits = quantizer.objective(
        torch.tensor([[[0.5, -0.5]]]).double(), torch.zeros(1, 1, 2), torch.tensor([[[1, 0]]])
    )
    # p = sigmoid(+-2) = 0.88080, 0.11920: H = 0.36533 nat each, H of the mean 0.5 is 0.69315; both 0.5 off their code
    assert loss.item() == pytest.approx(0.1 * (0.36533 - 0.69315) + 0.25 * 0.25, abs=1e-5)
    assert bits.tolist() == [[1.0, 1.0]]


def test_bsq_by_hand() -> None:
    quantizer = plain(LFQ(2, spherical=True)).train()
    latents = position(3.0, -4.0).requires_grad_()  # u = (0.6, -0.8)
    out, codes = quantizer.surrogate(latents, no_noise(latents))
    assert codes.flatten().tolist() == [1, 0]
    torch.testing.assert_close(out.detach(), position(0.70711, -0.70711), rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad(out[0, 0, 0], latents)  # of the projection onto the sphere: (I - u u^T) / 5
    torch.testing.assert_close(gradient, position(0.64 / 5, 0.48 / 5))


def test_the_bsq_loss_by_hand() -> None:
    quantizer = plain(LFQ(2, spherical=True, entropy=2.0, diversity=0.5)).train()
    latents = position(3.0, -4.0)
    loss, _ = quantizer.objective(latents, latents, quantizer.encode(latents, no_noise(latents)))
    # sigmoid(4 sqrt(2) 0.6) = 0.96751, sigmoid(-4 sqrt(2) 0.8) = 0.01072: H = 0.14325 and 0.05927, means the same
    assert loss.item() == pytest.approx(2.0 * (1 - 0.5) * (0.14325 + 0.05927) / 2, abs=1e-5)


def test_the_soft_bits_are_a_softmax_of_distances_to_all_codes() -> None:
    torch.manual_seed(0)
    quantizer = plain(LFQ(3, entropy=1.0, diversity=0.0, commitment=0.0)).train()
    z = torch.randn(1, 3, 50).double()
    loss, _ = quantizer.objective(z, z, quantizer.encode(z, no_noise(z)))
    codewords = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3)
    shares = (-torch.cdist(z[0].T, codewords).square()).softmax(1)
    joint = -(shares * shares.log()).sum(1).mean()
    assert 3 * loss.item() == pytest.approx(joint.item(), rel=1e-9)


@pytest.mark.parametrize("dims", [2, 6, 32])
def test_the_bsq_error_is_bounded(dims: int) -> None:
    torch.manual_seed(0)
    quantizer = plain(LFQ(dims, spherical=True)).eval()
    u = torch.nn.functional.normalize(torch.cat([torch.randn(dims, 500), torch.eye(dims)], 1), dim=0).double()[None]
    error = (quantizer(u).latents - u).detach().norm(dim=1)
    bound = math.sqrt(2 - 2 / math.sqrt(dims))
    assert error.max() <= bound + 1e-9
    assert error[0, -1].item() == pytest.approx(bound)  # an axis is the worst that can happen
    torch.testing.assert_close(quantizer(u).latents, quantizer(100 * u).latents)


@pytest.mark.parametrize("spherical", [False, True])
def test_the_entropy_loss_balances_the_bits(spherical: bool) -> None:
    torch.manual_seed(0)
    latents = torch.randn(8, 5, 100)
    quantizer = LFQ(5, spherical=spherical, commitment=0.0).train()
    quantizer.fit(latents)
    torch.nn.init.constant_(quantizer.project_in.linear.bias, 2.0)
    before = sum(entropy(stream) for stream in quantizer(latents).codes.unbind(1))
    optimizer = torch.optim.Adam([quantizer.project_in.linear.bias], 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        quantizer(latents).loss.backward()
        optimizer.step()
    after = sum(entropy(stream) for stream in quantizer(latents).codes.unbind(1))
    assert before < 2.5 and after > 4.8


def test_lfq_spends_whole_bits() -> None:
    assert LFQ.for_rate(5, 6.0) == {"dims": 6}
    assert LFQ.for_rate(256, 282.0) == {"dims": 282}
    assert LFQ.for_rate(5, 30.4) == {"dims": 30}
    assert LFQ.for_rate(5, 6.0, dims=6) == {}
    for bits, fixed, nearest in ((6.5, {}, 6), (0.4, {}, 1), (6.0, {"dims": 8}, 8), (1.0, {"spherical": True}, 2)):
        with pytest.raises(ValueError, match=rf"nearest: {nearest}$"):
            LFQ.for_rate(5, bits, **fixed)
    assert LFQ(5, dims=282).nominal_bits == 282


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dims": 0}, "dims=0"),
        ({"dims": 1, "spherical": True}, "between 2"),
        ({"entropy": -1.0}, "entropy=-1.0"),
        ({"commitment": -0.1}, "commitment=-0.1"),
    ],
)
def test_bad_options_of_lfq_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LFQ(5, **options)


# -- the start from data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda: FSQ(5), 0.30),  # four of five components coded
        (lambda: FSQ(5, levels=4), 0.15),
        (lambda: FSQ(5, levels=2), 0.40),  # 1 - 2 / pi = 0.3634 is the best for one bit and a normal variable
        (lambda: LFQ(5), 0.40),
        (lambda: LFQ(5, spherical=True), 0.40),
        (lambda: LFQ(5, dims=10), 0.30),
    ],
)
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_codes_follow_data_of_any_scale(make: Any, most: float, scale: float) -> None:
    torch.manual_seed(0)
    latents = scale * torch.randn(16, 5, 200)
    quantizer = make().train()
    quantizer.fit(latents)
    with torch.no_grad():
        out = quantizer.eval()(latents)
    assert float((out.latents - latents).square().mean() / latents.square().mean()) < most
    assert sum(entropy(stream) for stream in out.codes.unbind(1)) > 0.9 * quantizer.nominal_bits
