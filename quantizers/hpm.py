"""HPM: rounding with a learned step, under Gaussians that coded side symbols describe (Byun et al. 2023).

    y = z / step -> conv k7 -> conv k9 /2 -> conv k9 /2 -> round -> side symbols, coded first, under the FEM's density
    side -> conv k9 x2 -> conv k9 x2 -> conv k7 -> mean, log2 scale
    n = round(y), coded under p(n | side) = N((n - mean + 1/2) / scale) - N((n - mean - 1/2) / scale)      (eq. 1)
    bits = -sum log2 p(n | side) - sum log2 p(side)

The convolutions run along the channels of one position, as they run along a frame's 256 latent samples in the paper; at
width 100 they have 184,303 parameters and the density of the side symbols 43: 0.18 M. Upsampling is transposed
convolution, between the layers is leaky ReLU, where ReLUs often die while side symbols do not pay yet: neither is
given. The paper's rate term repeats the main symbols' likelihood; the second term is that of the side symbols.

Encoder and decoder must find the same tables on any machine: what codes the main symbols is computed from the decoded
side symbols in integers that float64 carries exactly, so that no order of summation matters. Training and `bits` take
the float path, which differs by a hundredth in mean and log2 scale.
Deviations: the learned step per channel; the default width is the paper's 100 from 25 channels on, 4 per channel below:
at 5 channels width 100 makes a training step twelve times slower. With straight-through rounding side symbols are
rounded too.
"""

from typing import final

import torch
from torch import Tensor

from .base import Codes, Tables
from .parts.density import (
    FRACTIONS,
    LEAST_SCALE,
    ONE,
    PER_OCTAVE,
    SCALES,
    SPREAD,
    FactorizedDensity,
    RowConvolution,
    RowNetwork,
    descend,
    gaussian_counts,
    gaussian_log2_mass,
    some,
)
from .parts.stepped import Analysis, Rounding, SteppedQuantizer

FIT_SYMBOLS = 2048  # in fit()
MOST_WIDTH = 3640  # 9 * width products of the exact network still add up below 2**53
EXACT_SYMBOLS = 1 << 15  # at a time in tables()


@final
class HPM(SteppedQuantizer):
    """Mean-scale hyperprior with ceil(ceil(C / 2) / 2) side streams; `width` is that of its networks."""

    paper = "Byun, Shin, Sung, Beack & Park, Interspeech 2023"
    most_bits = 6.5
    gaussian_rows: Tensor

    def __init__(
        self,
        channels: int,
        target_bits: float | None = None,
        rate_weight: float = 1e-3,
        surrogate_rounding: Rounding = "noise",
        width: int | None = None,
    ) -> None:
        half = -(-channels // 2)
        side = -(-half // 2)
        super().__init__(channels, side, target_bits, rate_weight, surrogate_rounding)
        width = min(100, 4 * channels) if width is None else width
        if not 1 <= width <= MOST_WIDTH:
            raise ValueError(f"width={width} must lie between 1 and {MOST_WIDTH}")
        down = RowConvolution(1, width, 7), RowConvolution(width, width, 9, 2), RowConvolution(width, 1, 9, 2)
        up = RowConvolution(1, width, 9, 2, True), RowConvolution(width, width, 9, 2, True), RowConvolution(width, 2, 7)
        self.encoder = RowNetwork(down, (channels, channels, half, side))
        self.decoder = RowNetwork(up, (side, half, channels, channels))
        self.density = FactorizedDensity()
        self.register_buffer("gaussian_rows", gaussian_counts())  # saved: another machine's erfc may differ

    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return (None,) * (self.factorised + self.channels)

    def analysis(self) -> Analysis:
        side = self.encoder.present()
        return lambda scaled: torch.cat([side(scaled), scaled], 1)

    def stream_noise(self, noise: Tensor) -> Tensor:
        """Side noise is the sum of two channels' noise, wrapped: uniform, and independent of each
        single channel's where there are more than one."""
        pairs = torch.arange(2 * self.factorised, device=noise.device) % self.channels
        sums = noise[:, pairs[::2]] + noise[:, pairs[1::2]]
        return torch.cat([sums - sums.round(), noise], 1)

    def log2_mass(self, symbols: Tensor) -> Tensor:
        side, main = symbols[:, : self.factorised], symbols[:, self.factorised :]
        batch, _, positions = symbols.shape
        lined = self.decoder.present()(side.transpose(1, 2).reshape(-1, self.factorised))
        mean, log2_scale = lined.view(batch, positions, 2, -1).permute(2, 0, 3, 1)
        offset = main - mean
        low, high = LEAST_SCALE, LEAST_SCALE + (SCALES - 1) / PER_OCTAVE
        apart = offset.detach().abs()
        back = ((log2_scale < low) & (apart > 0.5)) | ((log2_scale > high) & (apart < 2.0**high))  # wants to come back
        within = log2_scale.clamp(low, high)
        within = torch.where(back, within.detach() + log2_scale - log2_scale.detach(), within)
        return torch.cat([self.density.streams(side), gaussian_log2_mass(offset, within.exp2())], 1)

    @torch.enable_grad()
    def fit_density(self, scaled: Tensor) -> None:
        def cost() -> Tensor:
            batch = some(scaled, max(16, FIT_SYMBOLS // self.channels))
            noise = torch.rand_like(batch) - 0.5
            return self._bits(self._analysed(batch) + self.stream_noise(noise)).mean() / self.channels

        descend(self, cost, steps=60, rate=0.01)

    def further_tables(self, known: Codes) -> Tables:
        """All main streams in one group: Gaussian rows at means and scales of the decoded side symbols."""
        side = known[:, : self.factorised].transpose(1, 2).reshape(-1, self.factorised)
        parts = [self.decoder.exact(part) for part in side.split(max(1, EXACT_SYMBOLS // self.channels))]
        sums = torch.cat(parts).view(known.shape[0], known.shape[2], 2, self.channels).permute(2, 0, 3, 1)
        mean = (sums[0] * (FRACTIONS / ONE)).round().long()
        scale = ((sums[1] / ONE - LEAST_SCALE) * PER_OCTAVE).round().clamp(0, SCALES - 1).long()
        index = scale * FRACTIONS + mean.remainder(FRACTIONS)
        shift = mean.div(FRACTIONS, rounding_mode="floor") - SPREAD
        return Tables(self.gaussian_rows.long().cpu(), index, shift, escape=True)
