"""FSQ: finite scalar quantization (Mentzer et al. 2023, arXiv:2309.15505).

    f(h) = tanh(h + tan(o / l)) l - o,    l = (L - 1) (1 - 1e-3) / 2,    o = 1/2 for even L, else 0
    q = round(f(h)) + floor(L / 2),       z_hat = round(f(h)) / floor(L / 2),    q = 0 .. L - 1

as in the listing of the paper's appendix; its codeword index is the sum of q_r times the product of the levels before
r. The shift makes h = 0 the level 0, half a level off the middle of an even number. The gradient is straight-through;
there is no auxiliary loss. Levels of one kind come from the paper's table where the rate is one of its own: 8 bit
8-6-5, 10 bit 8-5-5-5, 12 bit 7-5-5-5-5, 14 bit 8-8-8-6-5, 16 bit 8-8-8-5-5-5.
Deviations: the projections start from the data, where the middle of the levels, not h = 0, is the data's mean; every
dimension is a stream of its own for the entropy coder.
"""

from typing import Any, final

import torch
from torch import Tensor

from .base import Codes, Noise
from .parts.projected import ProjectedQuantizer, ProjectionType
from .parts.scalar import levels_for_rate, spread_levels

MARGIN = 1e-3
MOST_LEVELS = 1000  # beyond, the margin makes the outermost levels unreachable
TABLE = {
    8.0: [8, 6, 5],
    10.0: [8, 5, 5, 5],
    12.0: [7, 5, 5, 5, 5],
    14.0: [8, 8, 8, 6, 5],
    16.0: [8, 8, 8, 5, 5, 5],
}


@final
class FSQ(ProjectedQuantizer):
    """Bounded and rounded, straight-through.

    Args:
        channels: C.
        levels: L, of every dimension or one number per dimension; by default 8, 5, 5, 5.
        dims: R; by default one per entry of `levels`, or C.
        projection: both ways linear, or a linear map plus an MLP of one hidden layer.
        hidden: width of that layer; by default 2 max(C, R).
    """

    paper = "Mentzer et al. 2023, arXiv:2309.15505"
    reach: Tensor
    offset: Tensor
    shift: Tensor
    width: Tensor

    def __init__(
        self,
        channels: int,
        levels: int | list[int] | None = None,
        dims: int | None = None,
        projection: ProjectionType = "linear",
        hidden: int | None = None,
    ) -> None:
        chosen = spread_levels(channels, TABLE[10.0] if levels is None else levels, dims)
        if max(chosen, default=0) > MOST_LEVELS:
            raise ValueError(f"levels={levels} must be numbers from 2 to {MOST_LEVELS}: FSQ reaches no more")
        super().__init__(channels, chosen, projection, hidden)
        sizes = torch.tensor(self.levels)[:, None]
        floats = torch.get_default_dtype()
        self.register_buffer("reach", (sizes - 1).to(floats) * (1 - MARGIN) / 2, persistent=False)  # l
        self.register_buffer("offset", torch.where(sizes % 2 == 0, 0.5, 0.0).to(floats), persistent=False)  # o
        self.register_buffer("shift", (self.offset / self.reach).tan(), persistent=False)
        self.register_buffer("width", (sizes // 2).to(floats), persistent=False)

    @property
    def middle(self) -> Tensor:
        return -self.shift

    def bound(self, projected: Tensor) -> Tensor:
        return (projected + self.shift).tanh() * self.reach - self.offset

    def cells(self, z: Tensor, noise: Noise) -> Codes:
        return (z.round() + self.width).long()

    def points(self, codes: Codes, noise: Noise) -> Tensor:
        return (codes - self.width) / self.width

    def substitute(self, z: Tensor, codes: Codes, noise: Noise) -> Tensor:
        return (z + (codes - self.width - z).detach()) / self.width

    @classmethod
    def for_rate(cls, channels: int, bits: float, **fixed: Any) -> dict[str, Any]:
        """The paper's levels where it names some for so many bits, else R <= C dimensions that come nearest."""
        if bits in TABLE and len(TABLE[bits]) <= channels and not {"levels", "dims"} & fixed.keys():
            return {"levels": list(TABLE[bits])}
        return levels_for_rate(channels, bits, 2.0, MOST_LEVELS, **fixed)
