"""Vector quantizers after the five papers, against values worked by hand."""

import math
from typing import Any

import pytest
import torch
from codecbench.quantizers.diveq import DiVeQ
from codecbench.quantizers.nsvq import NSVQ
from codecbench.quantizers.parts.vq_losses import codebook_and_commitment
from codecbench.quantizers.rotation_vq import RotationVQ, rotated
from codecbench.quantizers.simvq import SimVQ
from codecbench.quantizers.ste_vq import StraightThroughVQ
from torch import Tensor


def column(*values: float) -> Tensor:
    """One position "1 C 1"."""
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1)


def with_codewords(quantizer: Any, codewords: list[list[float]]) -> Any:
    quantizer = quantizer.double().train()
    quantizer.place(torch.tensor(codewords, dtype=torch.float64))
    return quantizer


def jacobian(function: Any, at: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(function, at).reshape(at.numel(), at.numel())


# -- rotation trick ---------------------------------------------------------------------------------------------------


def test_a_right_angle_turns_and_scales_the_gradient() -> None:
    x, c = column(2.0, 0.0), column(0.0, 1.0)
    assert rotated(x, c).flatten().tolist() == pytest.approx([0.0, 1.0])
    by_hand = torch.tensor([[0.0, -0.5], [0.5, 0.0]], dtype=torch.float64)  # lambda = 1/2, R = 90 degrees
    assert torch.allclose(jacobian(lambda v: rotated(v, c), x), by_hand)


def test_the_linear_map_takes_the_latent_to_its_codeword_and_keeps_angles() -> None:
    generator = torch.Generator().manual_seed(0)
    x, c = (torch.randn(1, 5, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    assert torch.allclose(rotated(x, c), c)
    matrix = jacobian(lambda v: rotated(v, c), x) / (c.norm() / x.norm())
    assert torch.allclose(matrix @ matrix.T, torch.eye(5, dtype=torch.float64))
    assert torch.linalg.det(matrix).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("x", "c"),
    [((0.0, 0.0), (1.0, 0.0)), ((1.0, 0.0), (0.0, 0.0)), ((1.0, 0.0), (-1.0, 0.0)), ((1e-5, 0.0), (9.0, 0.0))],
    ids=["latent at 0", "codeword at 0", "opposite", "latent near 0"],
)
def test_directions_that_do_not_exist_leave_the_gradient_finite(x: tuple, c: tuple) -> None:
    matrix = jacobian(lambda v: rotated(v, column(*c)), column(*x))
    assert matrix.isfinite().all() and matrix.abs().max() <= 100.0 * 3


def test_the_forward_value_is_the_codeword() -> None:
    quantizer = with_codewords(RotationVQ(2, 1.0), [[0.0, 1.0], [-3.0, 0.0]])
    assert quantizer(column(1.0, 1.5)).latents.flatten().tolist() == pytest.approx([0.0, 1.0])


# -- SimVQ ------------------------------------------------------------------------------------------------------------


def test_the_codewords_are_the_frozen_ones_seen_through_the_layer() -> None:
    quantizer = with_codewords(SimVQ(2, 1.0), [[1.0, 0.0], [0.0, 1.0]])
    with torch.no_grad():
        quantizer.layer.copy_(torch.tensor([[2.0, 1.0], [0.0, 3.0]]))
    assert quantizer.codewords().tolist() == [[2.0, 1.0], [0.0, 3.0]]
    assert quantizer(column(0.3, 2.0)).codes.item() == 1


def test_a_codeword_that_nothing_chose_moves_too() -> None:
    quantizer = with_codewords(SimVQ(2, 1.0), [[1.0, 0.0], [3.0, 0.1]])
    before = quantizer.codewords().detach().clone()
    out = quantizer(column(0.5, 0.0))
    assert out.codes.item() == 0
    out.loss.backward()
    with torch.no_grad():
        quantizer.layer -= 0.1 * quantizer.layer.grad
    moved = (quantizer.codewords() - before).norm(dim=1)
    assert (moved > 0).all() and quantizer.codebook.grad is None


def test_fit_starts_from_the_data_with_the_identity() -> None:
    quantizer = with_codewords(SimVQ(1, 1.0), [[0.0], [0.0]])
    with torch.no_grad():
        quantizer.layer.fill_(7.0)
    quantizer.fit(torch.tensor([[[-2.0, -2.1, 5.0, 5.1] * 8]], dtype=torch.float64))
    assert quantizer.layer.item() == 1.0
    assert sorted(quantizer.codewords().flatten().tolist()) == pytest.approx([-2.05, 5.05])


# -- DiVeQ ------------------------------------------------------------------------------------------------------------


def test_without_noise_the_codeword_comes_out_and_the_gradient_runs_across_the_error() -> None:
    quantizer = with_codewords(DiVeQ(2, 1.0), [[3.0, 4.0], [-9.0, 0.0]])
    x, silence = column(0.0, 0.0), torch.zeros(1, 2, 1, dtype=torch.float64)
    assert quantizer.surrogate(x, silence)[0].flatten().tolist() == pytest.approx([3.0, 4.0])
    by_hand = torch.tensor([[0.64, -0.48], [-0.48, 0.36]], dtype=torch.float64)  # I - n n^T, n = (0.6, 0.8)
    assert torch.allclose(jacobian(lambda v: quantizer.surrogate(v, silence)[0], x), by_hand)


def test_the_codeword_learns_along_the_direction() -> None:
    quantizer = with_codewords(DiVeQ(2, 1.0), [[3.0, 4.0], [-9.0, 0.0]])
    out, _ = quantizer.surrogate(column(0.0, 0.0), torch.zeros(1, 2, 1, dtype=torch.float64))
    out[0, 0, 0].backward()
    assert quantizer.codebook.grad.tolist()[0] == pytest.approx([0.36, 0.48])  # the first row of n n^T
    assert quantizer.codebook.grad[1].eq(0).all()


def test_the_error_has_the_length_of_the_codewords_whatever_the_noise() -> None:
    quantizer = with_codewords(DiVeQ(3, 2.0, variance=10.0), torch.randn(4, 3).tolist())
    latents = torch.randn(2, 3, 50, dtype=torch.float64)
    out = quantizer(latents)
    true = (latents - quantizer.decode(out.codes, latents[:, :0])).norm(dim=1)
    assert torch.allclose((out.latents - latents).norm(dim=1), true)


def test_with_noise_alone_it_is_nsvq() -> None:
    codewords = [[3.0, 4.0], [-9.0, 0.0]]
    noisy, nsvq = with_codewords(DiVeQ(2, 1.0, variance=1e30), codewords), with_codewords(NSVQ(2, 1.0), codewords)
    noise = torch.randn(1, 2, 20, dtype=torch.float64)
    latents = torch.randn(1, 2, 20, dtype=torch.float64)
    assert torch.allclose(noisy.surrogate(latents, noise)[0], nsvq.surrogate(latents, noise)[0])


# -- the loss they share ----------------------------------------------------------------------------------------------


def test_codebook_and_commitment_by_hand() -> None:
    loss = codebook_and_commitment(column(1.0, 0.0), column(0.0, 0.0), 0.25)
    assert loss.item() == pytest.approx(0.5 + 0.25 * 0.5)


def test_it_is_that_of_straight_through() -> None:
    codewords = torch.randn(4, 3).tolist()
    latents = torch.randn(2, 3, 9, dtype=torch.float64)
    losses = [
        with_codewords(cls(3, 2.0), codewords)(latents).loss.item() for cls in (StraightThroughVQ, RotationVQ, SimVQ)
    ]
    assert losses[1:] == pytest.approx([losses[0]] * 2) and losses[0] > 0


@pytest.mark.parametrize(
    ("cls", "options", "said"),
    [(RotationVQ, {"commitment": -1.0}, "commitment"), (SimVQ, {"commitment": -1.0}, "commitment"),
     (DiVeQ, {"variance": 0.0}, "variance")],
)  # fmt: skip
def test_options_out_of_range_are_refused(cls: Any, options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cls(3, **options)


@pytest.mark.parametrize("cls", [RotationVQ, SimVQ, DiVeQ])
def test_they_find_the_clusters_of_data(cls: Any) -> None:
    centres = torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, 6.0], [0.0, -6.0]])
    data = centres[torch.arange(400) % 4] + 0.1 * torch.randn(400, 2)
    quantizer = cls(2, 2.0).train()
    quantizer.fit(data.T[None] * 1.5)  # a start that is off
    optimizer = torch.optim.Adam([p for p in quantizer.parameters() if p.requires_grad], lr=0.05)
    for _ in range(150):
        out = quantizer(data.T[None])
        loss = out.loss + (out.latents - data.T[None]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    error = (quantizer.eval()(data.T[None]).latents - data.T[None]).square().mean().item()
    assert error < 0.03 and math.isfinite(error)  # the noise's own 0.01, and a little
