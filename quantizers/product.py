"""Product quantization: channels are split into groups, each with a quantizer of its own (Jegou et al. 2011).

    x = [x_1; ...; x_G]  ->  code_g = encode_g(x_g)  ->  x_hat = [decode_1(code_1); ...; decode_G(code_G)]

Groups are neighbouring channels, as equal as possible; the first ones have one channel more. They are any quantizers,
not only codebooks by k-means as in the paper, and each is trained as it is alone. Losses are weighted by the groups'
sizes, so that a loss that is a mean over channels stays one.
"""

from functools import reduce
from typing import Any, final

import torch
from torch import Tensor

from .base import Bits, Codes, Latents, Nested, Noise, Scalar, Stepper, require_finite
from .nsvq import NSVQ
from .parts.composition import Composition, options_for

STAGE = Nested(NSVQ)


@final
class Product(Composition):
    """Groups of channels side by side.

    Args:
        channels: C.
        stage: what quantizes each group.
        groups: G, at most one per channel.
    """

    paper = "Jegou, Douze & Schmid 2011, doi:10.1109/TPAMI.2010.57"

    def __init__(self, channels: int, stage: Nested = STAGE, groups: int = 2) -> None:
        _require(channels, groups)
        self.sizes = _sizes(channels, groups)
        super().__init__(channels, [stage(size) for size in self.sizes])

    def encode(self, latents: Latents, noise: Noise) -> Codes:
        parts = zip(self.with_noise(noise), self._groups(latents), strict=True)
        return torch.cat([part.encode(group, part_noise) for (part, part_noise), group in parts], 1)

    def decode(self, codes: Codes, noise: Noise) -> Latents:
        return torch.cat([part.decode(streams, rows) for part, streams, rows in self.divided(codes, noise)], 1)

    def surrogate(self, latents: Latents, noise: Noise) -> tuple[Latents, Codes]:
        parts = zip(self.with_noise(noise), self._groups(latents), strict=True)
        values, codes = zip(*(part.surrogate(group, part_noise) for (part, part_noise), group in parts), strict=True)
        return torch.cat(values, 1), torch.cat(codes, 1)

    def stepper(self, noise: Noise) -> Stepper:
        if self.bypass:
            return super().stepper(noise)
        steppers = [part.stepper(part_noise) for part, part_noise in self.with_noise(noise)]

        def one(latents: Tensor, n: int) -> tuple[Tensor, Tensor]:
            done = [step(group, n) for step, group in zip(steppers, self._groups(latents), strict=True)]
            values, codes = zip(*done, strict=True)
            return torch.cat(values, 1), torch.cat(codes, 1)

        return one

    def objective(self, latents: Latents, quantized: Latents, codes: Codes) -> tuple[Scalar, Bits]:
        losses, bits = [], []
        groups = zip(self.divided(codes, latents), self._groups(latents), self._groups(quantized), strict=True)
        for (part, streams, _), group, value in groups:
            loss, cost = part.objective(group, value, streams)
            losses.append(part.channels / self.channels * loss)
            bits.append(cost)
        return reduce(torch.add, losses), reduce(torch.add, bits)

    @torch.no_grad()
    def fit(self, latents: Latents) -> None:
        """Each group from its own channels."""
        require_finite(latents)
        for part, group in zip(self.active_parts(), self._groups(latents), strict=True):
            part.fit(group)

    @torch.no_grad()
    def update(self, latents: Latents, codes: Codes, progress: float) -> None:
        """Each group from its own channels and codes."""
        for (part, streams, _), group in zip(self.divided(codes, latents), self._groups(latents), strict=True):
            part.update(group, streams, progress)

    @classmethod
    def for_rate(
        cls, channels: int, bits: float, stage: Nested = STAGE, groups: int | None = None, **fixed: Any
    ) -> dict[str, Any]:
        """Groups of one option each that spend the bits together, at least two and of at most 10 bit where that can be.

        Codebooks of uneven groups have the same size; methods that code every channel spend in proportion.
        """
        if groups is not None:
            _require(channels, groups)
        return options_for("groups", stage, bits, groups, channels, lambda count: _sizes(channels, count))

    def _groups(self, latents: Tensor) -> tuple[Tensor, ...]:
        return latents.split(self.sizes, 1)


def _require(channels: int, groups: int) -> None:
    if not 1 <= groups <= channels:
        raise ValueError(f"groups={groups} must lie between 1 and {channels}, the channels")


def _sizes(channels: int, groups: int) -> list[int]:
    return [channels // groups + (group < channels % groups) for group in range(groups)]
