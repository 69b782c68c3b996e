"""DiVeQ: the quantization error as its length times a direction that carries no gradient (Vali et al. 2025).

    x_hat = x + |c - x| sg(d / |d|),   d = c - x + v,   v ~ N(0, variance I)

The gradient reaches latent and codeword through the length alone, as in NSVQ, whose direction is all noise; here the
noise is small, so that training sees the nearest codeword c, nearly. No auxiliary loss. The space-filling variant is
left out. Test time is plain vector quantization.
"""

from typing import final

import torch
from torch import Tensor

from .base import Latents, Noise
from .parts.vector import Initialisation, VectorQuantizer


@final
class DiVeQ(VectorQuantizer):
    """DiVeQ; `variance` is that of the noise in the direction, in units of the latents squared."""

    paper = "Vali, Backstrom & Solin 2025, arXiv:2509.26469"

    def __init__(
        self,
        channels: int,
        codebook_bits: float = 6.0,
        initialisation: Initialisation = "kmeans",
        replacement: float = 0.1,
        variance: float = 1e-3,
    ) -> None:
        super().__init__(channels, codebook_bits, initialisation, replacement)
        if variance <= 0:
            raise ValueError(f"variance={variance} must be above 0; straight-through training is ste_vq")
        self.deviation = variance**0.5

    @property
    def noise_rows(self) -> int:
        return self.channels if self.training else 0

    def random(self, batch: int, positions: int, start: int) -> Noise:
        return torch.randn(batch, self.channels, positions, dtype=self.float_type, device=self.device)

    def replace(self, latents: Latents, codewords: Latents, noise: Noise) -> Latents:
        error = codewords - latents
        direction = (error + self.deviation * noise).detach()
        return latents + _norm(error) * direction / _norm(direction).clamp_min(torch.finfo(noise.dtype).tiny)


def _norm(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=1, keepdim=True)  # its gradient at 0 is 0
