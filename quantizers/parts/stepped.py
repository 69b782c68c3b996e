"""Rounding with a learned step under a learned density: what the methods share whose rate is that of a density.

    z -> / step -> y -> round -> n -> * step -> z^        step = exp(log_step), one per channel
    training: y + u, u ~ U(-1/2, 1/2), in place of n in decoder and likelihood
    p(n) = c(n + 1/2) - c(n - 1/2) under a cumulative density c; bits = -log2 p; loss = weight * mean bits

The density itself learns with at least a small weight of its own, so that it follows the symbols while the steered
weight is next to nothing. p has the floor that a table gives it: no count is below 1.

The step is not in the papers, whose encoder finds its scale: on latents that no network makes, nothing else would move
the rate. It starts from the data and at the target, and the rate controller widens it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ..base import (
    TABLE_BITS,
    TABLE_TOTAL,
    Bits,
    Codes,
    Latents,
    Noise,
    Quantizer,
    Scalar,
    Stepper,
    Tables,
    require_finite,
)
from .density import FactorizedDensity
from .rate import RateControl

Rounding = Literal["noise", "straight_through"]
Analysis = Callable[[Tensor], Tensor]  # y "N C" -> what is rounded, all streams "N S"

START_SYMBOLS, START_BITS = 1 << 16, 2.0  # for the first step: symbols looked at, bits per channel without a target
DENSITY_WEIGHT = 1e-4  # at least, of the bits for the density, while the steered weight is next to nothing
STEERING_POSITIONS, ENTROPY_SYMBOLS = 2048, 1 << 14  # at most so many tell the controller the coded rate
LAG = 1.5  # times the entropy of the symbols: a density that costs more has to learn before steps are widened further


class SteppedQuantizer(Quantizer, ABC):
    """Rounding with a learned step, a learned density of the integers, and a steered weight of their rate.

    The first `factorised` streams are coded under the factorised density, the others as a method says.

    Args:
        channels: C.
        target_bits: coded bits per position that training is steered to; None: the weight of the rate is constant.
        rate_weight: weight of the bits per position in the loss where there is no target.
        surrogate_rounding: what replaces rounding in training, in decoder and likelihood alike.
    """

    instead: ClassVar[dict[str, str]] = {
        "noise_rows": "the argument surrogate_rounding",
        "encode": "analysis()",
        "decode": "analysis()",
        "surrogate": "analysis()",
        "stepper": "analysis()",
        "objective": "log2_mass() or stream_noise()",
        "update": "log2_mass()",
        "fit": "fit_density()",
        "tables": "density or further_tables()",
        "fit_tables": "density",
        "coarsen": "analysis()",
    }
    rate_is_learned = True
    most_bits: float  # per channel, as far as the tables reach

    def __init__(
        self,
        channels: int,
        factorised: int,
        target_bits: float | None,
        rate_weight: float,
        surrogate_rounding: Rounding,
    ) -> None:
        super().__init__(channels)
        if surrogate_rounding not in ("noise", "straight_through"):
            raise ValueError(f"surrogate_rounding={surrogate_rounding!r} must be noise or straight_through")
        self.factorised, self.noisy = factorised, surrogate_rounding == "noise"
        self.control = RateControl(target_bits, rate_weight, direct=True)
        self.log_step = nn.Parameter(torch.zeros(channels))

    density: FactorizedDensity

    # -- what a method writes ---------------------------------------------------------------------------------------

    @abstractmethod
    def analysis(self) -> Analysis:
        """What becomes of y before it is rounded, with the present parameters."""

    @abstractmethod
    def stream_noise(self, noise: Tensor) -> Tensor:
        """Noise of the channels "B C T" -> of all streams "B S T"."""

    @abstractmethod
    def log2_mass(self, symbols: Tensor) -> Tensor:
        """log2 of the probability of every stream's symbols "B S T", real or whole."""

    @abstractmethod
    def fit_density(self, scaled: Tensor) -> None:
        """Start everything but the step from y "1 C N"."""

    def further_tables(self, known: Codes) -> Tables:
        """Entropy model of the streams after the factorised ones."""
        raise ValueError(f"{known.shape[1]} streams are known already; there are no more")

    # -- final ------------------------------------------------------------------------------------------------------

    @property
    @final
    def noise_rows(self) -> int:
        return self.channels if self.training and self.noisy else 0

    @final
    @torch.no_grad()
    def encode(self, latents: Latents, noise: Noise) -> Codes:
        return self._analysed(latents / self.log_step.exp()[:, None]).round().long()

    @final
    def decode(self, codes: Codes, noise: Noise) -> Latents:
        return codes[:, -self.channels :].to(self.float_type) * self.log_step.exp()[:, None]

    @final
    def surrogate(self, latents: Latents, noise: Noise) -> tuple[Latents, Codes]:
        codes, step = self.encode(latents, noise), self.log_step.exp()[:, None]
        if self.noisy:
            return latents + noise * step, codes
        scaled = latents / step
        return (scaled + (codes[:, -self.channels :] - scaled).detach()) * step, codes  # arXiv:1308.3432

    @final
    def stepper(self, noise: Noise) -> Stepper:
        if self.bypass:
            return super().stepper(noise)
        step, analyse = self.log_step.detach().exp(), self.analysis()
        added = (noise * step[:, None]).unbind(2) if self.training and self.noisy else None

        def one(latents: Tensor, n: int) -> tuple[Tensor, Tensor]:
            codes = analyse(latents / step).round().long()
            return (codes[:, -self.channels :] * step if added is None else latents + added[n]), codes

        return one

    @final
    def objective(self, latents: Latents, quantized: Latents, codes: Codes) -> tuple[Scalar, Bits]:
        """weight * mean bits, and the bits: in training of what stands in for rounded symbols."""
        weight = self.control.weight()
        if not self.training:
            bits = self._coded_bits(codes)
            return weight * bits.mean(), bits
        step = self.log_step.exp()[:, None]
        scaled = latents / step
        share = weight if self.control.target_bits is None else weight.clamp_min(DENSITY_WEIGHT)
        steered = scaled.detach() + weight / share * (scaled - scaled.detach())  # the value of `scaled`
        real = self._analysed(steered)
        if self.noisy:
            symbols = real + self.stream_noise(((quantized - latents) / step).detach())
        else:
            symbols = real + (codes - real).detach()
        bits = self._bits(symbols)
        mean = bits.mean()
        return share * mean + (weight - share) * mean.detach(), bits

    @final
    @torch.no_grad()
    def update(self, latents: Latents, codes: Codes, progress: float) -> None:
        """Steer by the rate of the rounded symbols."""
        if self.control.target_bits is None:
            return
        lined = codes.transpose(1, 2).reshape(-1, codes.shape[1])
        lined = lined[:: -(-len(lined) // STEERING_POSITIONS)]
        coded = self._coded_bits(lined.T[None]).mean()
        static = self.channels * _entropy(lined[: max(1, ENTROPY_SYMBOLS // self.channels), -self.channels :])
        self.control.update(coded.clamp_max(LAG * static), progress)  # a density may lag behind its symbols
        self.log_step += self.control.widening()

    @final
    @torch.no_grad()
    def fit(self, latents: Latents) -> None:
        """Start step and density from "B C T" training latents; ValueError if they are not finite."""
        require_finite(latents)
        vectors = latents.transpose(1, 2).reshape(-1, self.channels).to(self.float_type)
        vectors = vectors[torch.randperm(len(vectors))[: max(256, START_SYMBOLS // self.channels)].to(vectors.device)]
        target = self.control.target_bits
        self.log_step.copy_(_first_step(vectors, START_BITS if target is None else target / self.channels).log())
        self.fit_density((vectors / self.log_step.exp()).T[None])

    @final
    def tables(self, known: Codes) -> Tables:
        """All factorised streams in one group; before fit_tables() everything is escaped."""
        if known.shape[1] >= self.factorised:
            return self.further_tables(known)
        fitted = len(self.table_counts) > 0
        counts = self.table_counts.cpu() if fitted else torch.full((1, 1), TABLE_TOTAL)
        row = torch.arange(self.factorised) % len(counts)
        index = row[None, :, None].expand(known.shape[0], -1, known.shape[2])
        return Tables(counts, index, torch.full_like(index, int(self.table_origins) if fitted else 0), escape=True)

    @final
    def fit_tables(self, codes: Codes) -> None:
        """The density as integers; the codes only say where."""
        self.table_counts, origin = self.density.counts(codes[:, : self.factorised])
        self.table_sizes = torch.full((len(self.table_counts),), self.table_counts.shape[1])
        self.table_origins = torch.tensor([origin])

    @final
    @torch.no_grad()
    def coarsen(self, amount: float) -> None:
        self.log_step += amount

    @classmethod
    def for_rate(cls, channels: int, bits: float, **fixed: Any) -> dict[str, Any]:
        """The target of the steering."""
        most = cls.most_bits * channels
        if not 0 < bits <= most:
            raise ValueError(f"{channels} channels spend up to {most:g} bit, not {bits:g}; nearest: {most:g}")
        return {"target_bits": bits}

    def _bits(self, symbols: Tensor) -> Bits:
        floor = torch.full((), -float(TABLE_BITS), dtype=symbols.dtype, device=symbols.device)
        bits = -torch.logaddexp2(self.log2_mass(symbols), floor)  # no count of a table is below 1
        return bits.clamp_min(0).sum(1)

    @torch.no_grad()
    def _coded_bits(self, codes: Codes) -> Bits:
        return self._bits(codes.to(self.float_type))

    def _analysed(self, scaled: Tensor) -> Tensor:
        batch, channels, positions = scaled.shape
        lined = self.analysis()(scaled.transpose(1, 2).reshape(-1, channels))
        return lined.view(batch, positions, -1).transpose(1, 2)


def _first_step(vectors: Tensor, bits: float) -> Tensor:
    """The multiple of each channel's standard deviation at which rounded "N C" vectors take `bits` a channel."""
    spread = vectors.std(0, correction=0)
    usual = spread[spread > 0].mean() if (spread > 0).any() else torch.ones_like(spread[0])
    spread = torch.where(spread > 1e-6 * usual, spread, usual)
    low, high = -12.0, 4.0  # log2 of the multiple
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if _entropy((vectors / spread / 2**middle).round()) > bits else (low, middle)
    return spread * 2**low


def _entropy(symbols: Tensor) -> float:
    _, counts = symbols.unique(return_counts=True)
    shares = counts.double() / counts.sum()
    return float(-(shares * shares.log2()).sum())
