"""The do-nothing control: every channel's float32 bit pattern in two 16-bit streams, so 32 bit per channel.

    x -> (upper 16 bits, lower 16 bits) -> file -> x, bit by bit

It is the upper bound of every table: what the codec alone loses, with real files and no special case anywhere.
float64 latents pass through training as they are; their codes are those of the nearest float32.
"""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from .base import Codes, Latents, Noise, Quantizer, StackedStepper, Tables, integer_counts

HALF = 1 << 16


@final
class Identity(Quantizer):
    """Lossless for float32 latents, NaN and infinity included; it has no rate to choose."""

    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return (HALF,) * (2 * self.channels)

    def encode(self, latents: Latents, noise: Noise) -> Codes:
        pattern = latents.detach().float().contiguous().view(torch.int32)
        return torch.cat([(pattern >> 16) & (HALF - 1), pattern & (HALF - 1)], dim=1).long()

    def decode(self, codes: Codes, noise: Noise) -> Latents:
        upper, lower = codes.to(torch.int32).chunk(2, dim=1)
        return ((upper << 16) | lower).view(torch.float32).to(self.dtype)

    def surrogate(self, latents: Latents, noise: Noise) -> tuple[Latents, Codes]:
        return latents, self.encode(latents, noise)

    def stacked_stepper(self, parameters: Mapping[str, Tensor], noise: Noise) -> StackedStepper:
        if self.bypass:
            return super().stacked_stepper(parameters, noise)
        return lambda latents, n: latents.float().to(latents.dtype)

    def tables(self, known: Codes) -> Tables:
        """All streams at once under one uniform row."""
        batch, streams, positions = known.shape
        index = torch.zeros(batch, len(self.alphabet) - streams, positions, dtype=torch.int64)
        return Tables(integer_counts(torch.ones(1, HALF)), index, torch.zeros_like(index), escape=False)

    def fit_tables(self, codes: Codes) -> None:
        """Bit patterns do not repeat: nothing to count."""
