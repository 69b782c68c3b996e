"""What uniform scalar quantizers share: tanh, a grid on [-1, 1], levels for a rate, noise that both sides know.

The projections around them are those of projected.py.
"""

import math
from abc import ABC
from collections.abc import Iterator
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ..base import Codes, Noise
from .projected import MAX_LEVELS, ProjectedQuantizer, ProjectionType

MASK = (1 << 32) - 1


class UniformQuantizer(ProjectedQuantizer, ABC):
    """tanh and a uniform grid on [-1, 1] for every dimension, L levels a step Delta apart around 0.

        q = floor(z / Delta + L / 2),    z_hat = (q - (L - 1) / 2) Delta,    q = 0 .. L - 1

    Delta = 2 / L: the cells tile [-1, 1], every error is at most Delta / 2; 0 is a level where L is odd.
    With subtractive dither, Delta = 2 / (L - 1): the cells reach half a step beyond, where the noise may carry z, so
    the quantizer never saturates, and its L symbols still cost log2 L. A model trained with L levels and Delta = 2 / L
    can be evaluated with dither by the L + 1 levels of the same step.

    Args:
        channels: C.
        levels: L, of every dimension or one number per dimension.
        dims: R; by default one per entry of `levels`, or C.
        projection: both ways linear, or a linear map plus an MLP of one hidden layer.
        hidden: width of that layer; by default 2 max(C, R).
        dithered: add noise before the quantizer and subtract it after it (eq. 11).
    """

    instead: ClassVar[dict[str, str]] = {
        "bound": "the option levels",
        "cells": "the option levels",
        "points": "the option levels",
        **{name: "substitute()" for name in ("encode", "decode", "surrogate", "stepper", "fit")},
    }
    per_unit: Tensor
    offset: Tensor
    last: Tensor
    preferred_bits: float = 2.0  # per dimension, where for_rate() may choose

    def __init__(
        self,
        channels: int,
        levels: int | list[int] = 4,
        dims: int | None = None,
        projection: ProjectionType = "linear",
        hidden: int | None = None,
        dithered: bool = False,
    ) -> None:
        super().__init__(channels, spread_levels(channels, levels, dims), projection, hidden)
        self.dithered = dithered
        sizes = torch.tensor(self.levels, dtype=torch.get_default_dtype())[:, None]
        self.register_buffer("per_unit", (sizes - float(dithered)) / 2, persistent=False)  # 1 / Delta
        self.register_buffer("offset", sizes / 2, persistent=False)
        self.register_buffer("last", sizes - 1, persistent=False)

    @final
    def bound(self, projected: Tensor) -> Tensor:
        return projected.tanh()

    @final
    def cells(self, z: Tensor, noise: Noise) -> Codes:
        place = torch.addcmul(self.offset, z, self.per_unit)
        if self.dithered:
            place = place + noise
        return torch.minimum(place.floor().clamp_min(0), self.last).long()

    @final
    def points(self, codes: Codes, noise: Noise) -> Tensor:
        place = codes - self.last / 2
        if self.dithered:
            place = place - noise
        return place / self.per_unit

    def random(self, batch: int, positions: int, start: int) -> Noise:
        if self.training:
            return super().random(batch, positions, start)
        rows = torch.arange(self.noise_rows, device=self.device) + self.first_row
        noise = shared_noise(self.dither_seed, rows, start, positions)
        return noise.to(self.float_type).expand(batch, -1, -1).contiguous()

    @classmethod
    def for_rate(cls, channels: int, bits: float, **fixed: Any) -> dict[str, Any]:
        """R <= C dimensions of equal levels where these come within 1 %, else of levels that differ."""
        return levels_for_rate(channels, bits, cls.preferred_bits, **fixed)


# -- noise that encoder and decoder share -----------------------------------------------------------------------------


def shared_noise(seed: int, rows: Tensor, start: int, positions: int) -> Tensor:
    """Uniform on (-1/2, 1/2), float64 "R T": a hash of seed, row and position alone, equal on every machine.

    Multiples of 2**-24 (odd ones), exact in float32; seed and position count modulo 2**32.
    """
    places = torch.arange(start, start + positions, device=rows.device)
    word, _ = philox2x32(places.expand(len(rows), -1), rows[:, None].expand(-1, positions), seed)
    return ((word >> 9).double() + 0.5) / (1 << 23) - 0.5


def philox2x32(first: Tensor, second: Tensor, key: int) -> tuple[Tensor, Tensor]:
    """Philox-2x32-10 (Salmon et al. 2011, doi:10.1145/2063384.2063405) of int64 counters, modulo 2**32."""
    first, second = first & MASK, second & MASK
    for turn in range(10):
        word = (key + turn * 0x9E3779B9) & MASK
        low, high = first * 0xD193, first * 0xD256  # 0xD256D193 in halves: no product leaves 48 bit
        carried = high + (low >> 16)
        first, second = (carried >> 16) ^ word ^ second, ((carried & 0xFFFF) << 16) | (low & 0xFFFF)
    return first, second


# -- levels for a rate ------------------------------------------------------------------------------------------------


def spread_levels(channels: int, levels: int | list[int], dims: int | None) -> list[int]:
    """One number of levels per dimension. ValueError where `levels` and `dims` disagree."""
    if isinstance(levels, int):
        levels = [levels] * (channels if dims is None else dims)
    elif dims is not None and dims != len(levels):
        raise ValueError(f"levels={levels} are those of {len(levels)} dimensions, dims={dims}; leave one of them out")
    return list(levels)


def levels_for_rate(
    channels: int,
    bits: float,
    preferred: float,
    most: int = MAX_LEVELS,
    levels: int | list[int] | None = None,
    dims: int | None = None,
    **others: Any,
) -> dict[str, Any]:
    """Options `levels` and `dims` whose log2 adds up to `bits` within 5 %.

    Args:
        channels: the most dimensions it chooses by itself.
        bits: to spend per position.
        preferred: bits per dimension to come near.
        most: levels of a dimension.
        levels: fixed, if given; dims likewise. Other options do not matter.
        dims: R.

    Raises:
        ValueError: it cannot be met; names the nearest rate.
    """

    def cost(choice: list[int]) -> tuple[Any, ...]:
        spent = _bits(choice)
        error = abs(spent / bits - 1) if bits > 0 else math.inf
        coarse = 0 if error <= 0.01 else 1 if error <= 0.05 else 2 + error
        mean = spent / len(choice)
        distance = abs(mean - preferred)
        return coarse, distance > 0.75, len(set(choice)) > 1, distance, error

    choice = min(_choices(channels, bits, most, levels, dims), key=cost)
    if cost(choice)[0] > 1:
        raise ValueError(f"{bits:g} bit per position cannot be met within 5 %; nearest: {_bits(choice):.4g}")
    if levels is not None:
        return {} if dims is not None or isinstance(levels, list) else {"dims": len(choice)}
    equal = len(set(choice)) == 1
    return {"levels": choice[0] if equal else choice} | ({"dims": len(choice)} if equal and dims is None else {})


def _choices(
    channels: int, bits: float, most: int, levels: int | list[int] | None, dims: int | None
) -> Iterator[list[int]]:
    if isinstance(levels, list):
        yield levels
        return
    for count in range(1, channels + 1) if dims is None else (dims,):
        if levels is not None:
            yield [levels] * count
            continue
        base = max(2, math.floor(2.0 ** min(bits / count, math.log2(most))))
        gain = math.log2((base + 1) / base)
        for ends in ([], [base + 2], [base - 1], [base + 2, base - 1]):
            inner = count - len(ends)
            if inner < 0 or any(not 2 <= size <= most for size in ends):
                continue
            more = round((bits - _bits(ends) - inner * math.log2(base)) / gain)
            more = min(max(more, 0), inner) if base < most else 0
            yield sorted(ends + [base + 1] * more + [base] * (inner - more), reverse=True)


def _bits(levels: list[int]) -> float:
    return sum(map(math.log2, levels), 0.0)
