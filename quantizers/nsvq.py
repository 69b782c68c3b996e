"""NSVQ: noise substitution in vector quantization (Vali and Backstrom, IEEE Access 2022).

Training replaces the quantization error by noise of exactly its weighted norm (eq. 9):

    x_hat' = x + ||w * (x - c)|| / ||v|| * v / w,    v ~ N(0, I)

The gradient reaches the chosen codeword c and the input x through the norm, so no auxiliary loss is needed. Test time
is plain vector quantization. The codeword is the nearest under the weighted distance (eq. 7). Idle codewords are
replaced (III-C); with mean squared error on plain vectors this is the only way in which the method differs from
straight-through training of the codebook. The noise as it is before its norm is divided out (eq. 8) is an option:

    x_hat' = x + sigma * v / w,    sigma^2 = ||w * (x - c)||^2 / N,    N = C

Its squared norm equals the error's in the mean only. Not to be confused with the "non-stationary VQ" of 2026.
Deviation: the replacement schedule is a function of the training's progress alone, not tuned per application.
"""

import math
from typing import final

import torch
from torch import Tensor

from .base import Latents, Noise
from .parts.vector import Initialisation, VectorQuantizer

TINY = 1e-12  # normal noise of one or two channels is exactly 0 once in some 10 million draws


@final
class NSVQ(VectorQuantizer):
    """Noise substitution; `weights` are w, one per channel (default: all 1); `normalise_noise=False` is eq. 8.

    Raises:
        ValueError: the weights do not fit.
    """

    paper = "Vali & Backstrom 2022, doi:10.1109/ACCESS.2022.3147670"

    def __init__(
        self,
        channels: int,
        codebook_bits: float = 6.0,
        initialisation: Initialisation = "kmeans",
        replacement: float = 0.1,
        weights: list[float] | None = None,
        normalise_noise: bool = True,
    ) -> None:
        super().__init__(channels, codebook_bits, initialisation, replacement)
        if weights is not None:
            if len(weights) != channels or min(weights) <= 0:
                raise ValueError(f"weights={weights} must be {channels} positive numbers, one per channel")
            self.metric.copy_(torch.tensor(weights))
        self.normalise_noise = normalise_noise

    @property
    def noise_rows(self) -> int:
        return self.channels if self.training else 0

    def random(self, batch: int, positions: int, start: int) -> Noise:
        return torch.randn(batch, self.channels, positions, dtype=self.float_type, device=self.device)

    def replace(self, latents: Latents, codewords: Latents, noise: Noise) -> Latents:
        error = latents - codewords
        if torch.is_grad_enabled():
            return latents + _norm(self.metric[:, None] * error) * noise
        length = error.mul_(self.metric[:, None]).square_().sum(1, keepdim=True).sqrt_()  # the same, in place
        return torch.addcmul(latents, length, noise)

    def prepare(self, noise: Noise) -> Noise:
        """v / w, its weighted norm 1: exactly (eq. 9), or in the mean square (eq. 8)."""
        length = _norm(noise).clamp_min(TINY) if self.normalise_noise else math.sqrt(self.channels)
        return noise / length / self.metric[:, None]


def _norm(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=1, keepdim=True)  # its gradient at 0 is 0
