"""LFQ and BSQ: one bit per dimension, without a codebook to look up (arXiv:2310.05737; arXiv:2406.07548).

    lookup-free        z_hat = sign(z)
    binary spherical   u = z / ||z||,    z_hat = sign(u) / sqrt(R)                     (`spherical`)

The gradient is straight-through. Both add an entropy loss that makes single decisions certain and the bits balanced,
    entropy (E[H(p)] - diversity H(E[p])),    p = P(bit = 1) = sigmoid(4 z), with z = sqrt(R) u on the sphere,
and LFQ ||z - sg(z_hat)||^2 times `commitment`, which BSQ does without. sigmoid(4 z) is the softmax of -||z - c||^2.
Deviations: the entropy over the codebook is that of the bits as if independent, as BSQ proposes (an upper bound of
H(E[p]), exact for E[H(p)]); entropies in nat and commitment are means over the R bits, so that weights do not depend
on R; on the sphere the softmax's temperature grows with R, so that u = c is as certain for every R. The default weights
suit distortions around 0.01; common implementations for distortions around 1 take 0.1 and 0.25.
"""

from typing import Any, final

from torch import Tensor, nn

from .base import Bits, Codes, Latents, Noise, Scalar
from .parts.projected import ProjectedQuantizer, ProjectionType

MOST_DIMS = 1 << 12


@final
class LFQ(ProjectedQuantizer):
    """Signs of the projected latents, or of their direction.

    Args:
        channels: C.
        dims: R, bits per position; by default C.
        spherical: binary spherical quantization instead.
        projection: both ways linear, or a linear map plus an MLP of one hidden layer.
        entropy: weight of the entropy loss.
        diversity: weight of its second term, balanced bits.
        commitment: weight of the squared distance to the code; by default 0.02, on the sphere 0.
    """

    paper = "Yu et al. 2023, arXiv:2310.05737; Zhao et al. 2024, arXiv:2406.07548"

    def __init__(
        self,
        channels: int,
        dims: int | None = None,
        spherical: bool = False,
        projection: ProjectionType = "linear",
        entropy: float = 0.01,
        diversity: float = 1.0,
        commitment: float | None = None,
    ) -> None:
        bits = channels if dims is None else dims
        if not _least(spherical) <= bits <= MOST_DIMS:
            raise ValueError(f"dims={bits} must lie between {_least(spherical)} and {MOST_DIMS}")
        for name, weight in (("entropy", entropy), ("diversity", diversity), ("commitment", commitment)):
            if weight is not None and weight < 0:
                raise ValueError(f"{name}={weight} must be at least 0")
        super().__init__(channels, [2] * bits, projection)
        self.spherical, self.entropy, self.diversity = spherical, entropy, diversity
        self.commitment = (0.0 if spherical else 0.02) if commitment is None else commitment
        self.magnitude = bits**-0.5 if spherical else 1.0  # of every z_hat

    def bound(self, projected: Tensor) -> Tensor:
        return nn.functional.normalize(projected, dim=1) if self.spherical else projected

    def cells(self, z: Tensor, noise: Noise) -> Codes:
        return (z > 0).long()

    def points(self, codes: Codes, noise: Noise) -> Tensor:
        return (2 * codes - 1).to(self.float_type) * self.magnitude

    def substitute(self, z: Tensor, codes: Codes, noise: Noise) -> Tensor:
        return z + (self.points(codes, noise) - z).detach()

    def objective(self, latents: Latents, quantized: Latents, codes: Codes) -> tuple[Scalar, Bits]:
        _, bits = super().objective(latents, quantized, codes)
        z = self.project(latents)
        logits = 4 * z / self.magnitude
        single = (nn.functional.softplus(logits) - logits * logits.sigmoid()).mean()
        loss = self.entropy * (single - self.diversity * _binary_entropy(logits.sigmoid().mean((0, 2))).mean())
        distance = (z - self.points(codes, latents[:, :0])).square().mean()
        return loss + self.commitment * distance, bits

    @classmethod
    def for_rate(cls, channels: int, bits: float, **fixed: Any) -> dict[str, Any]:
        """As many dimensions as bits; whole numbers only."""
        fixed_dims = fixed.get("dims")
        dims = fixed_dims or min(max(round(bits), _least(fixed.get("spherical", False))), MOST_DIMS)
        if abs(dims - bits) > 0.05 * bits:
            raise ValueError(f"one bit per dimension cannot spend {bits:g} bit within 5 %; nearest: {dims}")
        return {} if fixed_dims else {"dims": dims}


def _least(spherical: bool) -> int:
    return 2 if spherical else 1  # a sphere of one dimension is two points: no gradient


def _binary_entropy(p: Tensor) -> Tensor:
    p = p.clamp(1e-7, 1 - 1e-7)
    return -(p * p.log() + (1 - p) * (1 - p).log())
