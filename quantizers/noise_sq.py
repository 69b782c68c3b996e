"""Projected scalar quantization trained with additive uniform noise (Brendel et al. 2024).

    training   z_hat = z + eps,    eps ~ U[-Delta / 2, Delta / 2) per dimension (eq. 7)
    test       z_hat = SQ(z); with `dithered_evaluation` SQ(z + eps) - eps, eps known to both sides (eq. 11)

The noise is not clipped: near the border z + eps leaves [-1, 1] by up to Delta / 2, where SQ(z) never goes; the hard
error stays at most Delta / 2 there too, but points inwards. With dither the test error is distributed like the training
noise (eqs. 9-16), because the quantizer does not saturate.
Deviations: eq. 6 is a mid-tread quantizer, though the text says mid-rise, and on [-1, 1] it has a level too many for an
even number; here L levels tile [-1, 1], mid-rise for even L and mid-tread for odd L. Eq. 8 should count the product of
the levels, eq. 21 is R ln(2 / Delta). R, levels and the kind of projection are not in the paper.
"""

from typing import final

from torch import Tensor

from .base import Codes, Noise
from .parts.projected import ProjectionType
from .parts.scalar import UniformQuantizer


@final
class NoiseSQ(UniformQuantizer):
    """Uniform noise in training.

    Args:
        channels: C.
        levels: L, of every dimension or one number per dimension.
        dims: R; by default one per entry of `levels`, or C.
        projection: both ways linear, or a linear map plus an MLP of one hidden layer.
        hidden: width of that layer; by default 2 max(C, R).
        dithered_evaluation: evaluate by subtractive dither instead of rounding; Delta becomes 2 / (L - 1), in training
            too. One level more keeps Delta: `noise_sq:levels=4,noise_sq:levels=5,dithered_evaluation=true`.
    """

    paper = "Brendel et al. 2024, arXiv:2405.08417, section III-A2"

    def __init__(
        self,
        channels: int,
        levels: int | list[int] = 4,
        dims: int | None = None,
        projection: ProjectionType = "linear",
        hidden: int | None = None,
        dithered_evaluation: bool = False,
    ) -> None:
        super().__init__(channels, levels, dims, projection, hidden, dithered_evaluation)

    @property
    def noise_rows(self) -> int:
        return len(self.levels) if self.training or self.dithered else 0

    def substitute(self, z: Tensor, codes: Codes, noise: Noise) -> Tensor:
        return z + noise / self.per_unit  # eq. 7
