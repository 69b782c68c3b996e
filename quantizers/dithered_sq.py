"""Projected scalar quantization with subtractive dither, in training and evaluation (Brendel et al. 2024, eq. 11).

    z_hat = SQ(z + eps) - eps,    eps ~ U[-Delta / 2, Delta / 2), known to both sides

The error is uniform on [-Delta / 2, Delta / 2] and independent of z, so training and evaluation see one distribution,
that of noise_sq's training (eqs. 9-16). The gradient is straight-through. In a file eps follows from a seed, the
position and the dimension; in training it is fresh. Eqs. 12-13 hold for a quantizer that does not saturate: the levels
are Delta = 2 / (L - 1) apart, so that L cells reach as far as z + eps does, at log2 L bit.
"""

from typing import final

from torch import Tensor

from .base import Codes, Noise
from .parts.projected import ProjectionType
from .parts.scalar import UniformQuantizer


@final
class DitheredSQ(UniformQuantizer):
    """Subtractive dither throughout."""

    paper = "Brendel et al. 2024, arXiv:2405.08417, section III-B2"

    def __init__(
        self,
        channels: int,
        levels: int | list[int] = 4,
        dims: int | None = None,
        projection: ProjectionType = "linear",
        hidden: int | None = None,
    ) -> None:
        super().__init__(channels, levels, dims, projection, hidden, dithered=True)

    @property
    def noise_rows(self) -> int:
        return len(self.levels)

    def substitute(self, z: Tensor, codes: Codes, noise: Noise) -> Tensor:
        return z + (self.points(codes, noise) - z).detach()
