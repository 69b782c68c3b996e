"""Projected scalar quantization with the straight-through gradient (Brendel et al. 2024).

    training   z_hat = z + sg(SQ(z) - z)
    test       z_hat = SQ(z)

Training quantizes as evaluation does; the gradient passes as if nothing had happened (arXiv:1308.3432). Grid and
deviations are those of noise_sq: L levels tile [-1, 1].
"""

from typing import final

from torch import Tensor

from .base import Codes, Noise
from .parts.projected import ProjectionType
from .parts.scalar import UniformQuantizer


@final
class StraightThroughSQ(UniformQuantizer):
    """Rounding with the identity as its gradient."""

    paper = "Brendel et al. 2024, arXiv:2405.08417, section III-A1"

    def __init__(
        self,
        channels: int,
        levels: int | list[int] = 4,
        dims: int | None = None,
        projection: ProjectionType = "linear",
        hidden: int | None = None,
    ) -> None:
        super().__init__(channels, levels, dims, projection, hidden)

    def substitute(self, z: Tensor, codes: Codes, noise: Noise) -> Tensor:
        return z + (self.points(codes, noise) - z).detach()
