"""FEM: rounding with a learned step, coded under one fully factorised density (Byun et al. 2023).

    z -> / step -> round -> n, coded under p(n) = c(n + 1/2) - c(n - 1/2) -> * step -> z^

c is the network of Balle et al. 2018 (arXiv:1802.01436): 43 parameters, one density for all positions and channels. The
rate is learned: loss = weight * bits, and the weight is steered until the rounded symbols take `target_bits`.
Deviations: the learned step per channel (beyond the 43); `per_channel`, a density for each; steering by a controller
where the authors adjust blending factors during training.
"""

from typing import final

import torch
from torch import Tensor

from .parts.density import FactorizedDensity
from .parts.stepped import Analysis, Rounding, SteppedQuantizer


@final
class FEM(SteppedQuantizer):
    """Fully factorised entropy model; `per_channel` gives every channel a density of its own."""

    paper = "Byun, Shin, Sung, Beack & Park, Interspeech 2023"
    most_bits = 10.0

    def __init__(
        self,
        channels: int,
        target_bits: float | None = None,
        rate_weight: float = 1e-3,
        surrogate_rounding: Rounding = "noise",
        per_channel: bool = False,
    ) -> None:
        super().__init__(channels, channels, target_bits, rate_weight, surrogate_rounding)
        self.density = FactorizedDensity(channels if per_channel else 1)

    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return (None,) * self.channels

    def analysis(self) -> Analysis:
        return lambda scaled: scaled

    def stream_noise(self, noise: Tensor) -> Tensor:
        return noise

    def log2_mass(self, symbols: Tensor) -> Tensor:
        return self.density.streams(symbols)

    def fit_density(self, scaled: Tensor) -> None:
        self.density.fit(scaled + torch.rand_like(scaled) - 0.5)
