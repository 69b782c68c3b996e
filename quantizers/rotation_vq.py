"""Rotation trick: the gradient passes through the rotation that turns each latent into its codeword (Fifty et al.).

    c = lambda R x,   lambda = |c| / |x|,   R = I - 2 r r^T + 2 c^ x^^T,   r = (x^ + c^) / |x^ + c^|   (eq. 4)

Forward: the nearest codeword c. Backward: lambda R, held constant, where straight-through has the identity; ^ is a unit
vector. Codebook and commitment loss are those of VQ-VAE. A latent or codeword at the origin has no direction: there the
gradient is straight-through. lambda is bounded, as a latent near the origin would blow its gradient up.
"""

from typing import final

import torch
from torch import Tensor

from .base import Latents, Noise
from .parts.vector import Initialisation
from .parts.vq_losses import CommittedQuantizer

SMALLEST = 1e-6  # norm below which a vector has no direction
LARGEST = 100.0  # lambda


@final
class RotationVQ(CommittedQuantizer):
    """VQ with the rotation trick; `commitment` is beta of VQ-VAE, `loss_weight` scales both terms of its loss."""

    paper = "Fifty et al. 2024, arXiv:2410.06424"

    def __init__(
        self,
        channels: int,
        codebook_bits: float = 6.0,
        initialisation: Initialisation = "kmeans",
        replacement: float = 0.1,
        commitment: float = 0.25,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(channels, codebook_bits, initialisation, replacement, commitment, loss_weight)

    def replace(self, latents: Latents, codewords: Latents, noise: Noise) -> Latents:
        if not torch.is_grad_enabled():
            return codewords
        turned = rotated(latents, codewords)
        return turned + (codewords - turned).detach()


def rotated(latents: Latents, codewords: Latents) -> Latents:
    """lambda R x of "B C T" latents, its gradient lambda R."""
    x, c = latents.detach(), codewords.detach()
    x_norm, c_norm = _norm(x), _norm(c)
    pointed = (x_norm > SMALLEST) & (c_norm > SMALLEST)
    x_unit, c_unit = x / x_norm.clamp_min(SMALLEST), c / c_norm.clamp_min(SMALLEST)
    between = x_unit + c_unit
    r = between / _norm(between).clamp_min(SMALLEST)
    ratio = (c_norm / x_norm.clamp_min(SMALLEST)).clamp_max(LARGEST)
    turned = latents - 2 * r * _dot(r, latents) + 2 * c_unit * _dot(x_unit, latents)
    return torch.where(pointed, ratio * turned, latents)


def _norm(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=1, keepdim=True)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(1, keepdim=True)
