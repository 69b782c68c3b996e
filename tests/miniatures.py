"""Quantizers of the tests' own, of kinds that the suite does not ship or ships larger."""

from collections.abc import Callable
from functools import wraps

import torch
from codecbench.quantizers.base import Codes, Latents, Noise, Quantizer, Tables, integer_counts
from safetensors.torch import save
from torch import Tensor, nn

CHANNELS, SIDE = 8, 2
FRACTIONS = 4  # means lie on a grid of quarters
LOW, HIGH = -4, 2  # log2 of the scales, on a grid of halves
REACH = 16  # symbols on either side of the mean that have a column of their own
WEIGHT_BITS, SIDE_LIMIT = 14, 1 << 10  # weights and side information whose products float64 adds up exactly


def gaussian_bits(symbols: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Bits of integers under a normal density integrated over their unit interval."""
    normal = torch.distributions.Normal(mean, scale, validate_args=False)
    return -(normal.cdf(symbols + 0.5) - normal.cdf(symbols - 0.5)).clamp_min(1e-9).log2()


_starts: dict[tuple[object, ...], tuple[dict[str, Tensor], Tensor]] = {}  # what a start left behind, by what it saw


def remembered(start: Callable[[Quantizer, Tensor], None]) -> Callable[[Quantizer, Tensor], None]:
    """A start from data that is computed once for one state, one tensor and one state of the random generator."""

    @wraps(start)
    def once(quantizer: Quantizer, scaled: Tensor) -> None:
        known = {**quantizer.state_dict(), "scaled": scaled, "random": torch.get_rng_state()}
        key = (start, quantizer.training, save({name: value.detach().contiguous() for name, value in known.items()}))
        if key not in _starts:
            start(quantizer, scaled)
            state = {name: value.detach().clone() for name, value in quantizer.state_dict().items()}
            _starts[key] = (state, torch.get_rng_state())
        state, random = _starts[key]
        quantizer.load_state_dict(state)
        torch.set_rng_state(random)

    return once


class Hyperprior(Quantizer):
    rows: Tensor

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__(channels)
        self.analysis, self.synthesis = nn.Linear(2 * channels, SIDE), nn.Linear(SIDE, 2 * channels)
        self.side_log_scale = nn.Parameter(torch.zeros(SIDE, 1))
        offsets = torch.arange(-REACH, REACH + 1) - torch.arange(FRACTIONS)[:, None] / FRACTIONS
        scales = 2 ** torch.arange(LOW, HIGH + 0.5, 0.5, dtype=torch.float64)
        masses = 2 ** -gaussian_bits(offsets.double(), torch.zeros(()), scales[:, None, None])
        masses = torch.cat([masses, (1 - masses.sum(-1, keepdim=True)).clamp_min(0)], -1).flatten(0, 1)
        self.register_buffer("rows", integer_counts(masses))  # saved: another CPU's erf may differ in the last bit

    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return (None,) * (SIDE + self.channels)

    def encode(self, latents: Tensor, noise: Tensor) -> Tensor:
        return torch.cat([self.side(latents), latents], 1).detach().round().long()

    def decode(self, codes: Tensor, noise: Tensor) -> Tensor:
        return codes[:, SIDE:].to(self.float_type)

    def surrogate(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return latents + (latents.round() - latents).detach(), self.encode(latents, noise)

    def objective(self, latents: Tensor, quantized: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        side = self.side(latents)
        side = side + (codes[:, :SIDE] - side).detach()
        mean, log2_scale = self.synthesis(side.transpose(1, 2)).transpose(1, 2).chunk(2, 1)
        main = gaussian_bits(quantized, mean, 2 ** log2_scale.clamp(LOW, HIGH))
        static = gaussian_bits(side, torch.zeros(()), self.side_log_scale.exp())
        return latents.new_zeros(()), main.sum(1) + static.sum(1)

    def tables(self, known: Tensor) -> Tables:
        if known.shape[1] < SIDE:
            return super().tables(known)
        sums = self._exact(self.synthesis.weight) @ known[:, :SIDE].cpu().double().clamp(-SIDE_LIMIT, SIDE_LIMIT)
        mean, log2_scale = ((sums + self._exact(self.synthesis.bias)[:, None]) / (1 << WEIGHT_BITS)).chunk(2, 1)
        mean = (mean * FRACTIONS).round().long()
        scale = ((log2_scale.clamp(LOW, HIGH) - LOW) * 2).round().long()
        return Tables(self.rows.cpu(), scale * FRACTIONS + mean % FRACTIONS, mean // FRACTIONS - REACH, escape=True)

    def side(self, latents: Tensor) -> Tensor:
        return self.analysis(torch.cat([latents, latents.abs()], 1).transpose(1, 2)).transpose(1, 2)

    def _exact(self, weights: Tensor) -> Tensor:
        return (weights.detach().cpu().double() * (1 << WEIGHT_BITS)).round()


class Layers(Quantizer):
    """Coarse rounding, which decodes on its own, and fine rounding of what is left under subtractive dither."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.layers = 2

    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return (16,) * (self.channels * self.layers)

    @property
    def prefixes(self) -> tuple[int, ...]:
        return (self.channels, 2 * self.channels)

    def truncate(self, streams: int) -> None:
        super().truncate(streams)
        self.layers = streams // self.channels

    @property
    def noise_rows(self) -> int:
        return self.channels

    def random(self, batch: int, positions: int, start: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.dither_seed)
        noise = torch.rand(start + positions, self.channels, generator=generator)[start:].T - 0.5
        return noise.to(self.float_type).expand(batch, -1, -1)

    def encode(self, latents: Latents, noise: Noise) -> Codes:
        coarse = (latents.detach() * 2).round().clamp(-8, 7)
        fine = ((latents.detach() - coarse / 2) * 16 + noise).round().clamp(-8, 7)
        return torch.cat([coarse, fine][: self.layers], 1).long() + 8

    def decode(self, codes: Codes, noise: Noise) -> Latents:
        coarse, *fine = (codes - 8).to(self.float_type).split(self.channels, 1)
        return coarse / 2 + sum((layer - noise) / 16 for layer in fine)

    def surrogate(self, latents: Latents, noise: Noise) -> tuple[Latents, Codes]:
        codes = self.encode(latents, noise)
        return latents + (self.decode(codes, noise) - latents).detach(), codes
